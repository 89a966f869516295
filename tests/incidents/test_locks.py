"""Leases: one holder at a time, lost by time, never by being asked."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from errors import Conflict
from incidents.database import Database
from incidents.locks import Locks
from incidents.tables import LockRow


class _Clock:
    time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


async def test_of_many_only_one_gets_it(database: Database) -> None:
    locks = Locks(database)
    got = await asyncio.gather(*(locks.acquire("x", f"owner{number}", 60) for number in range(20)))
    assert got.count(True) == 1
    assert await locks.acquire("y", "owner", 60)


async def test_a_lease_ends_by_time_and_its_old_holder_notices(database: Database) -> None:
    clock = _Clock()
    locks = Locks(database, now=clock)
    assert await locks.acquire("x", "first", 10)
    clock.time += timedelta(seconds=9)
    assert not await locks.acquire("x", "second", 10)
    clock.time += timedelta(seconds=1)
    assert await locks.acquire("x", "second", 10)
    assert not await locks.extend("x", "first", 10)
    await locks.release("x", "first")  # not its own any more
    assert not await locks.acquire("x", "third", 10)


async def test_a_lease_is_kept_alive_while_its_holder_works(database: Database) -> None:
    clock = _Clock()
    locks = Locks(database, now=clock)
    async with locks.lease("x", "first", seconds=0.3, wait=0) as lease:
        for _ in range(3):  # longer than the lease, by a clock that goes on when the holder has extended it
            clock.time += timedelta(seconds=0.2)
            while not await _extended(database, clock.time + timedelta(seconds=0.3)):
                await asyncio.sleep(0.01)
        with pytest.raises(Conflict, match="another action"):
            async with locks.lease("x", "second", seconds=0.3, wait=0):
                pass
        await lease.extend(1)
    async with locks.lease("x", "second", seconds=0.3, wait=0):
        pass


async def _extended(database: Database, until: datetime) -> bool:
    async with database.read() as session:
        return (await session.get_one(LockRow, "x")).expires_at == until


async def test_a_holder_that_lost_its_lease_has_no_effect(database: Database) -> None:
    clock = _Clock()
    locks = Locks(database, now=clock)
    async with locks.lease("x", "first", seconds=60, wait=0) as lease:
        clock.time += timedelta(seconds=61)
        assert await locks.acquire("x", "second", 60)
        with pytest.raises(Conflict, match="lost"):
            await lease.extend(60)
