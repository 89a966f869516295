"""Collected cores that other systems told of: one job a core, from the event to the incident."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from errors import NotFound
from incidents.database import Database, utcnow
from incidents.models import Frozen
from incidents.tables import CoreJobRow


class CoreJobState(StrEnum):
    QUEUED = "queued"
    TAKEN = "taken"  # it has an incident
    NOTED = "noted"  # nothing to analyse: no core, and no crash
    FAILED = "failed"  # the core could not be had; `error` says why


class CoreJob(Frozen):
    """`document` is the event's data, without credentials."""

    id: str
    created_at: datetime
    state: CoreJobState
    event_type: str
    event_source: str
    event_id: str
    requested_by: str
    document: dict[str, Any]
    incident_id: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class ToldCore:
    """An event, and the id of its job; `document` is what is kept of its data."""

    id: str
    event_type: str
    event_source: str
    event_id: str
    document: dict[str, Any]


class CoreJobStore:
    """Every method is one transaction."""

    def __init__(self, database: Database, *, now: Callable[[], datetime] = utcnow) -> None:
        self._db, self._now = database, now

    async def add(self, told: Sequence[ToldCore], requested_by: str) -> list[tuple[CoreJob, bool]]:
        """Queue a job for each, all or none; or find the one of its id. Each with whether it is new.

        One that failed is queued again with what is told now: its link or its store may work by now.
        """
        try:
            return await self._add(told, requested_by)
        except IntegrityError:  # another request was quicker, and is found now
            return await self._add(told, requested_by)

    async def _add(self, told: Sequence[ToldCore], requested_by: str) -> list[tuple[CoreJob, bool]]:
        found = []
        async with self._db.write() as session:
            for one in told:
                row = await session.get(CoreJobRow, one.id)
                fresh = row is None
                if row is None:
                    row = CoreJobRow(
                        id=one.id,
                        created_at=self._now(),
                        state=CoreJobState.QUEUED,
                        event_type=one.event_type,
                        event_source=one.event_source,
                        event_id=one.event_id,
                        requested_by=requested_by,
                        document=one.document,
                        incident_id=None,
                        error=None,
                    )
                    session.add(row)
                elif row.state == CoreJobState.FAILED:
                    row.state, row.error, row.document, fresh = CoreJobState.QUEUED.value, None, one.document, True
                found.append((_job(row), fresh))
        return found

    async def get(self, id: str) -> CoreJob:
        """Raises NotFound."""
        async with self._db.read() as session:
            row = await session.get(CoreJobRow, id)
        if row is None:
            raise NotFound(f"no job {id!r}")
        return _job(row)

    async def of_incident(self, incident_id: str, limit: int = 100) -> list[CoreJob]:
        """Jobs that became this incident, newest first."""
        query = select(CoreJobRow).where(CoreJobRow.incident_id == incident_id)
        async with self._db.read() as session:
            rows = (await session.scalars(query.order_by(CoreJobRow.created_at.desc()).limit(limit))).all()
        return [_job(row) for row in rows]

    async def since(self, at: datetime, limit: int = 1000) -> list[CoreJob]:
        """Jobs that were queued after `at`, newest first."""
        query = select(CoreJobRow).where(CoreJobRow.created_at > at)
        async with self._db.read() as session:
            rows = (await session.scalars(query.order_by(CoreJobRow.created_at.desc()).limit(limit))).all()
        return [_job(row) for row in rows]

    async def queued(self, limit: int = 1000) -> list[CoreJob]:
        """What waits, oldest first."""
        query = select(CoreJobRow).where(CoreJobRow.state == CoreJobState.QUEUED.value)
        async with self._db.read() as session:
            rows = (await session.scalars(query.order_by(CoreJobRow.created_at).limit(limit))).all()
        return [_job(row) for row in rows]

    async def end(
        self, id: str, state: CoreJobState, *, incident_id: str | None = None, error: str | None = None
    ) -> None:
        """Note how a queued job ended; one that has ended stays as it is. What signs the links in it goes."""
        async with self._db.write() as session:
            row = await session.get(CoreJobRow, id)
            if row is not None and row.state == CoreJobState.QUEUED:
                row.state, row.incident_id, row.error = state.value, incident_id, error
                row.document = {
                    name: value.partition("?")[0] if isinstance(value, str) and "://" in value else value
                    for name, value in row.document.items()
                }


def _job(row: CoreJobRow) -> CoreJob:
    return CoreJob(
        id=row.id,
        created_at=row.created_at,
        state=CoreJobState(row.state),
        event_type=row.event_type,
        event_source=row.event_source,
        event_id=row.event_id,
        requested_by=row.requested_by,
        document=row.document,
        incident_id=row.incident_id,
        error=row.error,
    )
