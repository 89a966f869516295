"""aiosqlite under SQLAlchemy, with one visit to its thread for each statement.

SQLAlchemy's own adapter visits it four times: for the cursor, the statement, the rows and the cursor's end, and again
for the BEGIN before them. A visit wakes two threads and costs more than most of the statements do.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import aiosqlite
from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_cursor
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)
from sqlalchemy.util import await_only

T = TypeVar("T")


class Cursor(AsyncAdapt_aiosqlite_cursor):
    """A statement and all its rows. sqlite3's own cursor lives in the thread, for one visit."""

    __slots__ = ("_description", "_lastrowid", "_rowcount")
    _adapt_connection: Connection

    def __init__(self, adapt_connection: Any) -> None:
        self._adapt_connection = adapt_connection
        self._rows = deque()
        self._description: Any = None
        self._rowcount, self._lastrowid = -1, 0

    @property
    def description(self) -> Any:
        return self._description

    @property
    def rowcount(self) -> int:
        return self._rowcount

    @property
    def lastrowid(self) -> int:
        return self._lastrowid

    def execute(self, operation: str, parameters: Any = None) -> None:
        self._visit(lambda cursor: cursor.execute(operation, parameters or ()))

    def executemany(self, operation: str, seq_of_parameters: Any) -> None:
        self._visit(lambda cursor: cursor.executemany(operation, seq_of_parameters))

    def _visit(self, statement: Callable[[sqlite3.Cursor], object]) -> None:
        def visit(connection: sqlite3.Connection) -> tuple[list[Any], Any, int, int]:
            cursor = connection.cursor()
            try:
                statement(cursor)
                rows = cursor.fetchall() if cursor.description else []
                return rows, cursor.description, cursor.rowcount, cursor.lastrowid or 0
            finally:
                cursor.close()

        rows, self._description, self._rowcount, self._lastrowid = self._adapt_connection.visit(visit)
        self._rows = deque(rows)

    async def _async_soft_close(self) -> None:
        """The rows stay, and nothing else is open."""

    def close(self) -> None:
        self._rows.clear()


class Connection(AsyncAdapt_aiosqlite_connection):
    """The BEGIN goes along with the first statement; without one, there is nothing to end either."""

    __slots__ = ("_due", "_open", "_write")
    _cursor_cls = Cursor

    def __init__(self, dbapi: Any, connection: Any) -> None:
        super().__init__(dbapi, connection)
        self._due = self._open = self._write = False

    def begin(self, *, write: bool) -> None:
        """A transaction, from the next statement on. One that writes takes the lock then, and not when it writes."""
        self._due, self._write = True, write

    def visit(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` answers in the connection's thread, after the BEGIN that is due. Raises what sqlite3 does."""
        begin = ""
        if self._due:
            # a deferred transaction that turns into a writer fails at once when another one wrote in between
            begin = "BEGIN IMMEDIATE" if self._write else "BEGIN"
            self._due, self._open = False, True

        def both() -> T:
            connection = self._connection._conn
            if begin:
                connection.rollback()  # nothing, unless a look that nobody waited for could not end
                connection.execute(begin)
            return work(connection)

        try:
            answer: T = await_only(self._connection._execute(both))
        except Exception as error:
            self._handle_exception(error)
        return answer

    def cursor(self, server_side: bool = False) -> AsyncAdapt_dbapi_cursor:
        if server_side:  # its rows come one by one, by SQLAlchemy's adapter
            self.visit(lambda _: None)
        return super().cursor(server_side)

    def commit(self) -> None:
        if self._open:
            super().commit()
        self._due = self._open = False

    def rollback(self) -> None:
        """Nobody waits for the end of a transaction that only looked."""
        if self._open and self._write:
            super().rollback()
        elif self._open and self._connection._connection:
            self._connection._tx.put_nowait((None, self._connection._conn.rollback))
        self._due = self._open = False


class Driver(AsyncAdapt_aiosqlite_dbapi):
    """What `create_async_engine(module=…)` takes."""

    def __init__(self) -> None:
        super().__init__(aiosqlite, sqlite3)

    def connect(self, *arg: Any, **kw: Any) -> Connection:
        return Connection(self, super().connect(*arg, **kw)._connection)
