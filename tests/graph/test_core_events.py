"""The queue of collected cores: what waits does not wait for others, and what failed may be told again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy.exc import OperationalError

from errors import InvalidInput, ToolFailed
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


class Slow:
    """A runner that takes nothing before it is let."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.let = asyncio.Event()

    async def submit(self, *_: Any, identity: str | None = None, **__: Any) -> Incident:
        self.begun.append(identity or "none")
        await self.let.wait()
        raise InvalidInput("no core")


class Away(CoreJobStore):
    """A database that does not answer the first time."""

    failures = 1

    async def queued(self, limit: int = 1000) -> list[CoreJob]:
        if self.failures:
            self.failures -= 1
            raise OperationalError("SELECT", {}, Exception("database is locked"))
        return await super().queued(limit)


class Stale(CoreJobStore):
    """A database so slow that what is being worked on ends while the queue is read."""

    runner: Slow

    async def queued(self, limit: int = 1000) -> list[CoreJob]:
        found = await super().queued(limit)
        if self.runner.begun and not self.runner.let.is_set():
            self.runner.let.set()
            while await super().queued(limit):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)  # and its task is over
        return found


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


async def test_crashes_are_looked_at_beside_each_other_and_cores_of_one_in_turn(
    database: Database, tmp_path: Path
) -> None:
    runner, jobs = Slow(), CoreJobStore(database)
    events = CoreEvents(jobs, runner, None, CoreSettings(), tmp_path)  # type: ignore[arg-type]
    told = [event(number, identity=name * 20) for number, name in enumerate(["aa", "aa", "bb", "cc", "dd", "ee"])]
    await events.accept(told, "api:agent")
    working = asyncio.create_task(events.run())
    try:
        async with asyncio.timeout(60):
            while len(runner.begun) < 4:
                await asyncio.sleep(0.01)
        await settled()
        assert sorted(runner.begun) == [name * 20 for name in ("aa", "bb", "cc", "dd")], "four, each another crash"
        runner.let.set()
        async with asyncio.timeout(60):
            while await jobs.queued():
                await asyncio.sleep(0.01)
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    assert len(runner.begun) == 6


async def test_what_ends_while_the_queue_is_read_is_not_done_again(database: Database, tmp_path: Path) -> None:
    runner, jobs = Slow(), Stale(database)
    jobs.runner = runner
    events = CoreEvents(jobs, runner, None, CoreSettings(), tmp_path)  # type: ignore[arg-type]
    working = asyncio.create_task(events.run())
    try:
        await events.accept([event(1)], "api:agent")
        async with asyncio.timeout(60):
            while not runner.begun:
                await asyncio.sleep(0.01)
            events._awake.set()  # as another event does
            while not runner.let.is_set():
                await asyncio.sleep(0.01)
        await settled()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    assert len(runner.begun) == 1, "each core is counted once"


async def test_a_database_that_is_away_ends_nothing(database: Database, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("graph.core_events._RETRY_SECONDS", 0.02)
    runner, jobs = Busy(), Away(database)
    events = CoreEvents(jobs, runner, None, CoreSettings(), tmp_path)  # type: ignore[arg-type]
    await events.accept([event(1)], "api:agent")
    working = asyncio.create_task(events.run())
    try:
        async with asyncio.timeout(60):
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
