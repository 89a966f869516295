"""The reduced core: gdb and our own analysis say the same of it as of the whole one, and the heap is gone."""

from __future__ import annotations

import io
import random
import shutil
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import zstandard

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.reduce.goroutines import goroutines
from errors import InvalidInput, ParamedicError, UnusableCore
from tests.standins import analysed, crashing
from tests.standins.core_mutations import mutate
from tools.cores.shrink import Shrunk, shrink
from tools.cores.sparse import Limits
from tools.cores.spool import Spool

ROOT = Path(__file__).parents[3]
LIMITS = Limits(disk_reserve=0)
ASKED = ("thread apply all bt", "info sharedlibrary", "info proc mappings", "p $_siginfo", "info registers")


def quiet(_: str) -> None:
    pass


def reduced(source: Path, target: Path) -> Shrunk:
    return shrink(source, target, LIMITS, quiet)


def debugger(executable: Path, core: Path) -> list[str]:
    asked = [part for command in ASKED for part in ("-ex", command)]
    plain = ["-iex", "set debuginfod enabled off", "-iex", "set debug-file-directory /nonexistent"]
    command = ["gdb", "-batch", "-nx", *plain, *asked, str(executable), str(core)]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout.splitlines()
    assert len(lines) > 40
    return lines


@cache
def store() -> tuple[Path, Path]:
    """The benchmark's server, small: 8 threads, 24 MB of heap."""
    crashing.require_tools()
    source = ROOT / "benchmarks" / "big_core.cpp"
    flags = ["-std=c++17", "-g", "-O1", "-Wl,--build-id"]
    executable = crashing.compiled("store", "g++", *flags, str(source), "-pthread")
    return executable, crashing.crash(executable, ["10", "24"], crashing.folder() / "store-run")


@pytest.mark.gdb
@pytest.mark.parametrize(
    "mode", ["thread", "overflow", "exception", pytest.param("double_free", marks=pytest.mark.generated)]
)
async def test_the_same_answers(mode: str, tmp_path: Path) -> None:
    crashing.require_tools()
    core, small = crashing.core(mode), tmp_path / "small"
    done = reduced(core, small)
    assert small.stat().st_size == done.reduced_size <= core.stat().st_size + 4096
    if mode == "thread":
        assert done.reduced_size < core.stat().st_size / 20
        assert debugger(crashing.program(), small) == debugger(crashing.program(), core)
    before = (await analysed.examined(core, crashing.program())).report
    after = (await analysed.examined(small, crashing.program())).report
    assert (before.core.minimised, after.core.minimised) == (False, True)
    for field in ("cause_class", "signature", "mechanism", "crash_line", "crash_info", "threads", "modules", "process"):
        assert getattr(after, field) == getattr(before, field), field


@pytest.mark.gdb
def test_the_heap_is_left_out_and_what_frames_show_of_it_is_kept(tmp_path: Path) -> None:
    executable, core = store()
    small = tmp_path / "small"
    done = reduced(core, small)
    assert debugger(executable, small) == debugger(executable, core)
    assert done.threads == 11
    text = small.read_bytes()
    assert len(text) < core.stat().st_size / 20
    assert text.count(b"INFO store request finished") < core.read_bytes().count(b"INFO store request finished") / 20
    with CoreFile(core) as whole, CoreFile(small) as opened:
        for module in Modules(whole).all:
            assert Modules(opened).by_path[module.path].build_id == module.build_id
        heap = max(whole.memory.segments, key=lambda segment: segment.filesz)
        middle = heap.vaddr + heap.filesz // 2
        assert len(whole.memory.read(middle, 16)) == 16
        assert opened.memory.read(middle, 16) == b""
        shown = opened.memory.segment(middle)
        assert shown is not None
        assert (shown.vaddr, shown.memsz, shown.flags) == (heap.vaddr, heap.memsz, heap.flags)
        assert opened.origin is not None
        assert opened.origin.size == core.stat().st_size
    again = tmp_path / "again"
    reduced(small, again)
    assert again.stat().st_size <= len(text) + 4096
    with CoreFile(again) as opened:
        assert opened.origin is not None
        assert opened.origin.size == core.stat().st_size
        assert opened.memory.segments == sorted(opened.origin.mappings, key=lambda mapping: mapping.vaddr)


GO = """package main
import "runtime/debug"
type order struct{ next *order; id int }
func wait(gate chan int, depth int) int { if depth > 0 { return wait(gate, depth-1) + depth }; return <-gate }
func main() {
	debug.SetTraceback("crash")
	gate, ready := make(chan int), make(chan int)
	for i := 0; i < 300; i++ { go func() { ready <- i; wait(gate, i) }() }
	for i := 0; i < 300; i++ { <-ready }
	heap := make([]order, 1<<20)
	println(heap[7].next.id)
}
"""


def test_goroutines_stay(tmp_path: Path) -> None:
    if shutil.which("go") is None:
        pytest.skip("go not installed: apt-get install golang-go")
    (tmp_path / "main.go").write_text(GO)
    executable = tmp_path / "waiting"
    command = ["go", "build", "-ldflags=-s", "-o", str(executable), str(tmp_path / "main.go")]
    subprocess.run(command, check=True, timeout=100)
    core, small = crashing.crash(executable, [], tmp_path / "run"), tmp_path / "small"
    done = reduced(core, small)
    assert done.reduced_size < core.stat().st_size / 8
    with CoreFile(core) as whole, CoreFile(small) as opened:
        data = [s for s in whole.memory.segments if s.writable and s.filesz and s.end < 1 << 32]
        ranges = list(goroutines(whole, data, []))
        assert len(ranges) > 2 * 300
        for start, end in ranges:
            assert opened.memory.read(start, end - start) == whole.memory.read(start, end - start)


@pytest.mark.gdb
def test_a_stream_gives_the_same_file_and_may_be_short_of_disk(tmp_path: Path) -> None:
    _, core = store()
    small = tmp_path / "small"
    reduced(core, small)
    out = io.BytesIO()
    with core.open("rb") as stream:
        shrink(stream, out, LIMITS, quiet, tmp_path)
    assert out.getvalue() == small.read_bytes()
    packed = io.BytesIO(zstandard.ZstdCompressor(level=1).compress(core.read_bytes()))
    out = io.BytesIO()
    shrink(packed, out, LIMITS, quiet, tmp_path)
    assert out.getvalue() == small.read_bytes()
    with Spool(tmp_path / "spool", LIMITS, spool_bytes=1 << 20) as spool, core.open("rb") as stream:
        assert spool.fill(stream) == core.stat().st_size
    assert spool.unavailable
    assert spool.path.stat().st_blocks * 512 < core.stat().st_size / 8
    with CoreFile(spool.path) as opened, CoreFile(core) as whole:
        for thread in whole.threads:  # the stacks are all there
            assert thread.sp is not None
            assert opened.memory.read(thread.sp, 4096) == whole.memory.read(thread.sp, 4096)
    assert {path.name for path in tmp_path.iterdir()} == {"small", "spool"}


@pytest.mark.gdb
def test_cut_off_and_damaged_cores(tmp_path: Path) -> None:
    crashing.require_tools()
    if not crashing.kernel_writes_cores():
        pytest.skip("the mutations know the layout of a core that the kernel wrote")
    original = crashing.core("null")
    size = original.stat().st_size
    for share in (0.2, 0.5, 0.9):
        cut = tmp_path / "cut"
        cut.write_bytes(original.read_bytes()[: int(size * share)])
        done = reduced(cut, tmp_path / "small")
        assert "truncated" in done.soft_errors[0]
        with CoreFile(tmp_path / "small") as opened:
            assert opened.missing_bytes == size - int(size * share)
    for seed in range(60):
        damaged = tmp_path / "damaged"
        data = bytearray(original.read_bytes())
        mutate(data, random.Random(seed))
        damaged.write_bytes(data)
        try:
            reduced(damaged, tmp_path / "small")
        except ParamedicError:
            continue
        with CoreFile(tmp_path / "small") as opened:
            assert opened.threads


def test_a_core_of_a_32_bit_big_endian_program(tmp_path: Path) -> None:
    """Layouts by word size and byte order; made by hand, for want of such a machine."""
    stack = random.Random(3).randbytes(8192)
    status = struct.pack(">3i h", 11, 0, 0, 11).ljust(24, b"\0") + struct.pack(">i", 77)
    note = struct.pack(">III", 5, 148, 1) + b"CORE\0\0\0\0" + status.ljust(148, b"\0")
    at = 52 + 3 * 32
    headers = [(4, at, 0, 0, len(note), 0, 0, 4), (1, at + len(note), 0x7000, 0, 8192, 8192, 6, 4096)]
    headers.append((1, 0, 0x9000, 0, 0, 4096, 5, 4096))
    data = b"\x7fELF\x01\x02\x01".ljust(16, b"\0") + struct.pack(
        ">HHIIIIIHHHHHH", 4, 8, 1, 0, 52, 0, 0, 52, 32, 3, 0, 0, 0
    )
    data += b"".join(struct.pack(">8I", *header) for header in headers) + note + stack
    (tmp_path / "core").write_bytes(data)
    reduced(tmp_path / "core", tmp_path / "small")
    with CoreFile(tmp_path / "small") as opened:
        assert [thread.tid for thread in opened.threads] == [77]
        assert opened.memory.read(0x7000, 8192) == stack
        assert [(s.vaddr, s.memsz, s.flags) for s in opened.memory.segments] == [(0x7000, 8192, 6), (0x9000, 4096, 5)]
        assert opened.origin is not None


@pytest.mark.gdb
def test_on_the_command_line(tmp_path: Path) -> None:
    crashing.require_tools()
    core = crashing.core("null")
    copy, out = tmp_path / "core", tmp_path / "small.zst"
    copy.write_bytes(core.read_bytes())

    def run(*arguments: object, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-c", "from cli import main; main()", "core", "shrink", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, timeout=100, check=False)

    done = run(copy, out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    assert b"notes and stacks of 1 thread" in done.stderr
    assert out.stat().st_mode & 0o777 == 0o600
    piped = run("-", "-", given=core.read_bytes())
    assert piped.returncode == 0, piped.stderr
    assert zstandard.ZstdDecompressor().stream_reader(out.read_bytes()).read() == piped.stdout
    done = run(copy, copy)
    assert done.returncode == 2
    assert done.stderr == b"paramedic: the reduced core would overwrite the core itself: name another file\n"
    assert copy.read_bytes() == core.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"core", "small.zst"}


def test_what_cannot_be_reduced_leaves_the_target_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("before")
    (tmp_path / "text").write_text("no core")
    with pytest.raises(UnusableCore):
        reduced(tmp_path / "text", target)
    (tmp_path / "link").symlink_to(target)
    for same in (target, tmp_path / "link"):
        with pytest.raises(InvalidInput, match="overwrite"):
            reduced(target, same)
    with pytest.raises(InvalidInput, match="is a folder"):
        reduced(target, tmp_path)
    with pytest.raises(InvalidInput, match="no such folder"):
        reduced(target, tmp_path / "none" / "small")
    with pytest.raises(UnusableCore, match="does not exist"):
        reduced(tmp_path / "none", target)
    assert target.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 3
