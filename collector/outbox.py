"""The agent's outbox: every collected core, and how far it has come, in one SQLite file of the agent's own.

    collected → reduced → uploading → stored → announced → removed

Each step does its work first and notes it afterwards, and can be done again: a kill at any point repeats at most one
step, to the same end. What could not be kept goes the same way with `lost` in its record: a loss is announced too.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from collector.local_file import Disposal, LocalFile
from collector.reduce import Program, Staged, group_of
from errors import InvalidInput, NotFound, ToolFailed
from incidents.collected import CollectedCore, Completeness, StoredObject

_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
  id TEXT PRIMARY KEY, record TEXT NOT NULL, state TEXT NOT NULL, value REAL, added_at REAL NOT NULL,
  path BLOB, device TEXT, inode TEXT, size INTEGER, modified_ns INTEGER, disposal TEXT,
  programs TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_by_state ON items (state);
CREATE TABLE IF NOT EXISTS objects (
  item TEXT NOT NULL REFERENCES items ON DELETE CASCADE, key TEXT NOT NULL, staged TEXT NOT NULL, upload TEXT,
  stored INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (item, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS twins (
  item TEXT NOT NULL REFERENCES items ON DELETE CASCADE, path BLOB, device TEXT, inode TEXT, size INTEGER,
  modified_ns INTEGER, PRIMARY KEY (item, device, inode)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS programs (key TEXT PRIMARY KEY, object TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS groups (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seals (
  item TEXT PRIMARY KEY REFERENCES items ON DELETE CASCADE, seal TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS handled (
  item TEXT PRIMARY KEY REFERENCES items ON DELETE CASCADE, at REAL NOT NULL, outcome TEXT) WITHOUT ROWID;
"""

_MOST_CHECKED = 1000


class State(StrEnum):
    COLLECTED = "collected"
    REDUCED = "reduced"
    UPLOADING = "uploading"
    STORED = "stored"
    ANNOUNCED = "announced"
    REMOVED = "removed"


@dataclass(frozen=True)
class Item:
    """One core. `file` is None for a crash that left none; `disposal` overrules the setting when it was given up."""

    record: CollectedCore
    state: State
    file: LocalFile | None
    programs: list[Program]
    disposal: Disposal | None

    @property
    def id(self) -> str:
        return self.record.id


@dataclass(frozen=True)
class Pending:
    """One object of an item; `upload` is what is known of its upload under way."""

    staged: Staged
    upload: str | None
    stored: bool


class Outbox:
    """Blocking, and short: call it in a thread. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises ToolFailed when it is no database of ours."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise ToolFailed(f"the outbox {path.name} cannot be opened: {error}") from None
        self._path, self._inode = path, path.stat().st_ino

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def add(self, record: CollectedCore, file: LocalFile | None, programs: Sequence[Program] = ()) -> None:
        """Take a core, for good; one that is known by its record's id is left as it is, and its file goes with it.

        `file` is the very one that the record was made of, whatever stands in its place now; None for a crash without
        one. Raises InvalidInput (its path leads through a symbolic link), ToolFailed (the disk).
        """
        if "/" in record.id or record.id.startswith(".") or not record.id:
            raise InvalidInput("the record's id is not one of ours")
        if file is not None and file.path.parent.resolve() != file.path.parent.absolute():
            raise InvalidInput("the core's path leads through a symbolic link")
        told = [{**asdict(program), "path": str(program.path)} for program in programs]
        place = _columns(file) if file else [None] * 5
        with self._write() as db:
            added = db.execute(
                "INSERT OR IGNORE INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    record.id,
                    record.model_dump_json(),
                    State.COLLECTED,
                    record.value,
                    time.time(),
                    *place,
                    "keep" if record.completeness is Completeness.NOT_A_CORE else None,
                    json.dumps(told),
                ),
            )
            if file and file.seal and added.rowcount:
                db.execute("INSERT INTO seals VALUES (?, ?)", (record.id, file.seal))
            if file and not added.rowcount:  # a copy: the same bytes in the same container
                query = """INSERT OR REPLACE INTO twins SELECT ?, ?, ?, ?, ?, ? WHERE NOT EXISTS
                           (SELECT 1 FROM items
                            WHERE id=? AND path=? AND device=? AND inode=? AND size=? AND modified_ns=?)"""
                db.execute(query, (record.id, *place, record.id, *place))

    def unfinished(self) -> list[str]:
        """Ids of what is not done, the most valuable first, then the oldest."""
        query = "SELECT id FROM items WHERE state != ? ORDER BY value IS NULL, value DESC, added_at, id"
        return [row[0] for row in self._rows(query, (State.REMOVED,))]

    def least_valuable(self) -> list[Item]:
        """What has files here that are not stored, the least valuable first, then the newest."""
        query = """SELECT id FROM items WHERE state IN (?, ?, ?) AND path IS NOT NULL
                   ORDER BY value IS NOT NULL, value, added_at DESC, id"""
        rows = self._rows(query, (State.COLLECTED, State.REDUCED, State.UPLOADING))
        return self._readable(rows)

    def stored_here(self) -> list[Item]:
        """What the store has, and whose files are still here."""
        query = "SELECT id FROM items WHERE state IN (?, ?) AND path IS NOT NULL ORDER BY added_at"
        return self._readable(self._rows(query, (State.STORED, State.ANNOUNCED)))

    def is_done_with(self, file: LocalFile) -> bool:
        """Whether this very file was collected, and nothing more will be done with it."""
        query = """SELECT 1 FROM items WHERE state=? AND device=? AND inode=? AND size=? AND modified_ns=?"""
        values = State.REMOVED, str(file.device), str(file.inode), file.size, file.modified_ns
        return bool(self._rows(query, values))

    def emptied(self, file: LocalFile) -> bool:
        """Whether this is what is left of a core that was stored and then emptied: no new crash."""
        if file.size:
            return False
        query = """SELECT 1 FROM items WHERE path=? AND device=? AND inode=? AND disposal IS NULL AND state IN (?, ?, ?)
                   UNION ALL SELECT 1 FROM twins WHERE path=? AND device=? AND inode=?"""
        place = _columns(file)[:3]
        return bool(self._rows(query, (*place, State.STORED, State.ANNOUNCED, State.REMOVED, *place)))

    def item(self, id: str) -> Item:
        """Raises NotFound, ToolFailed (the row cannot be read)."""
        query = """SELECT record, state, path, device, inode, size, modified_ns, seal, disposal, programs
                   FROM items LEFT JOIN seals ON item=id WHERE id=?"""
        rows = self._rows(query, (id,))
        if not rows:
            raise NotFound(f"there is no {id} in the outbox")
        record, state, *place, disposal, programs = rows[0]
        try:
            return Item(
                CollectedCore.model_validate_json(record),
                State(state),
                _file(place) if place[0] else None,
                [Program(**{**told, "path": Path(told["path"])}) for told in json.loads(programs)],
                disposal,
            )
        except (ValidationError, ValueError, TypeError):
            raise ToolFailed(f"the outbox's row of {id} cannot be read") from None

    def twins(self, id: str) -> list[LocalFile]:
        """Further files with the very bytes of the core, of the same container."""
        rows = self._rows("SELECT path, device, inode, size, modified_ns FROM twins WHERE item=?", (id,))
        return [_file(row) for row in rows]

    def objects(self, id: str) -> list[Pending]:
        rows = self._rows("SELECT staged, upload, stored FROM objects WHERE item=? ORDER BY key", (id,))
        return [Pending(_staged(staged), upload, bool(stored)) for staged, upload, stored in rows]

    def damage(self) -> str | None:
        """What is wrong with the file, in words; None when it is whole. Reads all of it. Raises ToolFailed."""
        try:
            if self._path.stat().st_ino != self._inode:
                return "another file stands in its place: start the agent again"
        except OSError as error:
            return f"its file is gone ({error.strerror}): start the agent again"
        told = self._rows("PRAGMA quick_check(1)", ())[0][0]
        if told != "ok":
            return f"{str(told)[:200]}: move the file away and start the agent again"
        damaged = 0
        for id in self.unfinished()[:_MOST_CHECKED]:
            try:
                self.item(id)
            except NotFound:  # done meanwhile
                continue
            except ToolFailed:
                damaged += 1
        return f"{damaged} of its rows cannot be read, and will never be sent" if damaged else None

    def counts(self) -> dict[str, int]:
        """Items by state."""
        return dict(self._rows("SELECT state, count(*) FROM items GROUP BY state", ()))

    def oldest(self) -> float | None:
        """When the longest waiting of what is not done was added, in seconds since the epoch."""
        rows = self._rows("SELECT min(added_at) FROM items WHERE state != ?", (State.REMOVED,))
        return float(rows[0][0]) if rows[0][0] is not None else None

    # each step, noted when its work is done

    def reduced(self, record: CollectedCore, staged: Sequence[Staged]) -> None:
        with self._write() as db:
            db.execute("DELETE FROM objects WHERE item=?", (record.id,))
            for one in staged:
                row = (record.id, one.key, json.dumps({**asdict(one), "path": str(one.path)}))
                db.execute("INSERT OR REPLACE INTO objects (item, key, staged) VALUES (?, ?, ?)", row)
            self._move(db, record, State.REDUCED)

    def uploading(self, id: str, key: str, upload: str) -> None:
        with self._write() as db:
            db.execute("UPDATE objects SET upload=? WHERE item=? AND key=?", (upload, id, key))
            db.execute("UPDATE items SET state=? WHERE id=? AND state=?", (State.UPLOADING, id, State.REDUCED))

    def object_stored(self, record: CollectedCore, stored: StoredObject) -> None:
        """One object is confirmed; `record` names it."""
        with self._write() as db:
            db.execute("UPDATE objects SET stored=1, upload=NULL WHERE item=? AND key=?", (record.id, stored.key))
            db.execute("UPDATE items SET record=? WHERE id=?", (record.model_dump_json(), record.id))
            if stored.build_id is not None:
                db.execute("INSERT OR REPLACE INTO programs VALUES (?, ?)", (stored.key, stored.model_dump_json()))

    def stored(self, record: CollectedCore) -> None:
        with self._write() as db:
            if any(one.kind == "full" for one in record.stored):
                db.execute("INSERT OR IGNORE INTO groups VALUES (?)", (group_of(record),))
            self._move(db, record, State.STORED)

    def announced(self, record: CollectedCore) -> None:
        with self._write() as db:
            self._move(db, record, State.ANNOUNCED)

    def removed(self, record: CollectedCore) -> None:
        with self._write() as db:
            db.execute("DELETE FROM objects WHERE item=?", (record.id,))
            self._move(db, record, State.REMOVED)

    def lose(self, record: CollectedCore, *, file_too: bool) -> None:
        """Nothing more of it will be stored: `record.lost` says why. With `file_too` its file goes as well."""
        with self._write() as db:
            db.execute("DELETE FROM objects WHERE item=?", (record.id,))
            db.execute("UPDATE items SET disposal=? WHERE id=?", ("remove" if file_too else "keep", record.id))
            self._move(db, record, State.STORED)

    def give_up_full(self, record: CollectedCore) -> None:
        """The whole core and its file go, the reduced one is still to be stored."""
        with self._write() as db:
            db.execute("DELETE FROM objects WHERE item=? AND json_extract(staged, '$.kind')='full'", (record.id,))
            db.execute("UPDATE items SET disposal='remove', record=? WHERE id=?", (record.model_dump_json(), record.id))

    def knows_group(self, record: CollectedCore) -> bool:
        """Whether a whole core of the same crash was stored from here."""
        return bool(self._rows("SELECT 1 FROM groups WHERE name=?", (group_of(record),)))

    def stored_program(self, key: str) -> StoredObject | None:
        rows = self._rows("SELECT object FROM programs WHERE key=?", (key,))
        return StoredObject.model_validate_json(rows[0][0]) if rows else None

    # the team's own program: at most once a core, also over a kill

    def was_handled(self, id: str) -> bool:
        """Whether it was begun, however it ended."""
        return bool(self._rows("SELECT 1 FROM handled WHERE item=?", (id,)))

    def begin_handling(self, id: str) -> bool:
        """False when it was begun before."""
        with self._write() as db:
            return db.execute("INSERT OR IGNORE INTO handled VALUES (?, ?, NULL)", (id, time.time())).rowcount == 1

    def end_handling(self, id: str, outcome: str) -> None:
        with self._write() as db:
            db.execute("UPDATE handled SET outcome=? WHERE item=?", (outcome, id))

    def forget(self, before: float) -> int:
        """Drop what was done and was added before `before` (seconds since the epoch); the number of items."""
        with self._write() as db:
            return db.execute("DELETE FROM items WHERE state=? AND added_at<?", (State.REMOVED, before)).rowcount

    def _move(self, db: sqlite3.Connection, record: CollectedCore, state: State) -> None:
        db.execute("UPDATE items SET record=?, state=? WHERE id=?", (record.model_dump_json(), state, record.id))

    def _readable(self, rows: list[tuple[Any, ...]]) -> list[Item]:
        found = []
        for row in rows:
            with contextlib.suppress(ToolFailed):  # a damaged row stands in nobody's way
                found.append(self.item(row[0]))
        return found

    def _rows(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except (sqlite3.Error, OverflowError) as error:
                raise ToolFailed(f"the outbox cannot be read: {error}") from None

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:  # a full disk has ended it already
                        self._db.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, OverflowError) as error:
                raise ToolFailed(f"the outbox cannot be written: {error}") from None


def _columns(file: LocalFile) -> list[Any]:
    # SQLite's integers have a sign: device and inode numbers may need all 64 bits
    return [os.fsencode(file.path), str(file.device), str(file.inode), file.size, file.modified_ns]


def _file(columns: Sequence[Any]) -> LocalFile:
    path, device, inode, size, modified, *seal = columns
    return LocalFile(Path(os.fsdecode(path)), int(device), int(inode), size, modified, *seal)


def _staged(text: str) -> Staged:
    told = json.loads(text)
    return Staged(**{**told, "path": Path(told["path"])})
