"""A core's file is known again by its bytes, and by nothing else about it."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from collector.identify import fingerprint
from collector.local_file import LocalFile
from collector.outbox import Outbox
from collector.pack import pack
from collector.pieces import BLOCK, PIECE
from tests.standins.shipping import Depot
from tools.cores.packing import unpacked

HEAD, FAR = b"head" * 5000, b"far" * BLOCK


def _core(path: Path, *, holes: bool = True) -> Path:
    """Data, a long stretch of zeros, and data that begin and end in the middle of a block."""
    gap = 7 * PIECE + 12_345
    with path.open("wb") as file:
        file.write(HEAD)
        if holes:
            file.seek(gap, os.SEEK_CUR)
        else:
            file.write(bytes(gap))
        file.write(FAR)
        file.truncate(file.tell() + 3 * BLOCK + 17)
    return path


def _plain(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()


def _holds(path: Path, seal: str, target: Path) -> bool | None:
    with path.open("rb") as file:
        return pack(file.fileno(), target, level=1, ring=None, reserve=0, seal=seal).sealed


def test_hash_and_bytes_are_those_of_the_whole_file(tmp_path: Path) -> None:
    for name, path in (("sparse", _core(tmp_path / "a")), ("dense", _core(tmp_path / "b", holes=False))):
        content = path.read_bytes()
        assert fingerprint(path)[0] == hashlib.sha256(content).hexdigest()
        with path.open("rb") as file:
            packed = pack(file.fileno(), tmp_path / name, level=1, ring=None, reserve=0)
        assert packed.plain_sha256 == hashlib.sha256(content).hexdigest()
        assert _plain((tmp_path / name).read_bytes()) == content


@pytest.mark.parametrize("hole", [0, 1, PIECE, (4 << 20) - 1, (4 << 20) + 1, (13 << 20) + 5 * PIECE + 77])
def test_holes_of_any_length_come_back_as_zeros(tmp_path: Path, hole: int) -> None:
    """Packed once by ourselves and unpacked by zstd's own program, by our reader, and from the holes' own frames."""
    path = tmp_path / "core"
    with path.open("wb") as file:
        for _ in range(3):
            file.write(HEAD)
            file.seek(hole, os.SEEK_CUR)
        file.truncate()
    with path.open("rb") as file:
        packed = pack(file.fileno(), tmp_path / "core.zst", level=1, ring=None, reserve=0)
    content = path.read_bytes()
    assert packed.plain_sha256 == hashlib.sha256(content).hexdigest()
    assert packed.size < len(HEAD) * 3 + hole // 1000
    assert _plain((tmp_path / "core.zst").read_bytes()) == content
    done = subprocess.run(["zstd", "-dc", str(tmp_path / "core.zst")], capture_output=True, check=True, timeout=60)
    assert done.stdout == content
    with (tmp_path / "core.zst").open("rb") as file:
        reader = unpacked("zstd", file, pytest.fail)
        assert b"".join(iter(lambda: reader.read(1 << 20), b"")) == content


def test_a_seal_holds_whatever_zeros_are_holes(tmp_path: Path) -> None:
    sparse, dense = _core(tmp_path / "sparse"), _core(tmp_path / "dense", holes=False)
    assert sparse.stat().st_blocks < dense.stat().st_blocks
    seal = fingerprint(sparse)[1]
    assert _holds(sparse, seal, tmp_path / "1") and _holds(dense, seal, tmp_path / "2")
    assert fingerprint(sparse)[1] != seal, "each has a key of its own"


@pytest.mark.parametrize("change", ["a bit", "zeros", "moved", "swapped blocks", "longer", "shorter"])
def test_other_bytes_break_it(tmp_path: Path, change: str) -> None:
    path = _core(tmp_path / "core")
    seal = fingerprint(path)[1]
    content = bytearray(path.read_bytes())
    at = content.index(b"far") + 2 * BLOCK
    at -= at % BLOCK
    if change == "a bit":
        content[at] ^= 1
    elif change == "zeros":
        content[at : at + BLOCK] = bytes(BLOCK)
    elif change == "moved":
        content = content[BLOCK:] + bytes(BLOCK)
    elif change == "swapped blocks":
        other = slice(at - BLOCK, at)
        content[at : at + BLOCK], content[other] = bytes(content[other]), bytes(content[at : at + BLOCK])
    else:
        content = content + bytes(BLOCK) if change == "longer" else content[:-BLOCK]
    assert content != path.read_bytes()
    path.write_bytes(content)
    assert _holds(path, seal, tmp_path / "packed") is False


async def test_a_sealed_core_is_stored_and_one_that_was_rewritten_is_not(tmp_path: Path) -> None:
    depot = Depot(tmp_path, full_core="always")
    same, other = _core(depot.folder / "cores/same"), _core(depot.folder / "cores/other")
    for path in (same, other):
        file = replace(LocalFile.at(path), seal=fingerprint(path)[1])
        depot.outbox.add(depot.record(path, f"core_{path.name}"), file)
    content, times = other.read_bytes(), other.stat()
    other.write_bytes(content[:-1] + b"!")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    await depot.ship()
    told = {record.id: record for record in depot.told}
    assert "was written to after it was collected" in (told["core_other"].lost or "")
    [whole] = told["core_same"].stored
    assert _plain(depot.objects()[whole.key]) == content
    assert f"/{hashlib.sha256(content).hexdigest()}.core" in whole.key
    assert other.exists() and depot.left_over() == []


def test_an_outbox_from_before_there_were_seals_goes_on(tmp_path: Path) -> None:
    depot = Depot(tmp_path)
    path = _core(depot.folder / "cores/core")
    depot.outbox.add(depot.record(path), LocalFile.at(path))
    depot.outbox.close()
    database = sqlite3.connect(tmp_path / "agent/outbox.db")
    database.execute("DROP TABLE seals")
    database.close()
    depot.outbox = Outbox(tmp_path / "agent/outbox.db")
    file = depot.outbox.item("core_1").file
    assert file == LocalFile.at(path) and file.seal is None
    sealed = replace(LocalFile.at(path), seal=fingerprint(path)[1])
    depot.outbox.add(depot.record(path, "core_2"), sealed)
    file = depot.outbox.item("core_2").file
    assert file is not None and file.seal == sealed.seal
