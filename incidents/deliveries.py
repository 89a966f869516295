"""The outbox: messages to channels, one row each, sent at least once and normally exactly once.

A sender leases a row by moving its next attempt into the future under the row's lock. If it dies, the row is due again
when the lease ends; if two processes race for a row, one of them gets it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from incidents.database import Database, utcnow
from incidents.models import new_id
from incidents.tables import ApprovalRow, DeliveryRow

MAX_ATTEMPTS = 12
"""With the back-off below the last attempt is about 1.5 hours after the first."""
LEASE = timedelta(seconds=60)
FIRST_DELAY = 2.0
LONGEST_DELAY = 900.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Delivery:
    """One leased message. `attempts` counts this one; `id` is stable over retries (vendors de-duplicate by it)."""

    id: str
    dedupe_key: str
    incident_id: str | None
    channel: str
    kind: str
    payload: dict[str, Any]
    attempts: int


@dataclass(frozen=True)
class Receipt:
    """Where an earlier message stands: queued, sent, dead or superseded."""

    state: str
    message_id: str | None


@dataclass(frozen=True)
class Dead:
    """One message that was given up, and why."""

    id: str
    created_at: datetime
    channel: str
    kind: str
    incident_id: str | None
    attempts: int
    error: str


class Deliveries:
    """Every method is one transaction. `jitter` returns numbers in [0, 1)."""

    def __init__(
        self,
        database: Database,
        *,
        now: Callable[[], datetime] = utcnow,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._db = database
        self._now = now
        self._jitter = jitter

    async def enqueue(
        self,
        dedupe_key: str,
        *,
        incident_id: str | None,
        channel: str,
        kind: str,
        payload: dict[str, Any],
        supersedes: str | None = None,
    ) -> bool:
        """Add a message; False when one with this key was added before, ever.

        Queued messages whose key begins with `supersedes` are dropped: a newer state has replaced what they say.
        """
        now = self._now()
        row = DeliveryRow(
            id=new_id("dlv"),
            dedupe_key=dedupe_key,
            incident_id=incident_id,
            channel=channel,
            kind=kind,
            payload=payload,
            state="queued",
            attempts=0,
            next_attempt_at=now,
            created_at=now,
        )
        try:
            async with self._db.write() as session:
                query = select(DeliveryRow.id).where(DeliveryRow.dedupe_key == dedupe_key)
                if await session.scalar(query) is not None:
                    return False
                if supersedes is not None:
                    older = DeliveryRow.dedupe_key.startswith(supersedes, autoescape=True)
                    await session.execute(
                        update(DeliveryRow).where(older, DeliveryRow.state == "queued").values(state="superseded")
                    )
                session.add(row)
        except IntegrityError:  # another process was quicker
            return False
        return True

    async def claim(self) -> Delivery | None:
        """Lease the message that is due longest, for `LEASE`."""
        now = self._now()
        due = (
            select(DeliveryRow)
            .where(DeliveryRow.state == "queued", DeliveryRow.next_attempt_at <= now)
            .order_by(DeliveryRow.next_attempt_at, DeliveryRow.created_at)
            .limit(1)
        )
        async with self._db.read() as session:  # most looks find nothing and should not take the write lock
            if await session.scalar(due) is None:
                return None
        async with self._db.write() as session:
            row = await session.scalar(due.with_for_update(skip_locked=True))
            if row is None:
                return None
            row.attempts += 1
            row.next_attempt_at = now + LEASE
            return Delivery(
                id=row.id,
                dedupe_key=row.dedupe_key,
                incident_id=row.incident_id,
                channel=row.channel,
                kind=row.kind,
                payload=row.payload,
                attempts=row.attempts,
            )

    async def sent(self, delivery: Delivery, message_id: str | None = None) -> None:
        """The channel has it. A request's message id is also noted on its approval."""
        approval_id = delivery.payload.get("approval_id")
        async with self._db.write() as session:
            await session.execute(
                update(DeliveryRow)
                .where(DeliveryRow.id == delivery.id)
                .values(state="sent", message_id=message_id, last_error=None)
            )
            if delivery.kind == "request" and approval_id and message_id:
                await session.execute(
                    update(ApprovalRow).where(ApprovalRow.id == approval_id).values(channel_message_id=message_id)
                )

    async def failed(
        self, delivery: Delivery, error: str, *, retryable: bool, retry_after: float | None = None
    ) -> None:
        """Plan another attempt with exponential back-off and jitter, or give up (and say so in the log)."""
        dead = not retryable or delivery.attempts >= MAX_ATTEMPTS
        delay = min(FIRST_DELAY * 2.0 ** (delivery.attempts - 1), LONGEST_DELAY) * (0.5 + self._jitter() / 2)
        delay = max(delay, retry_after or 0.0)
        changes: dict[str, Any] = {"last_error": error[:1000]}
        changes |= {"state": "dead"} if dead else {"next_attempt_at": self._now() + timedelta(seconds=delay)}
        await self._settle(delivery, changes)
        if dead:
            log.error(
                "message not delivered",
                channel=delivery.channel,
                kind=delivery.kind,
                incident_id=delivery.incident_id,
                attempts=delivery.attempts,
                error=error,
            )

    async def defer(self, delivery: Delivery, seconds: float) -> None:
        """Give the lease back: the message waits for another one. This does not count as an attempt."""
        later = self._now() + timedelta(seconds=seconds)
        await self._settle(delivery, {"attempts": delivery.attempts - 1, "next_attempt_at": later})

    async def receipt(self, dedupe_key: str) -> Receipt | None:
        """What became of the message with this key; None when there is none."""
        query = select(DeliveryRow.state, DeliveryRow.message_id).where(DeliveryRow.dedupe_key == dedupe_key)
        async with self._db.read() as session:
            row = (await session.execute(query)).one_or_none()
        return Receipt(row[0], row[1]) if row else None

    async def dead(self, limit: int = 1000) -> list[Dead]:
        """What was given up, newest first."""
        query = select(DeliveryRow).where(DeliveryRow.state == "dead").order_by(DeliveryRow.created_at.desc())
        async with self._db.read() as session:
            rows = await session.scalars(query.limit(limit))
            return [
                Dead(row.id, row.created_at, row.channel, row.kind, row.incident_id, row.attempts, row.last_error or "")
                for row in rows
            ]

    async def again(self, id: str | None = None) -> int:
        """Queue what was given up anew, all of it or one; how many those were."""
        chosen = [DeliveryRow.state == "dead", *([DeliveryRow.id == id] if id is not None else [])]
        values = {"state": "queued", "attempts": 0, "next_attempt_at": self._now()}
        async with self._db.write() as session:
            ids = (await session.scalars(select(DeliveryRow.id).where(*chosen))).all()
            await session.execute(update(DeliveryRow).where(*chosen).values(**values))
        return len(ids)

    async def told(self, incident_id: str, channel: str) -> bool:
        """Whether the channel was told anything of the incident, or is about to be."""
        query = select(DeliveryRow.id).where(DeliveryRow.incident_id == incident_id, DeliveryRow.channel == channel)
        async with self._db.read() as session:
            return await session.scalar(query.limit(1)) is not None

    async def _settle(self, delivery: Delivery, changes: dict[str, Any]) -> None:
        """Change a row only while the lease is still ours."""
        ours = (DeliveryRow.id == delivery.id, DeliveryRow.state == "queued", DeliveryRow.attempts == delivery.attempts)
        async with self._db.write() as session:
            await session.execute(update(DeliveryRow).where(*ours).values(**changes))
