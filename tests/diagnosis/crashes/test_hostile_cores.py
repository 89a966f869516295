"""Damaged and hostile cores: an answer or one clear error, quickly, and never an exception of ours."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diagnosis.crashes.classify import classify
from diagnosis.crashes.conclude import conclude
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import MAX_SEGMENTS
from diagnosis.crashes.link_map import loaded_names
from diagnosis.crashes.memory_causes import abort_message, thrown_object
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.report import Observed
from diagnosis.crashes.view import DebuggerView
from errors import UnusableCore
from incidents.models import CauseClass
from tests.standins import crashing
from tests.standins.core_mutations import mutate
from tools.gdb.resolve import in_root


def read_all(path: Path) -> str:
    """Everything that is read of a core without a debugger. Raises UnusableCore."""
    with CoreFile(path) as core:
        modules = Modules(core)
        loaded_names(core, modules)
        message, thrown = abort_message(core), thrown_object(core)
        classify(core, [], "mov eax,DWORD PTR [rax+0x18]", message, thrown)
        seen = Observed(
            core=core,
            sha256="0" * 64,
            modules=modules,
            matches={},
            files_used={},
            executable=None,
            executable_match="absent",
            message=message,
            thrown=thrown,
            view=DebuggerView(),
            soft_errors=(),
        )
        _, diagnosis, _ = conclude(seen)
        return diagnosis.model_dump_json()


@pytest.mark.gdb
@pytest.mark.parametrize(
    ("mode", "mutations"),
    [
        *(("null", 80), ("exception", 80)),
        *(pytest.param(mode, 400, marks=pytest.mark.generated) for mode in ("null", "exception")),
    ],
)
def test_mutated_cores(mode: str, mutations: int, tmp_path: Path) -> None:
    crashing.require_tools()
    original = crashing.core(mode)
    if not crashing.kernel_writes_cores():
        pytest.skip("the mutations know the layout of a core that the kernel wrote")
    answers = refusals = 0
    for seed in range(mutations):
        path = crashing.changed(original, tmp_path / "core", lambda data, seed=seed: mutate(data, random.Random(seed)))
        try:
            read_all(path)
            answers += 1
        except UnusableCore as error:
            assert str(error).isprintable()
            refusals += 1
    assert answers > mutations / 4  # most damage leaves something to say
    assert refusals > 5


def elf_header(*, kind: int = 4, phoff: int = 64, count: int = 1, entry_size: int = 56, bits: int = 2) -> bytes:
    fields = (kind, 62, 1, 0, phoff, 0, 0, 64, entry_size, count, 0, 0, 0)
    return b"\x7fELF" + bytes([bits, 1, 1]) + bytes(9) + struct.pack("<HHIQQQIHHHHHH", *fields)


def program_header(kind: int, offset: int, size: int) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, 4, offset, 0, 0, size, size, 1)


def note(kind: int, data: bytes, owner: bytes = b"CORE\0") -> bytes:
    padded = owner + bytes(-len(owner) % 4)
    return struct.pack("<III", len(owner), len(data), kind) + padded + data + bytes(-len(data) % 4)


@pytest.mark.parametrize(
    "data",
    [
        elf_header(),
        elf_header(count=0),
        elf_header(count=65535),
        elf_header(count=60000, entry_size=65535),
        elf_header(entry_size=0) + program_header(4, 120, 64),
        elf_header(phoff=2**64 - 1) + bytes(200),
        elf_header(bits=1) + bytes(200),
        elf_header() + program_header(4, 2**64 - 1, 2**64 - 1),
        elf_header() + program_header(4, 120, 2**40) + note(1, bytes(336))[:100],
        elf_header() + program_header(4, 120, 16) + struct.pack("<III", 2**32 - 1, 2**32 - 1, 1) + bytes(4),
        elf_header() + program_header(1, 120, 16) + bytes(16),
    ],
)
def test_headers_that_promise_what_is_not_there(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "core"
    path.write_bytes(data)
    with pytest.raises(UnusableCore):
        read_all(path)


def test_counts_are_capped(tmp_path: Path) -> None:
    """PN_XNUM leads to a count of four billion program headers."""
    path = tmp_path / "core"
    section = bytes(44) + struct.pack("<I", 2**32 - 1) + bytes(16)
    header = bytearray(elf_header(count=65535))
    struct.pack_into("<Q", header, 40, 64)
    path.write_bytes(bytes(header) + section)
    with pytest.raises(UnusableCore, match=f"more than {MAX_SEGMENTS}"):
        CoreFile(path)


def test_nt_file_with_an_absurd_count_is_left_out(tmp_path: Path) -> None:
    files = struct.pack("<QQ", 2**63, 4096) + bytes(64)
    notes = note(1, bytes(336)) + note(0x46494C45, files) + note(0x53494749, bytes(4)) + note(6, b"\1" * 7)
    path = tmp_path / "core"
    path.write_bytes(elf_header() + program_header(4, 120, len(notes)) + notes)
    with CoreFile(path) as core:
        assert core.files == []
        assert core.signal is None
    assert CauseClass.UNKNOWN in read_all(path)


@given(st.binary(max_size=2000))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_notes_at_all(tmp_path: Path, data: bytes) -> None:
    notes = note(1, bytes(336)) + data
    path = tmp_path / "core"
    path.write_bytes(elf_header() + program_header(4, 120, len(notes)) + notes)
    read_all(path)


def test_paths_stay_inside_a_sysroot(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/libc.so.6").write_text("inside")
    (root / "lib").symlink_to("usr/lib")
    (root / "abs").symlink_to("/usr/lib/libc.so.6")
    (root / "up").symlink_to("../../../../../../etc/passwd")
    (root / "loop").symlink_to("loop")
    inside = root / "usr/lib/libc.so.6"
    assert in_root(root, "/lib/libc.so.6") == inside
    assert in_root(root, "/usr/lib/libc.so.6 (deleted)") == inside
    assert in_root(root, "/abs") == inside  # as the container saw it, not this machine's
    for path in ("/up", "/loop", "/lib", "/usr/../../etc/passwd", "etc/passwd", "", "/", "/nothing", "/\0"):
        assert in_root(root, path) is None
