"""Python processes that crash: functions, files and lines from the core's memory alone."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from diagnosis.crashes.causes.python.layouts import layout_of
from diagnosis.crashes.causes.python.stack import MAX_FRAMES, PyFrame, python_stacks
from diagnosis.crashes.export.markdown import to_markdown
from diagnosis.crashes.recalled import recalled
from incidents.models import Diagnosis
from settings import GdbSettings
from terminal.crash_view import show_crash
from tests.standins import crashing, pythons
from tools.cores.shrink import shrink
from tools.cores.sparse import Limits
from tools.gdb.analysis import analyze_core

VERSIONS = [f"3.{minor}" for minor in range(8, 14)]
OWN = {
    "quelle": "ausführen.<locals>.quelle",
    "genexpr": "ausführen.<locals>.<genexpr>",
    "lambda": "Wächter.fallen.<locals>.<lambda>",
    "fallen": "Wächter.fallen",
}
"""Qualified names; before 3.11 code objects have the last part only."""


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
    with pythons.opened(pythons.core(python, mode)) as process:
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
    with pythons.opened(pythons.core(pythons.interpreter(which), "deep")) as process:
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
    with pythons.opened(crashing.core("abort")) as process:
        assert python_stacks(process.core, process.modules, process.files) is None


def test_without_the_interpreters_file_the_report_says_what_is_missing() -> None:
    with pythons.opened(pythons.core(pythons.interpreter("own"), "abort")) as process:
        found = python_stacks(process.core, process.modules, {})
    assert found is not None
    assert (found.version, found.crashed) == (None, None)
    assert "is not at hand" in found.soft_errors[0]


def test_a_version_that_is_not_known_is_not_guessed() -> None:
    with pythons.opened(pythons.core(pythons.interpreter("own"), "abort")) as process:
        for minor in (0, 7, 14, 255):
            assert layout_of(minor, process.core.memory, 0) == f"Python 3.{minor} is not supported (3.8 to 3.13 are)"


def test_a_version_without_the_symbol_says_so() -> None:
    with pythons.opened(pythons.core(pythons.interpreter("3.6"), "abort")) as process:
        found = process.stacks()
    assert found.crashed is None
    assert "has no symbol _PyRuntime" in found.soft_errors[0]


@pytest.mark.parametrize("which", ["system", "3.8", "3.10", "3.12", "3.13"])
def test_a_reduced_core_has_the_same_stacks(which: str, tmp_path: Path) -> None:
    whole, reduced = pythons.core(pythons.interpreter(which), "segv"), tmp_path / "core"
    done = shrink(whole, reduced, Limits(), lambda text: None)
    assert 2000 < done.bytes_by_kind["Python frames"] < 100_000
    with pythons.opened(whole) as first, pythons.opened(reduced) as second:
        assert second.stacks() == first.stacks()


def test_a_thread_that_runs_no_python_has_no_python_stack() -> None:
    with pythons.opened(pythons.core(pythons.interpreter("own"), "native")) as process:
        found = process.stacks()
    assert found.crashed is None
    main = [frame for stack in found.others for frame in stack.frames if frame.function == "<module>"]
    line = pythons.line_of("native")
    assert [frame.line for frame in main] in ([line], [line - 1])  # it may still be starting the thread that crashes


async def test_a_known_crash_keeps_its_own_python_stack() -> None:
    """The native code is the same for all that Python calls by ctypes."""
    python = pythons.interpreter("own")
    first = await pythons.examined(pythons.core(python, "segv"), "notes")
    second = await pythons.examined(pythons.core(python, "deep"), "identity")
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
