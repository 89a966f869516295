"""The journal of executions: one row an approval, written before and after every effect.

A step, the approval's state and the audit entry are committed together. A process that dies between two steps finds
in the row what it was about to do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from errors import Refused, Stale
from incidents.approvals import ApprovalStore, move
from incidents.audit import AuditLog
from incidents.database import Database
from incidents.models import Fact
from incidents.plan import Approval, ApprovalState, Execution
from incidents.tables import ApprovalRow, ExecutionRow

_HOUR = timedelta(hours=1)


class Journal:
    """`on_step` is called with each step's name after its commit; tests kill the process there."""

    def __init__(
        self,
        database: Database,
        approvals: ApprovalStore,
        *,
        now: Callable[[], datetime],
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        self._db = database
        self._approvals = approvals
        self._audit = AuditLog(database, now=now)
        self._now = now
        self._on_step = on_step

    async def read(self, approval_id: str) -> Execution | None:
        async with self._db.read() as session:
            row = await session.get(ExecutionRow, approval_id)
        return _execution(row) if row else None

    async def claim(self, approval: Approval, *, max_per_hour: int) -> None:
        """Use up the approval: once, by one compare-and-set on state and nonce, before anything is written.

        Raises Stale when it is not approved (any more) or its time is over, Refused when too much was executed within
        the hour or another action on the target is not over.
        """
        now = self._now()
        take = (
            update(ApprovalRow)
            .where(
                ApprovalRow.id == approval.id,
                ApprovalRow.nonce == approval.nonce,
                ApprovalRow.digest == approval.digest,
                ApprovalRow.state == ApprovalState.APPROVED.value,
                ApprovalRow.expires_at > now,
            )
            .values(state=ApprovalState.CLAIMED.value, claimed_at=now)
        )
        async with self._db.write() as session:
            recent = await session.scalar(
                select(func.count()).select_from(ExecutionRow).where(ExecutionRow.started_at > now - _HOUR)
            )
            if (recent or 0) >= max_per_hour:
                raise Refused(f"{recent} actions were executed within the hour: the limit is {max_per_hour}")
            if await self._approvals.busy(session, approval.id):
                raise Refused("another action on the same target is not over yet")
            if cast("CursorResult[Any]", await session.execute(take)).rowcount != 1:
                raise Stale("the approval is used up, or its time is over")
            session.add(
                ExecutionRow(
                    approval_id=approval.id,
                    step="claimed",
                    post_generation=None,
                    detail={},
                    started_at=now,
                    updated_at=now,
                )
            )
            await self._note(session, approval, "claimed", {})
        self._stepped("claimed")

    async def record(
        self,
        approval: Approval,
        step: str,
        *,
        state: ApprovalState,
        expected: Collection[ApprovalState],
        outcome: str | None = None,
        post_generation: int | None = None,
        audit: dict[str, Any] | None = None,
        detail: Mapping[str, Fact] | None = None,
    ) -> None:
        """Write one step. `detail` is added to what the row knows; `audit` goes to the audit log as well.

        Raises Conflict when the approval is in none of the `expected` states: another process moved it.
        """
        async with self._db.write() as session:
            await move(session, approval.id, state, expected=expected, outcome=outcome)
            row = await session.get_one(ExecutionRow, approval.id)
            row.step = step
            row.updated_at = self._now()
            row.detail = {**row.detail, **(detail or {})}
            if post_generation is not None:
                row.post_generation = post_generation
            data = {"digest": approval.digest, "state": state.value} | (audit or {})
            data |= {"outcome": outcome} if outcome else {}
            data |= {"post_generation": post_generation} if post_generation is not None else {}
            await self._note(session, approval, step, data)
        self._stepped(step)

    async def _note(self, session: AsyncSession, approval: Approval, step: str, data: dict[str, Any]) -> None:
        await self._audit.append_in(
            session,
            "gate",
            f"execution.{step}",
            incident_id=approval.incident_id,
            approval_id=approval.id,
            data=data,
        )

    def _stepped(self, step: str) -> None:
        if self._on_step:
            self._on_step(step)


def _execution(row: ExecutionRow) -> Execution:
    return Execution(
        approval_id=row.approval_id,
        step=row.step,
        post_generation=row.post_generation,
        detail=row.detail,
        started_at=row.started_at,
        updated_at=row.updated_at,
    )
