"""The index: passages and their words in SQLite, one file in the data directory that can be made anew at any time.

A file is read again when its stamp differs, or when it was read so soon after a change that the clock could hide
another one; it is indexed again when its content hash differs. Folder and files are read outside of any transaction,
what changed is written in one. Two processes may do so at once: both write the same.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from errors import ToolFailed
from tools.runbooks.folder import Content, Folder, Found, Unreadable
from tools.runbooks.passages import Parsed, Scope, parse
from tools.runbooks.words import TOKENIZER, indexed

_VERSION = 1
"""Of the tables and of how passages are cut. An index of another version is made anew."""
_RACY_NS = 2_000_000_000
_BUSY_SECONDS = 10.0
_TABLES = f"""
CREATE TABLE files (path TEXT PRIMARY KEY, stamp TEXT, read_ns INTEGER, sha256 TEXT, scope TEXT, problems TEXT);
CREATE TABLE passages (id INTEGER PRIMARY KEY, path TEXT, trail TEXT, first INTEGER, last INTEGER, text TEXT);
CREATE INDEX passages_path ON passages (path);
CREATE TABLE vectors (passage INTEGER PRIMARY KEY, model TEXT, vector BLOB);
CREATE VIRTUAL TABLE words USING fts5 (trail, body, tokenize = '{TOKENIZER}');
"""


@dataclass(frozen=True)
class Stored:
    """A passage in the index."""

    id: int
    path: str
    trail: tuple[str, ...]
    first: int
    last: int
    text: str
    scope: Scope

    @property
    def source(self) -> str:
        """`path.md#heading (lines a–b)`."""
        heading = f"#{self.trail[-1]}" if self.trail else ""
        return f"{self.path}{heading} (lines {self.first}–{self.last})"


@dataclass(frozen=True)
class Update:
    """What one look at the folder found. `problems` are sentences about files that are left out or half used."""

    files: int
    passages: int
    changed: int
    removed: int
    problems: list[str]


class Index:
    """Blocking: call it in a thread. Raises ToolFailed when its file cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def update(self, folder: Folder, *, thorough: bool = False) -> Update:
        """Bring the index to what the folder holds; `thorough` reads every file, whatever its stamp says.

        Raises NotFound when the folder is not there; the index stays as it was then.
        """
        found, note = folder.files()
        with self._open() as connection:
            known = {row["path"]: row for row in connection.execute("SELECT * FROM files")}
            reading = time.time_ns()
            changes = [change for item in found if (change := _change(folder, item, known.get(item.path), thorough))]
            gone = known.keys() - {item.path for item in found}
            if changes or gone:
                with _write(connection):
                    for path in gone:
                        _forget(connection, path)
                        connection.execute("DELETE FROM files WHERE path = ?", (path,))
                    for change in changes:
                        change.write(connection, reading)
            passages = connection.execute("SELECT count(*) FROM passages").fetchone()[0]
            problems = [
                f"{row['path']}: {problem}"
                for row in connection.execute("SELECT path, problems FROM files WHERE problems != '[]' ORDER BY path")
                for problem in json.loads(row["problems"])
            ]
        renewed = sum(change.parsed is not None for change in changes)
        return Update(len(found), passages, renewed, len(gone), [*problems, *([note] if note else [])])

    def matching(self, query: str) -> set[int]:
        """Ids of the passages that a query (made by `words.phrase`) matches."""
        with self._open() as connection:
            return {row[0] for row in connection.execute("SELECT rowid FROM words WHERE words MATCH ?", (query,))}

    def ranked(self, query: str, *, heading_weight: float, limit: int) -> list[int]:
        """Ids of the best passages for a query, best first, by Okapi BM25 (SQLite's own, k1 = 1.2, b = 0.75)."""
        sql = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words, ?, 1.0), rowid LIMIT ?"
        with self._open() as connection:
            return [row[0] for row in connection.execute(sql, (query, heading_weight, limit))]

    def count(self) -> int:
        with self._open() as connection:
            return int(connection.execute("SELECT count(*) FROM passages").fetchone()[0])

    def get(self, ids: list[int]) -> list[Stored]:
        """The passages of these ids, in their order; an id that is gone is left out."""
        sql = "SELECT p.*, f.scope FROM passages p JOIN files f ON f.path = p.path WHERE p.id = ?"
        with self._open() as connection:
            rows = [connection.execute(sql, (number,)).fetchone() for number in ids]
        return [_stored(row) for row in rows if row is not None]

    def scoped(self) -> list[Stored]:
        """The first passage of every runbook that says what it is for."""
        sql = (
            "SELECT p.*, f.scope, min(p.first) FROM passages p JOIN files f ON f.path = p.path"
            " WHERE f.scope != '{}' GROUP BY p.path ORDER BY p.path"
        )
        with self._open() as connection:
            return [_stored(row) for row in connection.execute(sql)]

    def without_vector(self, model: str, limit: int) -> list[Stored]:
        sql = (
            "SELECT p.*, f.scope FROM passages p JOIN files f ON f.path = p.path"
            " LEFT JOIN vectors v ON v.passage = p.id AND v.model = ? WHERE v.passage IS NULL ORDER BY p.id LIMIT ?"
        )
        with self._open() as connection:
            return [_stored(row) for row in connection.execute(sql, (model, limit))]

    def keep_vectors(self, model: str, vectors: dict[int, bytes]) -> None:
        """Of passages that are still there."""
        sql = "INSERT OR REPLACE INTO vectors SELECT id, ?, ? FROM passages WHERE id = ?"
        with self._open() as connection, _write(connection):
            connection.executemany(sql, [(model, vector, number) for number, vector in vectors.items()])

    def vectors(self, model: str) -> list[tuple[int, bytes]]:
        with self._open() as connection:
            return connection.execute("SELECT passage, vector FROM vectors WHERE model = ?", (model,)).fetchall()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection to a sound index. A damaged file is thrown away: everything in it can be read again."""
        try:
            try:
                connection = self._connect()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                self._discard()
                connection = self._connect()
            with closing(connection):
                yield connection
        except sqlite3.OperationalError as error:
            raise ToolFailed(f"the index of the runbooks at {self.path} cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            self._discard()
            raise ToolFailed(
                f"the index of the runbooks at {self.path} was damaged and is made anew: {error}"
            ) from error
        except OSError as error:
            raise ToolFailed(f"the index of the runbooks at {self.path} cannot be used: {error.strerror}") from error

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA synchronous = NORMAL")
            if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                _make(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _discard(self) -> None:
        """Remove a damaged file, once, however many processes find it damaged."""
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                with closing(self._connect()) as connection:
                    if connection.execute("PRAGMA quick_check").fetchone()[0] == "ok":
                        return
            except sqlite3.OperationalError:  # busy or out of space: not damaged
                return
            except sqlite3.DatabaseError:
                pass
            for suffix in ("", "-journal"):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)


@dataclass(frozen=True)
class _Change:
    """What is to be written about one file. `parsed` is None when its content is what it was, or cannot be used."""

    found: Found
    content: Content | None
    parsed: Parsed | None
    problems: list[str] | None
    """None: as they were."""

    def write(self, connection: sqlite3.Connection, read_ns: int) -> None:
        path = self.found.path
        stamp = self.content.stamp if self.content else self.found.stamp
        if self.problems is None and self.parsed is None:
            sql = "UPDATE files SET stamp = ?, read_ns = ? WHERE path = ?"
            connection.execute(sql, (_json(stamp), read_ns, path))
            return
        _forget(connection, path)
        scope = {key: value for key, value in asdict(self.parsed.scope).items() if value} if self.parsed else {}
        connection.execute(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)",
            (
                path,
                _json(stamp),
                read_ns,
                self.content.sha256 if self.content else None,
                json.dumps(scope),
                json.dumps(self.problems or []),
            ),
        )
        stem = path.rpartition(".")[0]
        for passage in self.parsed.passages if self.parsed else ():
            row = (path, json.dumps(passage.trail), passage.first, passage.last, passage.text)
            sql = "INSERT INTO passages (path, trail, first, last, text) VALUES (?, ?, ?, ?, ?)"
            number = connection.execute(sql, row).lastrowid
            words = (number, indexed(" / ".join((stem, *passage.trail))), indexed(passage.text))
            connection.execute("INSERT INTO words (rowid, trail, body) VALUES (?, ?, ?)", words)


def _change(folder: Folder, found: Found, known: sqlite3.Row | None, thorough: bool) -> _Change | None:
    """What has to be written about a file, if anything."""
    if found.stamp is None:
        problems = [found.problem or "it cannot be read"]
        same = known is not None and json.loads(known["problems"]) == problems
        return None if same else _Change(found, None, None, problems)
    if known is not None and not thorough and known["stamp"] == _json(found.stamp):
        youngest = max(found.stamp.mtime_ns, found.stamp.ctime_ns)
        if known["read_ns"] - youngest > _RACY_NS:
            return None
    try:
        content = folder.read(found.path)
    except Unreadable as error:
        return _Change(found, None, None, [str(error)])
    if known is not None and known["sha256"] == content.sha256:
        return _Change(found, content, None, None)
    parsed = parse(content.text)
    return _Change(found, content, parsed, list(parsed.problems))


def _make(connection: sqlite3.Connection) -> None:
    with _write(connection):
        if connection.execute("PRAGMA user_version").fetchone()[0] == _VERSION:
            return  # another process was quicker
        for name in ("files", "passages", "vectors", "words"):
            connection.execute(f"DROP TABLE IF EXISTS {name}")
        for statement in _TABLES.strip().split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_VERSION}")


@contextmanager
def _write(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _forget(connection: sqlite3.Connection, path: str) -> None:
    """All passages of a file."""
    of_file = "(SELECT id FROM passages WHERE path = ?)"
    connection.execute(f"DELETE FROM words WHERE rowid IN {of_file}", (path,))  # noqa: S608
    connection.execute(f"DELETE FROM vectors WHERE passage IN {of_file}", (path,))  # noqa: S608
    connection.execute("DELETE FROM passages WHERE path = ?", (path,))


def _stored(row: sqlite3.Row) -> Stored:
    scope = Scope(**{key: tuple(value) for key, value in json.loads(row["scope"]).items()})
    trail = tuple(json.loads(row["trail"]))
    return Stored(row["id"], row["path"], trail, row["first"], row["last"], row["text"], scope)


def _json(stamp: object) -> str:
    return json.dumps(asdict(stamp)) if stamp is not None else "null"  # type: ignore[call-overload]
