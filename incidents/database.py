"""The connection to the database: SQLite, one file in the data directory."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from errors import ToolFailed
from incidents.sqlite import Connection, Driver

MIGRATIONS = Path(__file__).parent / "migrations"
SYNCHRONOUS = "FULL"
"""SQLite's: a commit is on the disk before anything acts on it, also when the power fails."""


def utcnow() -> datetime:
    return datetime.now(UTC)


class Database:
    """Sessions on one engine. `read()` for queries, `write()` for one atomic change."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        # SQLite has one writer: queueing here is fair, its busy timeout is not
        self._writer = asyncio.Lock()

    @classmethod
    async def open(cls, url: str) -> Database:
        """Open (and migrate) the database at a SQLAlchemy URL. Raises ToolFailed when it cannot be reached."""
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        if sqlite and parsed.database:
            await asyncio.to_thread(Path(parsed.database).parent.mkdir, parents=True, exist_ok=True)
        engine = create_async_engine(url, **({"module": Driver()} if sqlite else {}))
        if sqlite:
            event.listen(engine.sync_engine, "connect", _sqlite_connect)
            event.listen(engine.sync_engine, "begin", _sqlite_begin)
        try:
            async with engine.begin() as connection:
                await _migrate(connection)
        except (SQLAlchemyError, OSError) as error:
            await engine.dispose()
            raise ToolFailed(f"the database at {parsed.render_as_string()} cannot be opened: {error}") from error
        return cls(engine)

    async def close(self) -> None:
        await self.engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        async with self._sessions() as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A transaction, committed at the end. On SQLite the first statement takes the write lock (BEGIN IMMEDIATE)."""
        async with self._writer, self._sessions() as session:
            await session.connection(execution_options={"paramedic_write": True})
            try:
                yield session
            except BaseException:
                await session.rollback()
                raise
            await session.commit()


def _sqlite_connect(connection: Connection, _record: object) -> None:
    def prepare(sqlite: sqlite3.Connection) -> None:
        sqlite.isolation_level = None  # SQLAlchemy's recipe: the driver must not begin transactions by itself
        for pragma in ("journal_mode=WAL", f"synchronous={SYNCHRONOUS}", "foreign_keys=ON", "busy_timeout=10000"):
            sqlite.execute(f"PRAGMA {pragma}")

    connection.visit(prepare)


def _sqlite_begin(connection: Any) -> None:
    write = "paramedic_write" in connection.get_execution_options()
    connection.connection.dbapi_connection.begin(write=write)


async def _migrate(connection: AsyncConnection) -> None:
    """Bring the schema to the newest revision. Alembic is imported only when something is to be done."""
    await connection.run_sync(_upgrade)


def _upgrade(connection: Any) -> None:
    newest = max(path.name.split("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))
    if connection.dialect.has_table(connection, "alembic_version"):
        current = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        if current == newest:
            return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
