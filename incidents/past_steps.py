"""What Paramedic itself did to objects, and the crashes of theirs that came in: for a timeline."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError
from sqlalchemy import func, select

from incidents.database import Database
from incidents.models import ObjectRef, Step
from incidents.plan import HelmWrite, Plan
from incidents.tables import ApprovalRow, CrashSightingRow, IncidentRow, StepRow

_DONE = ("executed", "verified", "undone", "escalated")
_MOST = 200


@dataclass(frozen=True)
class Sightings:
    """Crashes of one group on one workload (`Kind namespace/name`), by when they came in."""

    workload: str
    group_id: str
    first: datetime
    last: datetime
    count: int


class PastSteps:
    """Queries, each bounded to the newest."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def done_to(self, objects: Collection[ObjectRef], since: datetime) -> list[tuple[ObjectRef, Step]]:
        """Steps that executed, verified or undid a plan on one of `objects`, oldest first, each with that object."""
        namespaces = {ref.namespace for ref in objects}
        query = (
            select(ApprovalRow.incident_id, ApprovalRow.plan)
            .join(IncidentRow, IncidentRow.id == ApprovalRow.incident_id)
            .where(IncidentRow.updated_at >= since)
            .where(IncidentRow.namespace.in_([name for name in namespaces if name]) | IncidentRow.namespace.is_(None))
            .order_by(ApprovalRow.issued_at.desc(), ApprovalRow.id)
            .limit(_MOST)
        )
        async with self._db.read() as session:
            about: dict[str, ObjectRef] = {}
            for incident_id, document in await session.execute(query):
                if (ref := next((ref for ref in _written_by(document) if ref in objects), None)) is not None:
                    about.setdefault(incident_id, ref)
            steps = await session.scalars(
                select(StepRow)
                .where(StepRow.incident_id.in_(about), StepRow.type.in_(_DONE), StepRow.at >= since)
                .order_by(StepRow.at.desc(), StepRow.incident_id, StepRow.seq)
                .limit(_MOST)
            )
            found = [
                (about[row.incident_id], Step(incident_id=row.incident_id, seq=row.seq, at=row.at, type=row.type,
                                              agent=row.agent, text=row.text))
                for row in steps
            ]  # fmt: skip
        return sorted(found, key=lambda entry: (entry[1].at, entry[1].incident_id, entry[1].seq))

    async def crashes_of(self, objects: Collection[ObjectRef], since: datetime) -> list[Sightings]:
        """Crashes of these workloads whose core was read, by group, oldest first."""
        row = CrashSightingRow
        first, last = func.min(row.at), func.max(row.at)
        query = (
            select(row.workload, row.group_id, first, last, func.count())
            .where(row.workload.in_([str(ref) for ref in objects]), row.group_id.is_not(None), row.at >= since)
            .group_by(row.workload, row.group_id)
            .order_by(last.desc())
            .limit(_MOST)
        )
        async with self._db.read() as session:
            found = [
                Sightings(workload or "", group or "", begun, ended, count)
                for workload, group, begun, ended, count in await session.execute(query)
            ]
        return sorted(found, key=lambda item: (item.first, item.group_id))


def _written_by(document: dict[str, object]) -> list[ObjectRef]:
    """The objects that a stored plan writes; none of one that an older version stored otherwise."""
    try:
        plan = Plan.model_validate(document)
    except ValidationError:
        return []
    return [
        ObjectRef(kind="HelmRelease", namespace=write.namespace, name=write.release)
        if isinstance(write, HelmWrite)
        else ObjectRef(kind=write.kind, namespace=write.namespace, name=write.name)
        for write in plan.writes
    ]
