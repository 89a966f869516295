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
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from errors import ToolFailed

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
        engine = create_async_engine(url, pool_reset_on_return=None if sqlite else "rollback")
        if sqlite:
            event.listen(engine.sync_engine, "connect", _sqlite_connect)
            event.listen(engine.sync_engine, "begin", _sqlite_begin)
            event.listen(engine.sync_engine, "reset", _sqlite_reset)
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
        """One transaction, committed at the end. On SQLite it takes the write lock at once (BEGIN IMMEDIATE)."""
        async with self._writer, self._sessions() as session:
            await session.connection(execution_options={"paramedic_write": True})
            try:
                yield session
            except BaseException:
                await session.rollback()
                raise
            await session.commit()


def _sqlite_connect(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's recipe: the driver must not begin transactions by itself
    pragmas = ("journal_mode=WAL", f"synchronous={SYNCHRONOUS}", "foreign_keys=ON", "busy_timeout=10000")
    script = "".join(f"PRAGMA {pragma};" for pragma in pragmas)
    connection.run_async(lambda driver: driver.executescript(script))


def _sqlite_begin(connection: Any) -> None:
    # a deferred transaction that turns into a writer fails at once when another one wrote in between
    write = connection.get_execution_options().get("paramedic_write")
    statement = "BEGIN IMMEDIATE" if write else "BEGIN"
    # one turn of the driver's thread; as a statement of SQLAlchemy's it takes three, as long as a small query
    try:
        connection.connection.dbapi_connection.run_async(lambda driver: driver.execute(statement))
    except sqlite3.Error as error:
        raise OperationalError(statement, None, error) from error
    except BaseException:  # cancelled: it may begin later, and the next caller would find it open
        connection.invalidate()
        raise


def _sqlite_reset(connection: Any, _record: object, state: Any) -> None:
    """Roll back what a connection still has open, as SQLAlchemy does by itself, but ask for it only then."""
    if not state.terminate_only and connection.driver_connection.in_transaction:
        connection.rollback()


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
