"""Approvals: the database row is the only truth about a decision.

States: pending → approved | rejected | expired | superseded; approved → claimed → executing → verifying →
done | undone | failed, or stale when the executor's last look refused it. Every change of state is one conditional
UPDATE inside one transaction that also appends to the audit log.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from pydantic import ValidationError
from sqlalchemy import CursorResult, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from errors import Conflict, NotFound, Refused
from incidents.audit import AuditLog
from incidents.database import Database, utcnow
from incidents.models import new_id
from incidents.plan import Approval, ApprovalState, Plan, Vote
from incidents.tables import ApprovalRow, VoteRow

IN_PROGRESS = (ApprovalState.CLAIMED, ApprovalState.EXECUTING, ApprovalState.VERIFYING)


class ApprovalStore:
    def __init__(self, database: Database, *, now: Callable[[], datetime] = utcnow) -> None:
        self._db = database
        self._now = now
        self._audit = AuditLog(database, now=now)

    async def get(self, approval_id: str) -> Approval:
        """Raises NotFound."""
        async with self._db.read() as session:
            return await load(session, approval_id)

    async def list(
        self, state: ApprovalState | None = None, incident_id: str | None = None, limit: int = 100
    ) -> list[Approval]:
        """Newest first."""
        query = select(ApprovalRow).order_by(ApprovalRow.issued_at.desc(), ApprovalRow.id).limit(limit)
        if state is not None:
            query = query.where(ApprovalRow.state == state.value)
        if incident_id is not None:
            query = query.where(ApprovalRow.incident_id == incident_id)
        async with self._db.read() as session:
            rows = (await session.scalars(query)).all()
            votes = await _votes(session, [row.id for row in rows])
        return [approval_of(row, votes[row.id]) for row in rows]

    async def request(self, plan: Plan, *, target_key: str, seconds: float) -> Approval:
        """Ask for approval of exactly this plan, valid for `seconds`.

        The same plan of the same incident is asked for once. A new plan supersedes pending ones on its target.
        """
        digest, now = plan.digest(), self._now()
        async with self._db.write() as session:
            known = await session.scalar(
                select(ApprovalRow).where(ApprovalRow.incident_id == plan.incident_id, ApprovalRow.digest == digest)
            )
            if known is not None:
                return approval_of(known, await votes_of(session, known.id))
            older = await session.scalars(
                select(ApprovalRow).where(
                    ApprovalRow.target_key == target_key, ApprovalRow.state == ApprovalState.PENDING.value
                )
            )
            for row in older.all():
                row.state = ApprovalState.SUPERSEDED.value
                row.outcome = "a newer plan about the same object was made"
                await self._note(session, row, "approval.superseded", {"by": plan.id})
            row = ApprovalRow(
                id=new_id("apr"),
                incident_id=plan.incident_id,
                target_key=target_key,
                digest=digest,
                state=ApprovalState.PENDING.value,
                requested_by=plan.requested_by,
                quorum=plan.quorum,
                issued_at=now,
                expires_at=now + timedelta(seconds=seconds),
                nonce=new_id("nonce"),
                claimed_at=None,
                channel_message_id=None,
                outcome=None,
                plan=plan.model_dump(mode="json"),
            )
            session.add(row)
            await self._note(
                session, row, "approval.requested", {"digest": digest, "title": plan.title}, actor=plan.requested_by
            )
            return approval_of(row, [])

    async def set_channel_message(self, approval_id: str, message_id: str) -> None:
        """Remember the chat message that carries the card, so that it can be updated to the outcome."""
        async with self._db.write() as session:
            await session.execute(
                update(ApprovalRow).where(ApprovalRow.id == approval_id).values(channel_message_id=message_id)
            )

    async def settle(
        self,
        approval_id: str,
        state: ApprovalState,
        *,
        outcome: str,
        expected: Collection[ApprovalState],
        data: dict[str, Any] | None = None,
    ) -> Approval:
        """End (or move) an approval that is in one of the `expected` states. Raises Conflict when it is not."""
        async with self._db.write() as session:
            await move(session, approval_id, state, expected=expected, outcome=outcome)
            row = await session.get_one(ApprovalRow, approval_id)
            await self._note(session, row, f"approval.{state.value}", {"outcome": outcome} | (data or {}))
            return approval_of(row, await votes_of(session, approval_id))

    async def expire_due(self) -> Sequence[Approval]:
        """End what nobody decided, or nobody executed, in time; return it."""
        now = self._now()
        waiting = [ApprovalState.PENDING.value, ApprovalState.APPROVED.value]
        async with self._db.write() as session:
            query = select(ApprovalRow).where(ApprovalRow.state.in_(waiting), ApprovalRow.expires_at <= now)
            rows = (await session.scalars(query)).all()
            for row in rows:
                await expire(session, self._audit, row)
            return [approval_of(row, await votes_of(session, row.id)) for row in rows]

    async def busy(self, session: AsyncSession, approval_id: str) -> bool:
        """Whether another approval on the same target is between claim and end."""
        row = await session.get_one(ApprovalRow, approval_id)
        query = select(ApprovalRow.id).where(
            ApprovalRow.target_key == row.target_key,
            ApprovalRow.id != approval_id,
            ApprovalRow.state.in_([state.value for state in IN_PROGRESS]),
        )
        return await session.scalar(query.limit(1)) is not None

    async def target_key(self, approval_id: str) -> str:
        async with self._db.read() as session:
            row = await session.get(ApprovalRow, approval_id)
        if row is None:
            raise NotFound(f"no approval {approval_id!r}")
        return row.target_key

    async def _note(
        self, session: AsyncSession, row: ApprovalRow, action: str, data: dict[str, Any], *, actor: str = "gate"
    ) -> None:
        await self._audit.append_in(session, actor, action, incident_id=row.incident_id, approval_id=row.id, data=data)


async def load(session: AsyncSession, approval_id: str) -> Approval:
    """Read one approval inside a transaction. Raises NotFound."""
    row = await session.get(ApprovalRow, approval_id)
    if row is None:
        raise NotFound(f"no approval {approval_id!r}")
    return approval_of(row, await votes_of(session, approval_id))


async def votes_of(session: AsyncSession, approval_id: str) -> Sequence[VoteRow]:
    return (await _votes(session, [approval_id]))[approval_id]


async def _votes(session: AsyncSession, approval_ids: list[str]) -> defaultdict[str, list[VoteRow]]:
    """The votes of each approval, in the order they were given."""
    found: defaultdict[str, list[VoteRow]] = defaultdict(list)
    query = select(VoteRow).where(VoteRow.approval_id.in_(approval_ids)).order_by(VoteRow.at, VoteRow.identity)
    for vote in await session.scalars(query) if approval_ids else ():
        found[vote.approval_id].append(vote)
    return found


async def move(
    session: AsyncSession,
    approval_id: str,
    state: ApprovalState,
    *,
    expected: Collection[ApprovalState],
    outcome: str | None = None,
) -> None:
    """Compare-and-set of the state. Raises Conflict when the row is in none of the `expected` states."""
    values: dict[str, Any] = {"state": state.value} | ({"outcome": outcome} if outcome is not None else {})
    change = (
        update(ApprovalRow)
        .where(ApprovalRow.id == approval_id, ApprovalRow.state.in_([item.value for item in expected]))
        .values(**values)
    )
    if cast("CursorResult[Any]", await session.execute(change)).rowcount != 1:
        wanted = " or ".join(sorted(item.value for item in expected))
        raise Conflict(f"approval {approval_id} is not {wanted} any more")


async def expire(session: AsyncSession, audit: AuditLog, row: ApprovalRow) -> None:
    """End one waiting approval whose time is over."""
    approved = row.state == ApprovalState.APPROVED.value
    row.state = ApprovalState.EXPIRED.value
    row.outcome = "it was approved but not begun in time" if approved else "nobody decided in time"
    await audit.append_in(session, "gate", "approval.expired", incident_id=row.incident_id, approval_id=row.id, data={})


def approval_of(row: ApprovalRow, votes: Sequence[VoteRow]) -> Approval:
    """The row as the vocabulary has it. Raises Refused when its plan cannot be read: somebody changed it."""
    try:
        plan = Plan.model_validate(row.plan)
    except ValidationError:
        raise Refused(f"the stored plan of approval {row.id} was changed") from None
    return Approval(
        id=row.id,
        incident_id=row.incident_id,
        plan=plan,
        digest=row.digest,
        state=ApprovalState(row.state),
        requested_by=row.requested_by,
        quorum=row.quorum,
        votes=[
            Vote(
                identity=vote.identity,
                verdict="approve" if vote.verdict == "approve" else "reject",
                digest=vote.digest,
                waive_evidence=vote.waive_evidence,
                channel=vote.channel,
                reason=vote.reason,
                at=vote.at,
            )
            for vote in votes
        ],
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        nonce=row.nonce,
        channel_message_id=row.channel_message_id,
        outcome=row.outcome,
    )
