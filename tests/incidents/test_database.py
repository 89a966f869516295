"""The schema that migrations make, and what one transaction guarantees."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

from errors import ToolFailed
from incidents.database import Database, utcnow
from incidents.tables import Base, SeenEventRow


async def test_migrations_make_exactly_the_declared_schema(database: Database) -> None:
    async with database.engine.connect() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), Base.metadata)
        )
    assert differences == []


async def test_opening_again_migrates_nothing(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'again.db'}"
    first = await Database.open(url)
    async with first.write() as session:
        session.add(SeenEventRow(source="x", event_id="1", at=utcnow()))
    await first.close()
    second = await Database.open(url)
    async with second.read() as session:
        assert (await session.execute(text("select count(*) from seen_events"))).scalar() == 1
    await second.close()


async def test_a_failed_write_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError):
        async with database.write() as session:
            session.add(SeenEventRow(source="x", event_id="1", at=utcnow()))
            await session.flush()
            raise RuntimeError("in the middle")
    async with database.read() as session:
        assert (await session.execute(text("select count(*) from seen_events"))).scalar() == 0


async def test_a_writer_that_comes_too_late_gets_an_error_and_may_try_again(database: Database, tmp_path: Path) -> None:
    async with database.read() as session:
        await session.execute(text("PRAGMA busy_timeout=1"))  # of the one connection in the pool
    with closing(sqlite3.connect(tmp_path / "paramedic.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="locked"):
            async with database.write() as session:
                session.add(SeenEventRow(source="x", event_id="1", at=utcnow()))
    async with database.write() as session:
        session.add(SeenEventRow(source="x", event_id="1", at=utcnow()))


async def test_a_commit_that_fails_leaves_a_connection_that_can_be_used(database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text("create table parent (id integer primary key)"))
        reference = "references parent deferrable initially deferred"
        await connection.execute(text(f"create table child (id integer {reference})"))
    with pytest.raises(IntegrityError):
        async with database.write() as session:
            await session.execute(text("insert into child values (1)"))
    async with database.write() as session:
        assert (await session.execute(text("select count(*) from child"))).scalar() == 0


async def test_a_caller_that_is_cancelled_at_any_point_leaves_no_transaction_open(database: Database) -> None:
    async def look() -> None:
        async with database.read() as session:
            await session.execute(text("select count(*) from seen_events"))

    for turns in range(60):
        task = asyncio.create_task(look())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await look()
        async with database.write() as session:
            session.add(SeenEventRow(source="x", event_id=str(turns), at=utcnow()))


async def test_concurrent_writers_all_succeed(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'busy.db'}"
    one, two = await Database.open(url), await Database.open(url)

    async def write(database: Database, number: int) -> None:
        async with database.write() as session:
            session.add(SeenEventRow(source="x", event_id=str(number), at=utcnow()))

    await asyncio.gather(*(write(one if number % 2 else two, number) for number in range(40)))
    async with one.read() as session:
        assert (await session.execute(text("select count(*) from seen_events"))).scalar() == 40
    await one.close()
    await two.close()


async def test_naive_times_are_refused_and_zones_come_back(database: Database) -> None:
    with pytest.raises(Exception, match="naive"):
        async with database.write() as session:
            session.add(SeenEventRow(source="x", event_id="1", at=datetime(2026, 1, 1)))
    now = utcnow()
    async with database.write() as session:
        session.add(SeenEventRow(source="x", event_id="2", at=now))
    async with database.read() as session:
        row = await session.get(SeenEventRow, ("x", "2"))
    assert row is not None and row.at == now and row.at.tzinfo is not None


async def test_an_unusable_database_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is not a database " * 100)
    with pytest.raises(ToolFailed, match="cannot be opened"):
        await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'text.db'}")
