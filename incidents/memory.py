"""Memory of past incidents: what each was about, what was done, and whether it held.

One row is learned of each incident that ended with a cause, when somebody next asks: so nothing has to happen at the
end of an incident, a killed process loses nothing, and incidents of an older database are learned too. What was done
stays where it is true: in the approvals, their votes and the journal of executions. Of one cause on one object the
newest `KEPT_OF_ONE` rows are kept (those with an action before those without), of all the newest `KEPT`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from errors import Refused
from incidents.approvals import approval_of, votes_of
from incidents.database import Database
from incidents.models import CauseClass, IncidentStatus, ObjectRef
from incidents.plan import Approval, ApprovalState
from incidents.tables import ApprovalRow, CrashSightingRow, ExecutionRow, IncidentRow, LessonRow, StepRow

KEPT = 50_000
KEPT_OF_ONE = 50
LEARNED_AT_ONCE = 400
"""Incidents that one look learns at most, those of its own namespace first."""
_A_TRANSACTION = 50
_TEXT = 253
_ACTED = (ApprovalState.DONE, ApprovalState.UNDONE, ApprovalState.FAILED, ApprovalState.REJECTED)
_RECOGNISABLE = {item.value for item in CauseClass if item is not CauseClass.UNKNOWN}
_ENDED = [status.value for status in IncidentStatus if status.ended]


@dataclass(frozen=True)
class Attempt:
    """One plan of a past incident that was executed or declined. `at`: when that was over."""

    approval: Approval
    at: datetime


@dataclass(frozen=True)
class PastIncident:
    """`object` has its container. `again_at`: when the same was next seen on the same object, as far as is known."""

    incident_id: str
    began_at: datetime
    ended_at: datetime
    status: IncidentStatus
    cause_class: CauseClass
    object: ObjectRef
    group_id: str | None = None
    image: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    again_at: datetime | None = None


class Memory:
    """Queries over what was learned. Each is bounded, and served by an index."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def learn(self, namespace: str | None = None) -> int:
        """Take in incidents that ended since the last look; how many. Those of `namespace` come first."""
        query = (
            select(IncidentRow.id)
            .where(IncidentRow.learned.is_(False), IncidentRow.status.in_(_ENDED))
            .order_by((func.coalesce(IncidentRow.namespace, "") == (namespace or "")).desc(), IncidentRow.id)
            .limit(LEARNED_AT_ONCE)
        )
        async with self._db.read() as session:
            waiting = list((await session.scalars(query)).all())
        for start in range(0, len(waiting), _A_TRANSACTION):
            async with self._db.write() as session:
                await _learn(session, waiting[start : start + _A_TRANSACTION])
        return len(waiting)

    async def of_object(
        self, owner: ObjectRef, classes: Collection[CauseClass], *, but: str, limit: int = 20
    ) -> list[PastIncident]:
        """Ended incidents of these causes on this object (whatever its container), with actions first, then newest."""
        mine = [*_on(owner), LessonRow.cause_class.in_([item.value for item in classes]), LessonRow.incident_id != but]
        return await self._found(mine, limit)

    async def of_crash(self, group_id: str, *, but: str, limit: int = 20) -> list[PastIncident]:
        """Ended incidents about a crash of this group, wherever it was."""
        return await self._found([LessonRow.group_id == group_id, LessonRow.incident_id != but], limit)

    async def count(self, owner: ObjectRef, classes: Collection[CauseClass], *, but: str) -> int:
        """How many ended incidents of these causes on this object are kept."""
        query = select(func.count()).where(
            *_on(owner), LessonRow.cause_class.in_([item.value for item in classes]), LessonRow.incident_id != but
        )
        async with self._db.read() as session:
            return await session.scalar(query) or 0

    async def named(self, incident_ids: Collection[str]) -> list[PastIncident]:
        """Those of the given incidents that are kept."""
        return await self._found([LessonRow.incident_id.in_(list(incident_ids))], len(incident_ids))

    async def _found(self, where: Iterable[ColumnElement[bool]], limit: int) -> list[PastIncident]:
        newest = (LessonRow.acted.desc(), LessonRow.began_at.desc(), LessonRow.incident_id)
        async with self._db.read() as session:
            rows = (await session.scalars(select(LessonRow).where(*where).order_by(*newest).limit(limit))).all()
            return [await _past(session, row) for row in rows]


async def _learn(session: AsyncSession, incident_ids: Collection[str]) -> None:
    query = select(IncidentRow).where(IncidentRow.id.in_(incident_ids), IncidentRow.learned.is_(False))
    rows = (await session.scalars(query)).all()
    ids = [row.id for row in rows]
    done = select(StepRow.incident_id, func.max(StepRow.at)).where(StepRow.type == "done")
    ended = done.where(StepRow.incident_id.in_(ids)).group_by(StepRow.incident_id)
    ends = {row[0]: row[1] for row in await session.execute(ended)}
    acted = select(ApprovalRow.incident_id).where(ApprovalRow.state.in_([item.value for item in _ACTED]))
    active = set((await session.scalars(acted.where(ApprovalRow.incident_id.in_(ids)))).all())
    grouped = select(CrashSightingRow).where(CrashSightingRow.group_id.is_not(None))
    crashes = grouped.order_by(CrashSightingRow.id.desc())
    sightings = (await session.scalars(crashes.where(CrashSightingRow.incident_id.in_(ids)))).all()
    crash = {item.incident_id: item for item in sightings}  # the first of an incident
    learned = set()
    for row in rows:
        row.learned = True
        if (about := _about(row.diagnosis)) is None:
            continue
        cause_class, owner = about
        session.add(
            LessonRow(
                incident_id=row.id,
                began_at=row.created_at,
                ended_at=ends.get(row.id) or row.updated_at,
                status=row.status,
                acted=row.id in active,
                cause_class=cause_class.value,
                kind=owner.kind,
                namespace=owner.namespace or "",
                name=owner.name,
                container=owner.container,
                group_id=crash[row.id].group_id if row.id in crash else None,
                image=crash[row.id].image if row.id in crash else None,
            )
        )
        learned.add((cause_class, owner.model_copy(update={"container": None})))
    await session.flush()
    await _forget(session, learned)


def _about(document: Mapping[str, Any] | None) -> tuple[CauseClass, ObjectRef] | None:
    """(class, object) of a stored diagnosis' first cause; None where there is none that can be recognised again."""
    causes = document.get("causes") if isinstance(document, dict) else None
    first = causes[0] if isinstance(causes, list) and causes and isinstance(causes[0], dict) else {}
    ref = first.get("object")
    named = first.get("class")
    if not isinstance(ref, dict) or not isinstance(named, str) or named not in _RECOGNISABLE:
        return None
    kind, namespace, name, container = (ref.get(key) for key in ("kind", "namespace", "name", "container"))
    if not (isinstance(kind, str) and isinstance(name, str) and 0 < len(kind) <= 64 and 0 < len(name) <= _TEXT):
        return None
    inside = container if isinstance(container, str) and len(container) <= _TEXT else None
    place = namespace if isinstance(namespace, str) and len(namespace) <= _TEXT else None
    return CauseClass(named), ObjectRef(kind=kind, namespace=place, name=name, container=inside)


async def _forget(session: AsyncSession, learned: Collection[tuple[CauseClass, ObjectRef]]) -> None:
    """Drop what is beyond the bounds, oldest first."""
    best = (LessonRow.acted.desc(), LessonRow.began_at.desc())
    for cause_class, owner in learned:
        mine = select(LessonRow.incident_id).where(*_on(owner), LessonRow.cause_class == cause_class.value)
        beyond = mine.order_by(*best).offset(KEPT_OF_ONE)
        await session.execute(delete(LessonRow).where(LessonRow.incident_id.in_(beyond)))
    oldest = select(LessonRow.ended_at).order_by(LessonRow.ended_at.desc()).offset(KEPT).limit(1)
    await session.execute(delete(LessonRow).where(LessonRow.ended_at <= oldest.scalar_subquery()))


def _on(owner: ObjectRef) -> list[ColumnElement[bool]]:
    return [LessonRow.namespace == (owner.namespace or ""), LessonRow.kind == owner.kind, LessonRow.name == owner.name]


async def _past(session: AsyncSession, row: LessonRow) -> PastIncident:
    owner = ObjectRef(kind=row.kind, namespace=row.namespace or None, name=row.name, container=row.container)
    attempts = await _attempts(session, row) if row.acted else []
    after = attempts[-1].at if attempts else row.ended_at
    later = select(func.min(LessonRow.began_at)).where(
        *_on(owner), LessonRow.cause_class == row.cause_class, LessonRow.began_at > after
    )
    return PastIncident(
        incident_id=row.incident_id,
        began_at=row.began_at,
        ended_at=row.ended_at,
        status=IncidentStatus(row.status),
        cause_class=CauseClass(row.cause_class),
        object=owner,
        group_id=row.group_id,
        image=row.image,
        attempts=attempts,
        again_at=await session.scalar(later),
    )


async def _attempts(session: AsyncSession, row: LessonRow) -> list[Attempt]:
    """Oldest first. A plan that can no longer be read is left out: nothing is concluded from it."""
    query = (
        select(ApprovalRow)
        .where(ApprovalRow.incident_id == row.incident_id, ApprovalRow.state.in_([item.value for item in _ACTED]))
        .order_by(ApprovalRow.issued_at)
        .limit(10)
    )
    found = []
    for item in (await session.scalars(query)).all():
        try:
            approval = approval_of(item, await votes_of(session, item.id))
        except Refused:
            continue
        run = await session.get(ExecutionRow, item.id)
        decided = max((vote.at for vote in approval.votes), default=item.issued_at)
        found.append(Attempt(approval, run.updated_at if run else decided))
    return found
