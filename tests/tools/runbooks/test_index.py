"""The index keeps up with its folder, survives what happens to both, and leaves out what it must not read."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
from dataclasses import asdict
from pathlib import Path

import pytest

from errors import NotFound, ToolFailed
from tests.tools.runbooks.conftest import FILES, Make
from tools.runbooks.asking import question_of
from tools.runbooks.folder import Folder, Stamp
from tools.runbooks.index import Index, Update


def update(tmp_path: Path, folder: Path, *, thorough: bool = False, **options: int) -> Update:
    limits = {"max_files": 100, "max_bytes": 100_000} | options
    return Index(tmp_path / "data" / "runbooks.db").update(Folder(folder, **limits), thorough=thorough)


async def paths(make: Make, text: str) -> list[str]:
    return [hit.passage.path for hit in (await make().search(question_of(text), limit=5)).hits]


async def test_changes_are_seen_at_the_next_search(make: Make, folder: Path) -> None:
    assert await paths(make, "kafka") == []
    (folder / "kafka.md").write_text("# Kafka lag\nLook at the consumer.\n")
    assert await paths(make, "kafka") == ["kafka.md"]
    # the same size, within the same tick of the clock
    (folder / "kafka.md").write_text("# Pulsar lg\nLook at the consumer.\n")
    assert (await paths(make, "kafka"), await paths(make, "pulsar")) == (["kafka.md"], ["kafka.md"])
    (folder / "kafka.md").rename(folder / "queues.md")
    assert await paths(make, "pulsar") == ["queues.md"]
    (folder / "queues.md").unlink()
    assert await paths(make, "pulsar") == []


def test_only_what_changed_is_indexed(tmp_path: Path, folder: Path) -> None:
    first = update(tmp_path, folder)
    assert (first.files, first.changed, first.removed, first.problems) == (len(FILES), len(FILES), 0, [])
    assert update(tmp_path, folder).changed == 0
    assert update(tmp_path, folder, thorough=True).changed == 0, "hashes are the same"
    (folder / "cart.md").touch()
    assert update(tmp_path, folder).changed == 0
    (folder / "cart.md").write_text("# Cart\nnew")
    (folder / "memory.md").unlink()
    second = update(tmp_path, folder)
    assert (second.changed, second.removed) == (1, 1)


@pytest.mark.parametrize(("seconds", "changed"), [(1, 1), (3, 0)])
def test_a_file_read_right_after_a_change_is_read_again(
    tmp_path: Path, folder: Path, seconds: int, changed: int
) -> None:
    """A second change within one tick of the file system's clock leaves the stamp as it was."""
    update(tmp_path, folder)
    (folder / "cart.md").write_text("# Cart changed")
    status = (folder / "cart.md").stat()
    stamp = Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    with sqlite3.connect(tmp_path / "data" / "runbooks.db") as connection:
        row = (json.dumps(asdict(stamp)), status.st_ctime_ns + seconds * 10**9)
        connection.execute("UPDATE files SET stamp = ?, read_ns = ? WHERE path = 'cart.md'", row)
    connection.close()
    assert update(tmp_path, folder).changed == changed


def test_files_that_are_not_read_are_named(tmp_path: Path, folder: Path) -> None:
    outside = tmp_path / "outside.md"
    outside.write_text("# Secret kafka")
    (folder / "link.md").symlink_to(outside)
    (folder / "away").symlink_to(tmp_path)
    (folder / "dangling.md").symlink_to(folder / "nothing.md")
    (folder / "big.md").write_text("x" * 100_001)
    (folder / "gbk.md").write_bytes("磁盘".encode("gbk"))
    (folder / "binary.md").write_bytes(b"\x7fELF\0\0")
    (folder / "line\nbreak.md").write_text("x")
    (folder / ".hidden.md").write_text("# kafka")
    os.mkfifo(folder / "pipe.md")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket.md"))
    (folder / os.fsdecode(b"caf\xe9.md")).write_text("x")
    problems = dict(item.split(": ", 1) for item in update(tmp_path, folder).problems)
    assert problems == {
        "link.md": "it leads out of the folder",
        "dangling.md": "it cannot be read: No such file or directory",
        "big.md": "it is larger than runbooks.max_bytes (100000)",
        "gbk.md": "it is not in UTF-8",
        "binary.md": "it is no text",
        "line\\nbreak.md": "its name has characters that cannot be shown",
        "caf\\udce9.md": "its name has characters that cannot be shown",
        "pipe.md": "it is no file",
        "socket.md": "it cannot be read: No such device or address",
    }
    assert update(tmp_path, folder).changed == 0
    with sqlite3.connect(tmp_path / "data" / "runbooks.db") as connection:
        assert not connection.execute("SELECT 1 FROM passages WHERE text LIKE '%kafka%'").fetchall()
    connection.close()


async def test_links_inside_are_followed_once(make: Make, folder: Path) -> None:
    """As a ConfigMap is mounted: the files are links into a folder whose name begins with two dots."""
    (folder / "..2026_01").mkdir()
    (folder / "..2026_01" / "kafka.md").write_text("# Kafka")
    (folder / "..data").symlink_to("..2026_01")
    (folder / "kafka.md").symlink_to("..data/kafka.md")
    (folder / "circle").symlink_to(".")
    (folder / "zh" / "up").symlink_to("..")
    assert await paths(make, "kafka") == ["kafka.md"]


def test_more_files_than_allowed(tmp_path: Path, folder: Path) -> None:
    found = update(tmp_path, folder, max_files=2)
    assert (found.files, found.problems) == (2, ["4 runbooks are left out: runbooks.max_files is 2"])


async def test_a_folder_that_went_leaves_what_was_read(make: Make, folder: Path, tmp_path: Path) -> None:
    runbooks = make()
    await runbooks.search(question_of("OOMKilled"), limit=1)
    folder.rename(tmp_path / "moved")
    answer = await runbooks.search(question_of("OOMKilled"), limit=1)
    assert answer.hits[0].passage.path == "memory.md"
    assert "cannot be read" in answer.notes[0] and "read of it before was searched" in answer.notes[0]
    with pytest.raises(NotFound):
        await runbooks.update()


async def test_a_damaged_index_is_made_anew(make: Make, tmp_path: Path) -> None:
    await make().update()
    database = tmp_path / "data" / "runbooks.db"
    database.write_bytes(b"no database at all" * 1000)
    assert await paths(make, "OOMKilled") == ["memory.md"]
    # damaged inside: noticed when the page is read, at the latest by the next search
    data = bytearray(database.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    database.write_bytes(data)
    try:
        await paths(make, "OOMKilled")
    except ToolFailed as error:
        assert "damaged" in str(error)
    assert await paths(make, "OOMKilled") == ["memory.md"]


async def test_an_index_of_another_version_is_made_anew(make: Make, tmp_path: Path) -> None:
    await make().update()
    with sqlite3.connect(tmp_path / "data" / "runbooks.db") as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("DROP TABLE vectors")
    connection.close()
    assert await paths(make, "OOMKilled") == ["memory.md"]


def test_an_index_that_cannot_be_written_is_one_error(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    with pytest.raises(ToolFailed, match="cannot be used"):
        update(tmp_path, folder)


def test_two_at_once(tmp_path: Path, folder: Path) -> None:
    """Threads with connections of their own are to SQLite what processes are."""
    for number in range(40):
        (folder / f"{number}.md").write_text(f"# Book {number}\nkafka {number}")
    errors: list[Exception] = []

    def run() -> None:
        try:
            for _ in range(3):
                update(tmp_path, folder, thorough=True)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    last = update(tmp_path, folder)
    assert (last.files, last.passages) == (46, 46)
