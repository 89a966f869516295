"""Python processes that crash: functions, files and lines from the core's memory alone."""

from __future__ import annotations

import io
import os
import random
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from rich.console import Console

from diagnosis.crashes.causes.python.interpreter import Interpreter, interpreter_of
from diagnosis.crashes.causes.python.layouts import layout_of
from diagnosis.crashes.causes.python.stack import MAX_FRAMES, PyFrame, PythonStacks, python_stacks
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.export.markdown import to_markdown
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.recalled import recalled
from incidents.models import Diagnosis
from settings import GdbSettings
from terminal.crash_view import show_crash
from tests.standins import crashing, pythons
from tools.cores.shrink import shrink
from tools.cores.sparse import Limits
from tools.gdb.analysis import analyze_core, examine_core
from tools.gdb.resolve import resolve

VERSIONS = [f"3.{minor}" for minor in range(8, 14)]
OWN = {
    "quelle": "ausführen.<locals>.quelle",
    "genexpr": "ausführen.<locals>.<genexpr>",
    "lambda": "Wächter.fallen.<locals>.<lambda>",
    "fallen": "Wächter.fallen",
}
"""Qualified names; before 3.11 code objects have the last part only."""


@dataclass
class Opened:
    core: CoreFile
    modules: Modules
    files: dict[str, Path]

    def stacks(self) -> PythonStacks:
        found = python_stacks(self.core, self.modules, self.files)
        assert found is not None
        return found


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    with CoreFile(path) as core:
        modules = Modules(core)
        resolved = resolve(core, modules, executable=None, sysroot=None, debug_dirs=[], executable_dirs=[])
        try:
            yield Opened(core, modules, resolved.files)
        finally:
            resolved.close()


def calls(frames: list[PyFrame]) -> list[tuple[str, int | None]]:
    return [(frame.function, frame.line) for frame in frames]


def expected(python: Path, mode: str) -> list[tuple[str, int]]:
    qualified = int(pythons.version(python).split(".")[1]) >= 11

    def named(name: str) -> str:
        return OWN[name] if qualified else OWN[name].rsplit(".", 1)[-1]

    line = pythons.line_of
    return [
        ("ende", line(mode)),
        (named("quelle"), line("quelle")),
        (named("genexpr"), line("ausführen")),
        ("ausführen", line("ausführen")),
        (named("lambda"), line("lambda")),
        (named("fallen"), line("call")),
        *[(named("fallen"), line("fallen"))] * 3,
        ("<module>", line("module")),
    ]


CRASHES = [(which, mode) for which in ("system", "own") for mode in ("segv", "abort")]


@pytest.mark.parametrize(("which", "mode"), CRASHES + [(version, "segv") for version in VERSIONS])
def test_every_version_tells_its_functions_and_lines(which: str, mode: str) -> None:
    python = pythons.interpreter(which)
    with opened(pythons.core(python, mode)) as process:
        found = process.stacks()
    assert found.soft_errors == []
    assert pythons.version(python).startswith(found.version or "none")
    assert found.crashed is not None
    frames = found.crashed.frames
    if mode == "segv":
        assert (frames[0].function, (frames[0].file or "").endswith("ctypes/__init__.py")) == ("string_at", True)
        assert not frames.pop(0).in_app
    assert calls(frames) == expected(python, mode)
    assert [(name.rsplit(".", 1)[-1], line) for name, line in calls(frames)][1:] == pythons.told(python)[1:]
    assert {Path(frame.file or "").name for frame in frames} == {pythons.PROGRAM}
    assert all(frame.in_app for frame in frames)
    assert found.exception == "ValueError: prix: 12 €"
    assert [stack.tid != found.crashed.tid for stack in found.others] == [True]
    sleeping = [frame for frame in found.others[0].frames if frame.in_app]
    assert calls(sleeping) == [("schlafen", pythons.line_of("schlafen"))]


@pytest.mark.parametrize("which", ["own", "3.10", "3.13"])
def test_a_recursion_deeper_than_is_read_is_cut_and_says_so(which: str) -> None:
    with opened(pythons.core(pythons.interpreter(which), "deep")) as process:
        found = process.stacks().crashed
    assert found is not None
    assert (len(found.frames), found.truncated, found.broken) == (MAX_FRAMES, True, None)


async def test_the_report_shows_both_stacks_and_cites_the_memory() -> None:
    core = pythons.core(pythons.interpreter("system"), "segv")
    found = await analyze_core(core, executable=None, settings=GdbSettings())
    report, diagnosis = found.report, found.diagnosis
    line = pythons.line_of("segv")
    assert report.cause_class == "null_dereference"
    assert f"called from {pythons.PROGRAM}:{line} in ende" in (report.mechanism or "")
    assert "in Python: __init__.py:" in diagnosis.causes[0].summary
    assert any((frame.module or "").rpartition("/")[2].startswith("_ctypes") for frame in report.threads[0].frames)
    assert report.runtime is not None
    assert report.runtime.python is not None
    python = report.runtime.python
    assert [(frame.function, frame.line, frame.in_app) for frame in python.py_stack][1] == ("ende", line, True)
    assert (python.frame_count, python.truncated) == (len(python.py_stack), False)
    assert [thread.native_tid for thread in python.threads] == [report.threads[1].thread_id]
    assert python.exception == "ValueError: prix: 12 €"
    claim = next(item for item in diagnosis.findings if item.rule == "crash.python")
    evidence = {item.id: item for item in diagnosis.evidence}[claim.evidence_ids[0]]
    assert f'/{pythons.PROGRAM}", line {line}, in ende' in evidence.excerpt
    assert evidence.source.startswith("core memory at 0x")
    assert claim.id in diagnosis.causes[0].finding_ids
    for shown in (to_markdown(diagnosis), terminal(diagnosis)):
        assert f"ende at {python.py_stack[1].file}:{line}" in shown
        assert "3 calls" in shown
        assert f"{pythons.PROGRAM}:{pythons.line_of('schlafen')} in schlafen" in shown


def terminal(diagnosis: Diagnosis) -> str:
    console = Console(width=1000, file=io.StringIO())
    show_crash(console, diagnosis)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def test_a_process_without_python_has_none() -> None:
    with opened(crashing.core("abort")) as process:
        assert python_stacks(process.core, process.modules, process.files) is None


def test_without_the_interpreters_file_the_report_says_what_is_missing() -> None:
    with opened(pythons.core(pythons.interpreter("own"), "abort")) as process:
        found = python_stacks(process.core, process.modules, {})
    assert found is not None
    assert (found.version, found.crashed) == (None, None)
    assert "is not at hand" in found.soft_errors[0]


def test_a_version_that_is_not_known_is_not_guessed() -> None:
    with opened(pythons.core(pythons.interpreter("own"), "abort")) as process:
        for minor in (0, 7, 14, 255):
            assert layout_of(minor, process.core.memory, 0) == f"Python 3.{minor} is not supported (3.8 to 3.13 are)"


def test_a_version_without_the_symbol_says_so() -> None:
    with opened(pythons.core(pythons.interpreter("3.6"), "abort")) as process:
        found = process.stacks()
    assert found.crashed is None
    assert "has no symbol _PyRuntime" in found.soft_errors[0]


@pytest.mark.parametrize("which", ["system", "3.8", "3.10", "3.12", "3.13"])
def test_a_reduced_core_has_the_same_stacks(which: str, tmp_path: Path) -> None:
    whole, reduced = pythons.core(pythons.interpreter(which), "segv"), tmp_path / "core"
    done = shrink(whole, reduced, Limits(), lambda text: None)
    assert 2000 < done.bytes_by_kind["Python frames"] < 100_000
    with opened(whole) as first, opened(reduced) as second:
        assert second.stacks() == first.stacks()


def test_a_thread_that_runs_no_python_has_no_python_stack() -> None:
    with opened(pythons.core(pythons.interpreter("own"), "native")) as process:
        found = process.stacks()
    assert found.crashed is None
    main = [frame for stack in found.others for frame in stack.frames if frame.function == "<module>"]
    assert [frame.line for frame in main] == [pythons.line_of("native")]


async def test_a_known_crash_keeps_its_own_python_stack() -> None:
    """The native code is the same for all that Python calls by ctypes."""
    python = pythons.interpreter("own")
    first = await examined(pythons.core(python, "segv"), "notes")
    second = await examined(pythons.core(python, "deep"), "identity")
    found = recalled(second, first, "inc_1")
    assert first.crash and second.crash and second.crash.runtime and second.crash.runtime.python
    assert found and found.crash
    assert first.crash.runtime != second.crash.runtime
    assert found.crash.runtime == second.crash.runtime
    assert [item.claim for item in found.findings if item.rule == "crash.python"] == [
        item.claim for item in second.findings if item.rule == "crash.python"
    ]
    place = f"; in Python: __init__.py:{second.crash.runtime.python.py_stack[0].line} in string_at, "
    place += f"called from {pythons.PROGRAM}:{pythons.line_of('deep')} in ende"
    for text in (found.crash.mechanism or "", found.causes[0].summary):
        assert text.endswith(place)
        assert text.count("in Python: ") == 1
    evidence = {item.id for item in found.evidence}
    assert all(set(item.evidence_ids) <= evidence for item in found.findings)


async def examined(core: Path, effort: Literal["notes", "identity"]) -> Diagnosis:
    found = await examine_core(
        core,
        executable=None,
        settings=GdbSettings(),
        sysroot=None,
        debug_dirs=[],
        executable_dirs=[],
        fetched=None,
        effort=effort,
        soft_errors=[],
        progress=lambda text: None,
    )
    return found.diagnosis


class Damaged:
    """A copy of a core whose memory can be changed under the reader's eyes."""

    def __init__(self, source: Path, target: Path) -> None:
        self.path = Path(shutil.copy(source, target / "core"))
        self.file = self.path.open("r+b", buffering=0)

    @contextmanager
    def at(self, offset: int, data: bytes) -> Iterator[None]:
        before = os.pread(self.file.fileno(), len(data), offset)
        os.pwrite(self.file.fileno(), data, offset)
        try:
            yield
        finally:
            os.pwrite(self.file.fileno(), before, offset)


@pytest.fixture(params=["own", "3.10", "3.13"])
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Damaged]:
    copy = Damaged(pythons.core(pythons.interpreter(request.param), "abort"), tmp_path)
    yield copy
    copy.file.close()


def test_frames_that_lead_anywhere_give_what_was_read_and_say_where_it_ends(damaged: Damaged) -> None:
    with opened(damaged.path) as process:
        whole = process.stacks().crashed
        assert whole is not None
        interpreter = interpreter_of(process.core, process.modules, process.files)
        assert isinstance(interpreter, Interpreter)
        back = whole.frames[2].address + interpreter.layout.back
        offset = process.core.memory.file_offset(back)
        assert offset is not None
        for target, words in (
            (whole.frames[2].address, "lead back"),
            (whole.frames[0].address, "lead back"),
            (8, "is not in the core"),
            ((1 << 64) - 8, "is not in the core"),
            (process.core.crashed.sp or 0, "no readable code object"),
        ):
            with damaged.at(offset, struct.pack("<Q", target)):
                found = process.stacks()
            assert found.crashed is not None
            assert found.crashed.frames == whole.frames[:3]
            assert words in (found.crashed.broken or "")
            assert any("breaks off after 3 frames" in text for text in found.soft_errors)
        assert process.stacks().crashed == whole


def test_no_change_of_the_interpreters_structures_hangs_or_raises(damaged: Damaged) -> None:
    """Pointers and sizes in the state, the threads, the frames and the code objects, at random but repeatable."""
    choose = random.Random(7)
    with opened(damaged.path) as process:
        whole = process.stacks()
        interpreter = interpreter_of(process.core, process.modules, process.files)
        assert isinstance(interpreter, Interpreter)
        assert whole.crashed is not None
        memory, layout = process.core.memory, interpreter.layout
        head = memory.pointer(interpreter.state + layout.interpreters) or 0
        thread = memory.pointer(head + layout.threads) or 0
        codes = [memory.pointer(frame.address + layout.code) or 0 for frame in whole.crashed.frames]
        names = [memory.pointer(code + layout.file) or 0 for code in codes[:1]]
        tables = [memory.pointer(code + layout.line_table) or 0 for code in codes]
        frames = [frame.address for frame in whole.crashed.frames]
        places = [
            interpreter.state + layout.interpreters,
            *(head + at for at in (layout.next_interpreter, layout.threads)),
            *(thread + at for at in range(0, 200, 8)),
            *(start + at for start in (*frames, *codes, *names, *tables) for at in range(0, 200, 8)),
        ]
        values = [0, 1, head, thread, *frames, *codes, *names, *tables, (1 << 64) - 1, 1 << 63, 0xFFFF_FFFF]
        broken = 0
        for _ in range(200):
            offset = memory.file_offset(choose.choice(places))
            value = choose.choice([*values, choose.getrandbits(64)])
            if offset is None:
                continue
            with damaged.at(offset, struct.pack("<Q", value)):
                found = python_stacks(process.core, process.modules, process.files)
            if found is not None and found.crashed is not None:
                broken += found.crashed != whole.crashed
                for frame in found.crashed.frames:
                    assert len(frame.function) <= 501
                    assert frame.function.isprintable()
                    assert len(frame.file or "") <= 501
        assert broken > 10  # the changes were in what is read


def test_a_damaged_description_is_not_believed(tmp_path: Path) -> None:
    damaged = Damaged(pythons.core(pythons.interpreter("3.13"), "abort"), tmp_path)
    with opened(damaged.path) as process:
        interpreter = interpreter_of(process.core, process.modules, process.files)
        assert isinstance(interpreter, Interpreter)
        start = process.core.memory.file_offset(interpreter.state)
        assert start is not None
        for at, data, words in (
            (0, b"xdebugpx", "damaged"),
            (16, struct.pack("<Q", 1), "without the GIL"),
            (40, struct.pack("<Q", 1 << 60), "damaged"),
        ):
            with damaged.at(start + at, data):
                found = process.stacks()
            assert found.crashed is None
            assert words in found.soft_errors[0]
    damaged.file.close()
