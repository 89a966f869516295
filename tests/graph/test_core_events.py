"""The queue of collected cores: what waits does not wait for others, and what failed may be told again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy.exc import OperationalError

from errors import ToolFailed
from graph.core_events import COLLECTED, CoreEvents
from incidents.collected import CollectedCore, Completeness
from incidents.core_jobs import CoreJob, CoreJobState, CoreJobStore
from incidents.database import Database
from incidents.models import Incident
from settings import CoreSettings
from tools.cloudevents.event import CloudEvent

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Busy:
    """A runner that cannot take anything."""

    def __init__(self) -> None:
        self.asked = 0

    async def submit(self, *_: Any, **__: Any) -> Incident:
        self.asked += 1
        raise ToolFailed("the disk is full")


class Away(CoreJobStore):
    """A database that does not answer the first time."""

    failures = 1

    async def queued(self, limit: int = 1000) -> list[CoreJob]:
        if self.failures:
            self.failures -= 1
            raise OperationalError("SELECT", {}, Exception("database is locked"))
        return await super().queued(limit)


def event(number: int, **changes: Any) -> CloudEvent:
    record = CollectedCore(
        id=f"core_{number:016x}", completeness=Completeness.COMPLETE, collected_at=NOW, node="n1", **changes
    )
    return CloudEvent(
        specversion="1.0", id=record.id, source="/n1", type=COLLECTED, data=record.model_dump(mode="json")
    )


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0.01)


async def test_a_burst_of_events_uses_up_no_tries_of_what_waits(database: Database, tmp_path: Path) -> None:
    runner, jobs = Busy(), CoreJobStore(database)
    events = CoreEvents(jobs, runner, None, CoreSettings(), tmp_path)  # type: ignore[arg-type]
    working = asyncio.create_task(events.run())
    try:
        for number in range(25):
            await events.accept([event(number)], "api:agent")
        await settled()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    assert runner.asked == 25, "each was tried once, and waits"
    assert len(await jobs.queued()) == 25


async def test_a_database_that_is_away_ends_nothing(database: Database, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("graph.core_events._RETRY_SECONDS", 0.02)
    runner, jobs = Busy(), Away(database)
    events = CoreEvents(jobs, runner, None, CoreSettings(), tmp_path)  # type: ignore[arg-type]
    await events.accept([event(1)], "api:agent")
    working = asyncio.create_task(events.run())
    try:
        async with asyncio.timeout(20):
            while not runner.asked:
                await asyncio.sleep(0.02)
        assert not working.done()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def test_what_failed_is_queued_again_when_it_is_told_again(database: Database, tmp_path: Path) -> None:
    jobs = CoreJobStore(database)
    events = CoreEvents(jobs, Busy(), None, CoreSettings(), tmp_path)  # type: ignore[arg-type]
    (first,) = await events.accept([event(1)], "api:agent")
    await jobs.end(first.job.id, CoreJobState.FAILED, error="no such object")
    (again,) = await events.accept([event(1, size=7)], "api:agent")
    assert again.fresh and again.job.id == first.job.id
    (queued,) = await jobs.queued()
    assert queued.document["size"] == 7 and queued.error is None
    await jobs.end(first.job.id, CoreJobState.NOTED)
    (known,) = await events.accept([event(1)], "api:agent")
    assert not known.fresh and not await jobs.queued()
