"""Incidents, their timelines and their evidence, in the database and the data directory."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from sqlalchemy import func, select, update

from errors import NotFound
from incidents.database import Database, utcnow
from incidents.models import (
    CoreRef,
    Diagnosis,
    Evidence,
    Incident,
    IncidentStatus,
    ObjectRef,
    Step,
    Via,
    new_id,
)
from incidents.plan import Proposal
from incidents.tables import EvidenceRow, IncidentRow, StepRow


class IncidentStore:
    """The record of incidents. Every method is one transaction.

    `blobs` is the folder of whole evidence texts, named by sha256.
    """

    def __init__(self, database: Database, blobs: Path) -> None:
        self._db = database
        self._blobs = blobs
        self._news: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def create(
        self,
        target: ObjectRef,
        event: str,
        *,
        requested_by: str,
        via: Via,
        core: CoreRef | None = None,
        force: bool = False,
    ) -> Incident:
        now = utcnow()
        incident = Incident(
            id=new_id("inc"),
            created_at=now,
            updated_at=now,
            status=IncidentStatus.RECEIVED,
            target=target,
            event=event,
            core=core,
            requested_by=requested_by,
            via=via,
            force=force,
        )
        async with self._db.write() as session:
            session.add(
                IncidentRow(
                    id=incident.id,
                    created_at=now,
                    updated_at=now,
                    status=incident.status,
                    kind=target.kind,
                    namespace=target.namespace,
                    name=target.name,
                    signature=None,
                    document=incident.model_dump(mode="json"),
                    diagnosis=None,
                    proposals=None,
                )
            )
        return incident

    async def get(self, incident_id: str) -> Incident:
        async with self._db.read() as session:
            row = await session.get(IncidentRow, incident_id)
        return _incident(row, incident_id)

    async def diagnosis(self, incident_id: str) -> Diagnosis | None:
        async with self._db.read() as session:
            row = await session.get(IncidentRow, incident_id)
        if row is None:
            raise NotFound(f"no incident {incident_id!r}")
        return Diagnosis.model_validate(row.diagnosis) if row.diagnosis else None

    async def proposals(self, incident_id: str) -> list[Proposal]:
        async with self._db.read() as session:
            row = await session.get(IncidentRow, incident_id)
        return [Proposal.model_validate(item) for item in (row.proposals or [])] if row else []

    async def recent(
        self,
        *,
        namespace: str | None = None,
        status: IncidentStatus | None = None,
        open_only: bool = False,
        limit: int = 50,
        before: str | None = None,
    ) -> list[Incident]:
        """Newest first. `before` is the id of the last incident of the previous page."""
        query = select(IncidentRow).order_by(IncidentRow.created_at.desc(), IncidentRow.id.desc()).limit(limit)
        if namespace is not None:
            query = query.where(IncidentRow.namespace == namespace)
        if status is not None:
            query = query.where(IncidentRow.status == status.value)
        if open_only:
            query = query.where(IncidentRow.status.in_([s.value for s in IncidentStatus if not s.ended]))
        async with self._db.read() as session:
            if before is not None:
                last = await session.get(IncidentRow, before)
                if last is None:
                    raise NotFound(f"no incident {before!r}")
                query = query.where(
                    (IncidentRow.created_at < last.created_at)
                    | ((IncidentRow.created_at == last.created_at) & (IncidentRow.id < last.id))
                )
            rows = (await session.scalars(query)).all()
        return [_incident(row, row.id) for row in rows]

    async def open_for(self, target: ObjectRef) -> Incident | None:
        """The newest incident about this object that has not ended: a second report of it is the same incident."""
        query = (
            select(IncidentRow)
            .where(IncidentRow.kind == target.kind, IncidentRow.name == target.name)
            .where(IncidentRow.namespace == target.namespace if target.namespace else IncidentRow.namespace.is_(None))
            .where(IncidentRow.status.in_([s.value for s in IncidentStatus if not s.ended]))
            .order_by(IncidentRow.created_at.desc())
            .limit(1)
        )
        async with self._db.read() as session:
            row = await session.scalar(query)
        return _incident(row, row.id) if row else None

    async def update(
        self,
        incident_id: str,
        *,
        status: IncidentStatus | None = None,
        summary: str | None = None,
        diagnosis: Diagnosis | None = None,
        proposals: list[Proposal] | None = None,
        again: bool = False,
    ) -> Incident:
        """Change what is given; everything else stays. `again` counts one more report of the same crash."""
        async with self._db.write() as session:
            row = await session.get(IncidentRow, incident_id)
            incident = _incident(row, incident_id)
            assert row is not None
            changes: dict[str, object] = {"updated_at": utcnow()}
            if status is not None:
                changes["status"] = status
                row.status = status.value
            if again:
                changes["count"] = incident.count + 1
            if summary is not None:
                changes["summary"] = summary
            if diagnosis is not None:
                changes["signature"] = diagnosis.signature
                row.signature = diagnosis.signature
                row.diagnosis = diagnosis.model_dump(mode="json", by_alias=True)
                said = diagnosis.model_statements
                row.closure = diagnosis.closure
                row.model_kept, row.model_total = (said.kept, said.total) if said else (None, None)
            if proposals is not None:
                row.proposals = [item.model_dump(mode="json") for item in proposals]
            incident = incident.model_copy(update=changes)
            row.updated_at = incident.updated_at
            row.document = incident.model_dump(mode="json")
        self._wake(incident_id)
        return incident

    async def add_step(
        self,
        incident_id: str,
        type: str,
        text: str,
        *,
        agent: str | None = None,
        data: dict[str, object] | None = None,
        once: bool = False,
    ) -> Step | None:
        """Append to the timeline. With `once`, a step of the same type and text is not repeated (after a restart)."""
        async with self._db.write() as session:
            if once:
                query = select(StepRow.seq).where(
                    StepRow.incident_id == incident_id, StepRow.type == type, StepRow.text == text
                )
                if await session.scalar(query.limit(1)) is not None:
                    return None
            last = await session.scalar(select(func.max(StepRow.seq)).where(StepRow.incident_id == incident_id))
            row = StepRow(
                incident_id=incident_id,
                seq=(last or 0) + 1,
                at=utcnow(),
                type=type,
                agent=agent,
                text=text,
                data=data or {},
            )
            session.add(row)
            await session.execute(update(IncidentRow).where(IncidentRow.id == incident_id).values(updated_at=row.at))
        self._wake(incident_id)
        return _step(row)

    async def steps(self, incident_id: str, after: int = 0) -> list[Step]:
        query = select(StepRow).where(StepRow.incident_id == incident_id, StepRow.seq > after).order_by(StepRow.seq)
        async with self._db.read() as session:
            return [_step(row) for row in (await session.scalars(query)).all()]

    async def follow(self, incident_id: str, after: int = 0, poll: float = 1.0) -> AsyncIterator[Step]:
        """Steps after `after`, then new ones as they happen, until the incident has ended and all were given.

        Steps written by another process are seen within `poll` seconds.
        """
        while True:
            news = self._news[incident_id]
            incident = await self.get(incident_id)
            fresh = await self.steps(incident_id, after)
            for step in fresh:
                after = step.seq
                yield step
            if incident.status.ended and not fresh:
                return
            if not fresh:
                try:
                    await asyncio.wait_for(news.wait(), poll)
                except TimeoutError:
                    continue

    async def wait_change(self, incident_id: str, timeout: float) -> None:
        """Return when something about the incident was written here, or after `timeout` seconds."""
        try:
            await asyncio.wait_for(self._news[incident_id].wait(), timeout)
        except TimeoutError:
            return

    async def save_evidence(
        self, incident_id: str, evidence: Iterable[Evidence], whole: dict[str, str] | None = None
    ) -> None:
        """Record evidence; `whole` maps evidence ids to texts longer than their excerpts. Repeats change nothing."""
        items = {item.id: item for item in evidence}
        async with self._db.write() as session:
            query = select(EvidenceRow.id).where(EvidenceRow.incident_id == incident_id)
            known = set((await session.scalars(query)).all())
            for item in items.values():
                if item.id not in known:
                    document = item.model_dump(mode="json")
                    session.add(EvidenceRow(incident_id=incident_id, id=item.id, document=document))
        for evidence_id, text in (whole or {}).items():
            if evidence_id in items:
                await asyncio.to_thread(self._write_blob, items[evidence_id].sha256, text)

    async def evidence(self, incident_id: str) -> list[Evidence]:
        query = select(EvidenceRow).where(EvidenceRow.incident_id == incident_id)
        async with self._db.read() as session:
            rows = (await session.scalars(query)).all()
        return [Evidence.model_validate(row.document) for row in rows]

    async def whole_text(self, evidence: Evidence) -> str:
        """The whole text of one piece of evidence, or its excerpt where no more was kept."""
        return await asyncio.to_thread(self._read_blob, evidence)

    def _write_blob(self, sha256: str, text: str) -> None:
        path = self._blobs / sha256[:2] / sha256
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draft.write_bytes(text.encode("utf-8", "backslashreplace"))
        draft.replace(path)

    def _read_blob(self, evidence: Evidence) -> str:
        path = self._blobs / evidence.sha256[:2] / evidence.sha256
        return path.read_bytes().decode() if path.exists() else evidence.excerpt

    def _wake(self, incident_id: str) -> None:
        self._news.pop(incident_id, asyncio.Event()).set()


def _incident(row: IncidentRow | None, incident_id: str) -> Incident:
    if row is None:
        raise NotFound(f"no incident {incident_id!r}")
    return Incident.model_validate(row.document)


def _step(row: StepRow) -> Step:
    return Step(
        incident_id=row.incident_id,
        seq=row.seq,
        at=row.at,
        type=row.type,
        agent=row.agent,
        text=row.text,
        data=row.data,
    )
