"""Cores as they come: packed by every common packer, in archives, cut off, or made to harm."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pytest
import zstandard

from diagnosis.crashes.core_file import CoreFile
from errors import InputTooLarge, ParamedicError, UnusableCore
from tests.standins import crashing
from tools.cores.plain import Unpacked
from tools.cores.sparse import Limits
from tools.cores.unpack import unpack

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda data: zstandard.ZstdCompressor(level=1, write_checksum=True).compress(data),
    "gzip": lambda data: gzip.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
    "lz4": lambda data: lz4.frame.compress(data, content_checksum=True),
    "bzip2": lambda data: bz2.compress(data, 1),  # blocks of 100 KB: what is cut off is lost block by block
}


@pytest.fixture(scope="module")
def core() -> bytes:
    crashing.require_tools()
    return crashing.core("null").read_bytes()


def unpacked(tmp_path: Path, data: bytes, limits: Limits = Limits(disk_reserve=0), name: str = "given") -> Unpacked:  # noqa: B008
    source, target = tmp_path / name, tmp_path / "target"
    source.write_bytes(data)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    found = unpack(source, target, limits)
    inside = [path for path in target.rglob("*") if path.is_file()]
    assert all(path.name in {"core"} | {str(number) for number in range(100)} for path in inside)
    assert {path.name for path in tmp_path.iterdir()} <= {name, "target"}
    return found


def tar(members: dict[str, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.gdb
@pytest.mark.parametrize("name", PACKERS)
def test_packed_whole_cut_off_and_damaged(name: str, core: bytes, tmp_path: Path) -> None:
    packed = PACKERS[name](core)
    whole = unpacked(tmp_path, packed)
    assert whole.core.read_bytes() == core
    assert (whole.compression, whole.soft_errors) == (name, ())
    two_frames = unpacked(tmp_path, PACKERS[name](core[:100_001]) + PACKERS[name](core[100_001:]))
    assert two_frames.core.read_bytes() == core
    cut = unpacked(tmp_path, packed[: len(packed) * 3 // 4])
    prefix = cut.core.read_bytes()
    assert core.startswith(prefix) and len(prefix) > 8192
    with CoreFile(cut.core) as opened:
        assert opened.missing_bytes == len(core) - len(prefix)
        assert opened.threads
    rubbish = bytearray(packed)
    rubbish[len(packed) // 2 : len(packed) // 2 + 200] = random.Random(1).randbytes(200)
    try:
        assert unpacked(tmp_path, bytes(rubbish)).soft_errors
    except UnusableCore as error:
        assert "holds no core dump" in str(error)  # (bzip2 loses the whole first block)


@pytest.mark.gdb
def test_zeros_become_holes(core: bytes, tmp_path: Path) -> None:
    found = unpacked(tmp_path, PACKERS["zstd"](core + bytes(300 << 20)))
    status = found.core.stat()
    assert status.st_size == len(core) + (300 << 20)
    assert status.st_blocks * 512 <= len(core) + (1 << 17)


@pytest.mark.gdb
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_core_in_an_archive_with_its_executable(core: bytes, tmp_path: Path, form: int) -> None:
    program = crashing.program().read_bytes()
    members = {
        "README": b"a crash of the shop\n" * 2000,
        "../../outside": b"no",
        "/etc/cron.d/outside": b"no",
        "bin/../../../shop": program,
        "a" * 300 + "/core.1234": core,
        "core.second": core,
    }
    for name, data in (("tar", tar(members, form)), ("zip", zipped(members))):
        found = unpacked(tmp_path, data)
        assert found.core.read_bytes() == core
        assert found.compression == name
        assert found.programs is not None
        assert [path.read_bytes() for path in found.programs.iterdir()] == [program]
        assert found.soft_errors == ("1 more cores in the archive are not read: only the first is",)
    found = unpacked(tmp_path, PACKERS["gzip"](tar({"core.zst": PACKERS["zstd"](core)}, form)))
    assert (found.core.read_bytes(), found.compression) == (core, "tar+gzip+zstd")
    found = unpacked(tmp_path, zipped({"run/core.lz4": PACKERS["lz4"](core), "pod.json": b"{}"}))
    assert (found.core.read_bytes(), found.compression) == (core, "zip+lz4")
    cut = unpacked(tmp_path, tar({"core": core}, form)[: len(core) // 2])
    assert core.startswith(cut.core.read_bytes()) and cut.core.stat().st_size > len(core) // 4
    assert "damaged" in cut.soft_errors[0]


@pytest.mark.gdb
def test_a_sparse_member_of_gnu_tar(core: bytes, tmp_path: Path) -> None:
    if shutil.which("tar") is None:
        pytest.skip("tar not installed: apt-get install tar")
    folder = tmp_path / "made"
    folder.mkdir()
    with (folder / "core").open("wb") as file:
        file.write(core)
        file.truncate(len(core) + (64 << 20))
    for form in ("gnu", "posix"):
        made = tmp_path / "given.tar"
        subprocess.run(["tar", f"--format={form}", "-S", "-C", str(folder), "-cf", str(made), "core"], check=True)
        assert made.stat().st_size < len(core) + (1 << 20)
        (tmp_path / form).mkdir()
        found = unpack(made, tmp_path / form, Limits(disk_reserve=0))
        with found.core.open("rb") as file:
            assert file.read(len(core)) == core
        assert found.core.stat().st_size == len(core) + (64 << 20)


def test_what_is_no_core_is_named(tmp_path: Path) -> None:
    for data, word in (
        (PACKERS["gzip"](b"2026-11-20 ERROR the shop crashed\n"), "text that starts with '2026-11-20"),
        (tar({"notes.txt": b"nothing here", "a.png": b"\x89PNG...."}), "'notes.txt' (text"),
        (zipped({"\x1b[31mred": b"x"}), r"'\x1b[31mred'"),
        (PACKERS["xz"](b""), "what is packed in it is empty"),
        (PACKERS["zstd"](PACKERS["zstd"](PACKERS["zstd"](PACKERS["zstd"](PACKERS["zstd"](b"x"))))), "packed with zstd"),
    ):
        with pytest.raises(UnusableCore) as caught:
            unpacked(tmp_path, data)
        assert word in str(caught.value)
    plain = unpacked(tmp_path, b"just text")
    assert plain == Unpacked(tmp_path / "given")
    with pytest.raises(UnusableCore, match="it is text that starts with 'just text'"):
        CoreFile(plain.core)


@pytest.mark.gdb
def test_bombs_end_at_the_limits(core: bytes, tmp_path: Path) -> None:
    limits = Limits(max_bytes=8 << 20, disk_reserve=0)
    bomb = core + bytes(64 << 20)
    for data in (*(PACKERS[name](bomb) for name in ("zstd", "gzip", "lz4")), zipped({"core": bomb})):
        with pytest.raises(InputTooLarge, match="8388608"):
            unpacked(tmp_path, data, limits)
    with pytest.raises(InputTooLarge, match=str(4 << 20)):
        unpacked(tmp_path, PACKERS["zstd"](bomb), Limits(ratio=1, floor=4 << 20, disk_reserve=0))
    before = tar({"first": bytes(64 << 20), "core": core})
    with pytest.raises(UnusableCore, match="more than is allowed"):
        unpacked(tmp_path, PACKERS["gzip"](before), limits)
    with pytest.raises(ParamedicError, match="nearly full"):
        unpacked(tmp_path, PACKERS["gzip"](core), Limits(disk_reserve=1 << 62))


@pytest.mark.gdb
def test_mutated_archives(core: bytes, tmp_path: Path) -> None:
    """What is packed or its packing is damaged anywhere: something honest comes out, or one clear error."""
    dice = random.Random(7)
    small = {"core": core[:150_000], "x" * 200: b"name", "shop": core[:100]}
    packings = [
        PACKERS["gzip"](tar(small)),
        tar(small, tarfile.PAX_FORMAT),
        zipped(small),
        *(packer(core[:150_000]) for packer in PACKERS.values()),
    ]
    for _ in range(120):
        data = bytearray(dice.choice(packings))
        for _ in range(dice.choice([1, 4, 60])):
            at = dice.randrange(dice.choice([600, len(data)]))
            data[min(at, len(data) - 1)] = dice.randrange(256)
        if dice.random() < 0.3:
            del data[dice.randrange(len(data)) :]
        try:
            unpacked(tmp_path, bytes(data), Limits(max_bytes=32 << 20, disk_reserve=0))
        except ParamedicError as error:
            assert str(error)
