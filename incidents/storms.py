"""Crashes of instances, counted in a window that slides, and the storms that people were asked about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from sqlalchemy import delete, func, select, update

from incidents.database import Database, utcnow
from incidents.models import Frozen, ObjectRef, new_id
from incidents.tables import ContainerCrashRow, StormRow

_MANY = 1000


class Crash(Frozen):
    """One ended container that counts. `id` is the same however often the end is seen; `at` is when it ended."""

    id: str
    at: datetime
    instance: str
    workload: ObjectRef
    pod: str
    ending: str


class Storm(Frozen):
    """More crashes than the policy allows. `target` is the workload that crashed most, `release` the helm release that
    it is part of. `incident_id` is null in a dry run, and until its incident is opened."""

    id: str
    opened_at: datetime
    instance: str
    target: ObjectRef
    release: ObjectRef | None = None
    count: int
    mode: str
    incident_id: str | None = None


class StormStore:
    """Every method is one transaction."""

    def __init__(self, database: Database, *, now: Callable[[], datetime] = utcnow) -> None:
        self._db, self._now = database, now

    async def add(self, crashes: Iterable[Crash]) -> int:
        """Note the crashes that are not known yet; returns how many those were."""
        by_id = {crash.id: crash for crash in crashes}
        if not by_id:
            return 0
        ids, known = list(by_id), set()
        async with self._db.write() as session:
            for start in range(0, len(ids), 500):
                some = ids[start : start + 500]
                known |= set(await session.scalars(select(ContainerCrashRow.id).where(ContainerCrashRow.id.in_(some))))
            fresh = [crash for crash in by_id.values() if crash.id not in known]
            session.add_all(
                ContainerCrashRow(
                    id=crash.id,
                    at=crash.at,
                    instance=crash.instance,
                    workload=crash.workload.model_dump(mode="json"),
                    pod=crash.pod,
                    ending=crash.ending,
                )
                for crash in fresh
            )
        return len(fresh)

    async def counts(self, since: datetime) -> dict[str, int]:
        """Crashes since then, by instance."""
        row = ContainerCrashRow
        query = select(row.instance, func.count()).where(row.at > since).group_by(row.instance)
        async with self._db.read() as session:
            return {str(instance): int(count) for instance, count in await session.execute(query)}

    async def crashes(self, instance: str, since: datetime, limit: int = 1000) -> list[Crash]:
        """Those of one instance, newest first."""
        row = ContainerCrashRow
        query = select(row).where(row.instance == instance, row.at > since).order_by(row.at.desc(), row.id).limit(limit)
        async with self._db.read() as session:
            return [_crash(found) for found in await session.scalars(query)]

    async def since(self, at: datetime, limit: int = 100_000) -> list[Crash]:
        """All crashes after `at`, newest first."""
        row = ContainerCrashRow
        query = select(row).where(row.at > at).order_by(row.at.desc(), row.id).limit(limit)
        async with self._db.read() as session:
            return [_crash(found) for found in await session.scalars(query)]

    async def forget(self, before: datetime) -> None:
        """Drop crashes that no window reaches any more."""
        async with self._db.write() as session:
            await session.execute(delete(ContainerCrashRow).where(ContainerCrashRow.at < before))

    async def latest(self, instance: str) -> Storm | None:
        """The newest storm of an instance."""
        query = select(StormRow).where(StormRow.instance == instance)
        async with self._db.read() as session:
            row = await session.scalar(query.order_by(StormRow.opened_at.desc(), StormRow.id).limit(1))
        return _storm(row) if row is not None else None

    async def about(self, target: ObjectRef) -> Storm | None:
        """The newest storm that people are asked about and whose target this is."""
        query = select(StormRow).where(StormRow.mode == "propose").order_by(StormRow.opened_at.desc(), StormRow.id)
        async with self._db.read() as session:
            rows = await session.scalars(query.limit(_MANY))
            return next((storm for row in rows if (storm := _storm(row)).target == target), None)

    async def begin(
        self, instance: str, target: ObjectRef, count: int, mode: str, *, release: ObjectRef | None = None
    ) -> Storm:
        row = StormRow(
            id=new_id("stm"),
            opened_at=self._now(),
            instance=instance,
            target=target.model_dump(mode="json"),
            release=release.model_dump(mode="json") if release else None,
            count=count,
            mode=mode,
            incident_id=None,
        )
        async with self._db.write() as session:
            session.add(row)
        return _storm(row)

    async def asked(self, storm_id: str, incident_id: str) -> None:
        async with self._db.write() as session:
            await session.execute(update(StormRow).where(StormRow.id == storm_id).values(incident_id=incident_id))


def _crash(row: ContainerCrashRow) -> Crash:
    workload = ObjectRef.model_validate(row.workload)
    return Crash(id=row.id, at=row.at, instance=row.instance, workload=workload, pod=row.pod, ending=row.ending)


def _storm(row: StormRow) -> Storm:
    return Storm(
        id=row.id,
        opened_at=row.opened_at,
        instance=row.instance,
        target=ObjectRef.model_validate(row.target),
        release=ObjectRef.model_validate(row.release) if row.release else None,
        count=row.count,
        mode=row.mode,
        incident_id=row.incident_id,
    )
