"""How often the database's thread is visited, and that transactions are what they were for all that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import delete, select, text
from sqlalchemy.exc import IntegrityError

from incidents.database import Database, utcnow
from incidents.tables import SeenEventRow


def _row(number: int) -> SeenEventRow:
    return SeenEventRow(source="x", event_id=str(number), at=utcnow())


@pytest.fixture
def visits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the thread was asked, and somebody waited for."""
    made: list[str] = []
    execute: Callable[..., Awaitable[Any]] = aiosqlite.Connection._execute

    async def counted(self: aiosqlite.Connection, work: Any, *rest: Any, **named: Any) -> Any:
        made.append(getattr(work, "__name__", ""))
        return await execute(self, work, *rest, **named)

    monkeypatch.setattr(aiosqlite.Connection, "_execute", counted)
    return made


async def test_a_statement_is_one_visit_and_a_beginning_or_the_end_of_a_look_is_none(
    database: Database, visits: list[str]
) -> None:
    async with database.write() as session:
        session.add_all([_row(1), _row(2)])
    assert len(visits) == 2, "the rows at once, and the commit"
    visits.clear()
    async with database.read() as session:
        rows = (await session.scalars(select(SeenEventRow).order_by(SeenEventRow.event_id))).all()
        assert [row.event_id for row in rows] == ["1", "2"]
        assert (await session.execute(text("select 1 where 0"))).first() is None
    assert len(visits) == 2
    visits.clear()
    async with database.write():
        pass
    assert visits == []


async def test_a_look_sees_one_state_and_the_next_one_the_newest(database: Database) -> None:
    count = text("select count(*) from seen_events")
    async with database.read() as session:
        assert (await session.execute(count)).scalar() == 0
        async with database.write() as other:
            other.add(_row(1))
        assert (await session.execute(count)).scalar() == 0, "as it was when the look began"
    async with database.read() as session:
        assert (await session.execute(count)).scalar() == 1


async def test_a_writer_keeps_other_processes_out_from_its_first_statement_on(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'two.db'}"
    one, two = await Database.open(url), await Database.open(url)

    async def add(database: Database) -> None:
        async with database.write() as session:
            highest = max((int(row) for row in await session.scalars(select(SeenEventRow.event_id))), default=0)
            await asyncio.sleep(0)
            session.add(_row(highest + 1))

    await asyncio.gather(*(add(database) for _ in range(10) for database in (one, two)))
    async with one.read() as session:
        assert len((await session.scalars(select(SeenEventRow))).all()) == 20, "nobody read what another then changed"
    await one.close()
    await two.close()


async def test_counts_of_changed_rows_and_refusals_come_through(database: Database) -> None:
    async with database.write() as session:
        session.add_all([_row(number) for number in range(5)])
    async with database.write() as session:
        gone = await session.execute(delete(SeenEventRow).where(SeenEventRow.event_id > "2"))
        assert gone.rowcount == 2  # type: ignore[attr-defined]
    with pytest.raises(IntegrityError):
        async with database.write() as session:
            session.add_all([_row(9), _row(1)])
    async with database.read() as session:
        streamed = [row.event_id async for row in await session.stream_scalars(select(SeenEventRow))]
    assert sorted(streamed) == ["0", "1", "2"]


async def test_who_is_cancelled_in_a_statement_leaves_no_transaction_behind(database: Database) -> None:
    async def look() -> None:
        async with database.read() as session:
            for _ in range(1000):
                await session.execute(text("select count(*) from seen_events"))

    task = asyncio.create_task(look())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.write() as session:
        session.add(_row(1))
    async with database.read() as session:
        assert (await session.execute(text("select count(*) from seen_events"))).scalar() == 1
