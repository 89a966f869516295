"""Our own unwinder against gdb's, on cores of real programs: compiled with and without what makes it easy."""

from __future__ import annotations

import json
import subprocess
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import ElfFile, FileBytes
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.sections import sections_of
from diagnosis.crashes.unwind.expression import BadExpression, evaluate
from diagnosis.crashes.unwind.stack import repeat_in
from diagnosis.crashes.unwind.symbols import functions_at
from diagnosis.crashes.unwind.walk import Walk, walk
from tests.standins import crashing
from tools.gdb.resolve import resolve

_GDB = """python
import json
found = {}
for thread in gdb.selected_inferior().threads():
    thread.switch()
    frame, pcs = gdb.newest_frame(), []
    while frame is not None and len(pcs) < 100:
        if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):  # these are on no stack
            pcs.append(frame.pc())
        frame = frame.older()
    found[thread.ptid[1]] = pcs
print("JSON", json.dumps(found))
end
"""
_RECORDS = """
#include <stdlib.h>
__attribute__((noinline)) int inner(int *p) { return *p; }
__attribute__((noinline)) int middle(int *p) { int n = inner(p); return n + 1; }
int outer(int *p) { int n = middle(p); return n + 1; }
int main(void) { return outer(getenv("NOT_THERE_AT_ALL") ? malloc(4) : 0); }
"""


@pytest.fixture(autouse=True)
def _tools() -> None:
    crashing.require_tools()


@contextmanager
def opened(core: Path, executable: Path | None) -> Iterator[tuple[CoreFile, Modules, dict[str, Path]]]:
    with CoreFile(core) as file:
        modules = Modules(file)
        found = resolve(file, modules, executable=executable, sysroot=None, debug_dirs=[], executable_dirs=[])
        try:
            yield file, modules, found.files
        finally:
            found.close()


def walked(core: Path, executable: Path) -> Walk:
    with opened(core, executable) as (file, modules, _):
        found = walk(file, modules)
        assert found is not None
        return found


def gdb_stacks(core: Path, executable: Path, where: Path) -> dict[int, list[int]]:
    script = where / "stacks.gdb"
    script.write_text(_GDB)
    options = ["-iex", "set debuginfod enabled off", "-iex", "set debug-file-directory /nonexistent"]
    options += ["-ex", "set backtrace past-main on"]
    command = ["gdb", "-batch", "-nx", *options, "-x", str(script), str(executable), str(core)]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    answer = next(line for line in text.splitlines() if line.startswith("JSON "))
    return {int(tid): pcs for tid, pcs in json.loads(answer[5:]).items()}


@cache
def records() -> tuple[Path, Path]:
    """A program with frame records and without call frame information, and its core."""
    source = crashing.folder() / "records.c"
    source.write_text(_RECORDS)
    program = source.with_suffix("")
    options = ["-O1", "-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-optimize-sibling-calls"]
    subprocess.run(["gcc", *options, "-Wl,--build-id", "-o", str(program), str(source)], check=True, timeout=60)
    return crashing.crash(program, [], crashing.folder() / "records-run"), program


@pytest.mark.parametrize(
    "mode",
    [
        "thread",
        "exception",
        "handled_abort",
        *(pytest.param(m, marks=pytest.mark.generated) for m in ("null", "overflow")),
    ],
)
def test_each_program_counter_of_each_thread_is_the_one_gdb_finds(mode: str, tmp_path: Path) -> None:
    core, program = crashing.core(mode), crashing.program()
    stacks = walked(core, program).stacks
    expected = gdb_stacks(core, program, tmp_path)
    assert set(stacks) == set(expected)
    for tid, pcs in expected.items():
        assert list(stacks[tid].pcs[:100]) == pcs


def test_optimised_and_stripped_code_is_walked_as_well(tmp_path: Path) -> None:
    program = crashing.program("shop-O2", "-O2", "-fomit-frame-pointer", "-s")
    core = crashing.core("thread", executable=program)
    stacks = walked(core, program).stacks
    for tid, pcs in gdb_stacks(core, program, tmp_path).items():
        assert list(stacks[tid].pcs[:100]) == pcs
        assert "scan" not in stacks[tid].counts()
    crashed = next(iter(stacks.values()))
    assert set(crashed.counts()) == {"context", "cfi"}


def test_a_deep_recursion_is_walked_to_its_end_and_counted() -> None:
    stack = next(iter(walked(crashing.core("overflow"), crashing.program()).stacks.values()))
    assert stack.end == "bottom"
    found = repeat_in(stack.pcs)
    assert found is not None
    assert found.period == 1
    assert found.count > 10_000
    assert len(stack.pcs) - found.end < 8


def test_a_signal_handlers_frame_leads_back_to_what_it_interrupted() -> None:
    stack = next(iter(walked(crashing.core("handled_abort"), crashing.program()).stacks.values()))
    assert len(stack.interrupted) == 1
    depth = stack.interrupted.pop()
    with opened(crashing.core("handled_abort"), crashing.program()) as (_, modules, files):
        names = functions_at([stack.pcs[depth]], modules, files)
    assert "total" in names[stack.pcs[depth]].function


def test_frame_records_lead_on_where_there_is_no_call_frame_information() -> None:
    core, program = records()
    stack = next(iter(walked(core, program).stacks.values()))
    with opened(core, program) as (_, modules, files):
        names = functions_at([stack.lookup(depth) for depth in range(len(stack.pcs))], modules, files)
    found = [names[at].function for depth in range(5) if (at := stack.lookup(depth)) in names]
    assert found[:4] == ["inner", "middle", "outer", "main"]
    assert [stack.trust(depth) for depth in range(4)] == ["context", *["frame_pointer"] * 3]


def test_behind_a_smashed_frame_callers_are_found_by_search_and_marked() -> None:
    stack = next(iter(walked(crashing.core("smash"), crashing.program()).stacks.values()))
    trusts = [stack.trust(depth) for depth in range(len(stack.pcs))]
    assert "scan" in trusts
    assert trusts.index("scan") > 3


def test_without_the_programs_file_the_walk_ends_honestly() -> None:
    with CoreFile(crashing.core("null")) as file:
        found = walk(file, Modules(file))
    assert found is not None
    stack = found.stacks[next(iter(found.stacks))]
    assert stack.trust(0) == "context"
    assert stack.end in ("unknown", "bottom")


def test_damaged_unwinding_information_is_never_an_error(tmp_path: Path) -> None:
    """Bytes of `.eh_frame` and its search table changed at random, in the file that is believed to be the program."""
    core, program = crashing.core("null"), crashing.program()
    with FileBytes(program) as file:
        sections = sections_of(ElfFile(file))
    original = program.read_bytes()
    for seed in range(60):
        data = bytearray(original)
        for name in (".eh_frame", ".eh_frame_hdr"):
            place = sections[name]
            for index in range(1 + seed % 7):
                at = place.offset + (seed * 7919 + index * 104729) % place.size
                data[at] = (seed * 31 + index * 17) % 256
        changed = tmp_path / "shop"
        changed.write_bytes(data)
        stacks = walked(core, changed).stacks
        assert all(1 <= len(stack.pcs) < 5000 for stack in stacks.values())


@given(st.binary(max_size=60), st.dictionaries(st.integers(0, 16), st.integers(0, 2**64 - 1)))
def test_any_expression_ends_with_a_number_or_one_error(program: bytes, registers: dict[int, int]) -> None:
    with suppress(BadExpression):
        assert 0 <= evaluate(program, registers, lambda address: address & 0xFF, 8) < 2**64


@given(st.integers(0, 20), st.integers(1, 12), st.integers(4, 400), st.integers(0, 20))
def test_a_repeated_block_is_found_with_its_period(before: int, period: int, count: int, after: int) -> None:
    pcs = array("Q", [*range(10_000, 10_000 + before), *list(range(period)) * count, *range(20_000, 20_000 + after)])
    found = repeat_in(pcs)
    if period * count < 24 or period * count < 3 * (before + after):
        return
    assert found is not None
    assert (found.first, found.period, found.count) == (before, period, count)
