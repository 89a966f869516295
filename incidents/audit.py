"""The audit log: append-only rows, each holding the hash of the one before it.

`hash` = sha256 of the canonical JSON of the row without its own hash. Changing, removing or inserting a row breaks
the chain from there on; cutting rows off the end does not, so keep the newest hash somewhere else to notice that.
Two writers at once: the primary key lets one in, the other's whole transaction fails, and so does what it recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from errors import ParamedicError
from incidents.database import Database, utcnow
from incidents.models import Frozen
from incidents.plan import canonical_json
from incidents.tables import AuditRow

GENESIS = "0" * 64
"""`prev_hash` of the first row."""

_ACTOR_CHARS = 253
_ID_CHARS = 64


class AuditBroken(ParamedicError):
    """The audit log was changed after it was written."""

    title = "The audit log does not verify"


class AuditEntry(Frozen):
    seq: int
    at: datetime
    actor: str
    action: str
    incident_id: str | None
    approval_id: str | None
    data: dict[str, Any]
    prev_hash: str
    hash: str


class AuditLog:
    def __init__(self, database: Database, *, now: Callable[[], datetime] = utcnow) -> None:
        self._db = database
        self._now = now

    async def append(
        self,
        actor: str,
        action: str,
        *,
        incident_id: str | None = None,
        approval_id: str | None = None,
        data: dict[str, Any] | None = None,
    ) -> AuditEntry:
        """Append in a transaction of its own. `data` must be JSON and free of secrets."""
        async with self._db.write() as session:
            return await self.append_in(
                session, actor, action, incident_id=incident_id, approval_id=approval_id, data=data
            )

    async def append_in(
        self,
        session: AsyncSession,
        actor: str,
        action: str,
        *,
        incident_id: str | None = None,
        approval_id: str | None = None,
        data: dict[str, Any] | None = None,
    ) -> AuditEntry:
        """Append in the caller's write transaction: what happened and its entry are committed together."""
        last = await session.scalar(select(AuditRow).order_by(AuditRow.seq.desc()).limit(1))
        row = AuditRow(
            seq=last.seq + 1 if last else 1,
            at=self._now().astimezone(UTC),
            actor=actor[:_ACTOR_CHARS],
            action=action,
            incident_id=incident_id[:_ID_CHARS] if incident_id else None,
            approval_id=approval_id[:_ID_CHARS] if approval_id else None,
            data=data or {},
            prev_hash=last.hash if last else GENESIS,
        )
        row.hash = _hash(row)
        session.add(row)
        await session.flush()
        return _entry(row)

    async def entries(
        self, *, incident_id: str | None = None, approval_id: str | None = None, limit: int = 1000
    ) -> list[AuditEntry]:
        """Oldest first."""
        query = select(AuditRow).order_by(AuditRow.seq).limit(limit)
        if incident_id is not None:
            query = query.where(AuditRow.incident_id == incident_id)
        if approval_id is not None:
            query = query.where(AuditRow.approval_id == approval_id)
        async with self._db.read() as session:
            return [_entry(row) for row in (await session.scalars(query)).all()]

    async def verify_chain(self) -> int:
        """The number of entries, all of them intact. Raises AuditBroken naming the first that is not."""
        previous, count = GENESIS, 0
        async with self._db.read() as session:
            async for row in await session.stream_scalars(select(AuditRow).order_by(AuditRow.seq)):
                count += 1
                if row.seq != count or row.prev_hash != previous or row.hash != _hash(row):
                    raise AuditBroken(f"audit entry {row.seq} does not follow from entry {count - 1}")
                previous = row.hash
        return count


def _hash(row: AuditRow) -> str:
    content = {
        "seq": row.seq,
        "at": row.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": row.actor,
        "action": row.action,
        "incident_id": row.incident_id,
        "approval_id": row.approval_id,
        "data": row.data,
        "prev_hash": row.prev_hash,
    }
    return hashlib.sha256(canonical_json(content)).hexdigest()


def _entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        seq=row.seq,
        at=row.at,
        actor=row.actor,
        action=row.action,
        incident_id=row.incident_id,
        approval_id=row.approval_id,
        data=row.data,
        prev_hash=row.prev_hash,
        hash=row.hash,
    )
