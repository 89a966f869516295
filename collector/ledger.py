"""What the agent has dealt with already, kept over restarts: files that stay where they are, crashes without a core.

One small SQLite file of the agent's own. A file is known by device, inode, length and time of change, so that one that
was written again is looked at again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from collector.places import FoundFile
from errors import ToolFailed

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
  device TEXT, inode TEXT, size INTEGER, modified_ns INTEGER, record TEXT NOT NULL, place TEXT,
  signature TEXT, at REAL NOT NULL, PRIMARY KEY (device, inode, size, modified_ns)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_signature ON files (signature);
CREATE TABLE IF NOT EXISTS crashes (
  pod_uid TEXT, container TEXT, finished TEXT, record TEXT NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (pod_uid, container, finished)) WITHOUT ROWID;
"""
_KEEP_SECONDS = 30 * 86_400.0


class Ledger:
    """Blocking, and short: call it where a few milliseconds do not matter. Times are seconds since the epoch.

    Every method raises ToolFailed when the disk does not allow it.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises sqlite3.DatabaseError when it is no database."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def knows(self, file: FoundFile, now: float) -> bool:
        """Whether the file was dealt with. What is asked for is not forgotten: the file is still there."""
        this = "WHERE device=? AND inode=? AND size=? AND modified_ns=?"
        rows = self._run(f"SELECT at FROM files {this}", _key(file))  # noqa: S608 (a constant)
        if rows and rows[0][0] < now - _KEEP_SECONDS / 2:
            self._run(f"UPDATE files SET at=? {this}", (now, *_key(file)))  # noqa: S608
        return bool(rows)

    def note(self, file: FoundFile, record_id: str, signature: str | None, now: float) -> None:
        """The file was dealt with, as record `record_id`."""
        place = file.place
        where = f"{place.pod_uid or place.pod}/{place.container}" if place else None
        self._run(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*_key(file), record_id, where, signature, now),
        )

    def earlier(self, signature: str) -> int:
        """How many cores of this signature this node had."""
        return int(self._run("SELECT count(*) FROM files WHERE signature=?", (signature,))[0][0])

    def knows_crash(self, pod_uid: str, container: str, finished: datetime) -> bool:
        query = "SELECT 1 FROM crashes WHERE pod_uid=? AND container=? AND finished=?"
        return bool(self._run(query, (pod_uid, container, finished.isoformat())))

    def note_crash(self, pod_uid: str, container: str, finished: datetime, record_id: str, now: float) -> None:
        self._run(
            "INSERT OR REPLACE INTO crashes VALUES (?, ?, ?, ?, ?)",
            (pod_uid, container, finished.isoformat(), record_id, now),
        )

    def core_of_crash(self, pod_uid: str, container: str, finished: datetime, span_ns: tuple[int, int]) -> str | None:
        """The record of a core of this container that was written in this span (ns since the epoch).

        The one nearest to the end, of those that no other crash of the container has.
        """
        query = (
            "SELECT record FROM files WHERE place=? AND modified_ns BETWEEN ? AND ? AND record NOT IN"
            " (SELECT record FROM crashes WHERE pod_uid=? AND container=?) ORDER BY abs(modified_ns - ?) LIMIT 1"
        )
        ended = int(finished.timestamp() * 1e9)
        values = (f"{pod_uid}/{container}", *span_ns, pod_uid, container, ended)
        rows = self._run(query, values)
        return str(rows[0][0]) if rows else None

    def forget_old(self, now: float) -> None:
        """Drop what nobody will ask for any more, so that the file stays small."""
        for table in ("files", "crashes"):
            self._run(f"DELETE FROM {table} WHERE at < ?", (now - _KEEP_SECONDS,))  # noqa: S608 (two constants)

    def _run(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except (sqlite3.Error, OverflowError) as error:
            raise ToolFailed(f"what was dealt with cannot be looked up or noted: {error}") from None


def _key(file: FoundFile) -> tuple[str, str, int, int]:
    # SQLite's integers have a sign: device and inode numbers may need all 64 bits
    return str(file.device), str(file.inode), file.size, file.modified_ns
