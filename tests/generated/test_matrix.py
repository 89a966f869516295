"""Every cause in every way that programs are built: signal, class, place and signature, or an honest word about it.

A sample runs with the ordinary tests; all of it with `make generated`.
"""

from __future__ import annotations

from itertools import product

import pytest

from incidents.crash_report import CrashReport
from settings import GdbSettings
from tests.generated.builds import Build, core, require_tools, shipped
from tools.gdb.analysis import analyze_core

# mode: signal, cause class, innermost function of the program, as it is at every level of optimisation
MODES: dict[str, dict[str, tuple[str, str, str | None]]] = {
    "c": {
        "member": ("SIGSEGV / SEGV_MAPERR", "null_dereference", "level_of"),
        "freed": ("SIGSEGV / SI_KERNEL", "wild_pointer", "level_of"),
        "heap": ("SIGABRT / SI_TKILL", "heap_corruption", "release"),
        "twice": ("SIGABRT / SI_TKILL", "heap_corruption", "release"),
        "smash": ("SIGABRT / SI_TKILL", "stack_smashing", "smash"),
        "literal": ("SIGSEGV / SEGV_ACCERR", "wild_pointer", None),
        "zero": ("SIGFPE / FPE_INTDIV", "arithmetic", "divide"),
        "callback": ("SIGSEGV / SEGV_MAPERR", "null_dereference", "call_back"),
        "data": ("SIGSEGV / SEGV_ACCERR", "wild_pointer", "call_back"),
        "number": ("SIGSEGV / SEGV_MAPERR", "wild_pointer", "hang_over"),
    },
    "c++": {
        "null": ("SIGSEGV / SEGV_MAPERR", "null_dereference", None),
        "assert": ("SIGABRT / SI_TKILL", "assertion", None),
        "abort": ("SIGABRT / SI_TKILL", "abort", None),
        "exception": ("SIGABRT / SI_TKILL", "uncaught_exception", None),
        "overflow": ("SIGSEGV / SEGV_MAPERR", "stack_overflow", None),
        "thread": ("SIGSEGV / SEGV_MAPERR", "null_dereference", "Shop::work"),
        "bus": ("SIGBUS / BUS_ADRERR", "bus_error", None),
        "illegal": ("SIGILL / ILL_ILLOPN", "illegal_instruction", None),
    },
    "rust": {
        "null": ("SIGSEGV / SEGV_MAPERR", "null_dereference", "crashing::read_at"),
        "wild": ("SIGSEGV / SEGV_MAPERR", "wild_pointer", "crashing::read_at"),
        "overflow": ("SIGSEGV / SEGV_MAPERR", "stack_overflow", "crashing::descend"),
        "thread": ("SIGSEGV / SEGV_MAPERR", "null_dereference", "crashing::read_at"),
        "formatted": ("SIGABRT / SI_TKILL", "panic", "crashing::look"),
        "unwrap": ("SIGABRT / SI_TKILL", "panic", "crashing::look"),
        "index": ("SIGABRT / SI_TKILL", "panic", "crashing::look"),
        "abort": ("SIGABRT / SI_TKILL", "abort", "crashing::look"),
    },
}
"""None where inlining moves the frame into its caller: the place is then only told at -O0."""

AT_O0 = {
    "null": "Shop::read_null", "assert": "Shop::check", "abort": "Shop::give_up", "exception": "Shop::query",
    "overflow": "Shop::descend", "bus": "Shop::read_past", "illegal": "Shop::unreachable", "literal": "rename_to",
}  # fmt: skip
CHECKED = {("rust", "thread", "-O0"): ("SIGABRT / SI_TKILL", "panic", "crashing::read_at")}
"""Without optimisation rustc checks pointers itself."""
SOURCES = ("misusing.c", "crashing.cpp", "crashing.rs")
BUILDS = [Build(*parts) for parts in product(MODES, ("-O0", "-O2"), ("pie", "static"), ("whole", "stripped", "split"))]
CASES = [(build, mode) for build in BUILDS for mode in MODES[build.language]]
_SAMPLE = {
    ("c-O2-pie-stripped", "heap"), ("c-O2-static-split", "member"), ("c-O0-static-stripped", "smash"),
    ("c-O2-pie-split", "freed"), ("c-O2-static-whole", "callback"), ("c++-O2-pie-stripped", "exception"),
    ("c++-O0-static-whole", "assert"), ("c++-O2-static-stripped", "thread"), ("c++-O0-pie-split", "overflow"),
    ("c++-O2-pie-split", "null"), ("rust-O2-static-stripped", "overflow"), ("rust-O2-static-whole", "index"),
}  # fmt: skip


def _case(build: Build, mode: str) -> object:
    marks = [] if (str(build), mode) in _SAMPLE else [pytest.mark.generated]
    return pytest.param(build, mode, id=f"{build}-{mode}", marks=marks)


async def analysed(build: Build, mode: str, run: int = 0) -> CrashReport:
    require_tools(build.language)
    found = shipped(build)
    analysis = await analyze_core(
        core(build, mode, run),
        executable=found.program,
        settings=GdbSettings(),
        debug_dirs=[found.debug_dir] if found.debug_dir else [],
    )
    return analysis.report


@pytest.mark.parametrize(("build", "mode"), [_case(*case) for case in CASES])
async def test_the_crash_is_told_as_far_as_it_can_be(build: Build, mode: str) -> None:
    signal, cause, function = CHECKED.get((build.language, mode, build.level), MODES[build.language][mode])
    report = await analysed(build, mode)
    assert report.status == "OK"
    assert report.crash_info.type == signal
    assert report.cause_class == cause
    frames = report.threads[0].frames
    assert frames
    own = [frame for frame in frames if frame.in_app]
    if build.symbols == "stripped":
        # its functions have no names any more: said, and the place is told by module and offset
        assert report.crash_line is None
        assert all(frame.function is None or frame.missing_symbols for frame in own[:1]) or build.linkage == "static"
        assert all(frame.module_offset for frame in own)
        main = next(module for module in report.modules if module.filename == report.process.exe)
        assert main.symbols == "none"
    else:
        wanted = function or (AT_O0[mode] if build.level == "-O0" else None)
        names = [frame.function for frame in own]
        if wanted is not None:
            assert wanted in names, names
            assert wanted in (report.signature or "")
        assert report.crash_line is not None
        assert report.crash_line.split(":")[0].endswith(SOURCES)


@pytest.mark.generated
@pytest.mark.parametrize(("build", "mode"), [(b, m) for b, m in CASES if b.symbols == "whole" and b.linkage == "pie"])
async def test_two_runs_have_one_signature(build: Build, mode: str) -> None:
    first, second = await analysed(build, mode), await analysed(build, mode, run=1)
    assert first.signature == second.signature
    assert first.signatures is not None
    assert second.signatures is not None
    assert first.signatures.group_id == second.signatures.group_id
    assert first.signatures.address_sig == second.signatures.address_sig or mode == "overflow"


@pytest.mark.generated
@pytest.mark.parametrize("linkage", ["pie", "static"])
async def test_aborts_of_a_stripped_program_are_told_apart_by_their_reason(linkage: str) -> None:
    cases = {
        "c": ("heap", "twice", "smash"),
        "c++": ("assert", "abort", "exception"),
        "rust": ("formatted", "unwrap", "index", "abort"),
    }
    for language, modes in cases.items():
        found = [await analysed(Build(language, "-O2", linkage, "stripped"), mode) for mode in modes]
        assert len({report.signature for report in found}) == len(modes)
        assert len({report.signatures.group_id for report in found if report.signatures}) == len(modes)


@pytest.mark.generated
@pytest.mark.parametrize("mode", [mode for mode, row in MODES["c"].items() if row[2]])
async def test_optimisation_does_not_change_the_group(mode: str) -> None:
    plain = await analysed(Build("c", "-O0", "pie", "whole"), mode)
    optimised = await analysed(Build("c", "-O2", "pie", "whole"), mode)
    assert plain.signatures is not None
    assert optimised.signatures is not None
    assert (plain.signature or "").split(" | ")[:2] == (optimised.signature or "").split(" | ")[:2]
