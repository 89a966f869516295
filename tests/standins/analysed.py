"""What tests only read: one analysis of each core and its options in a worker, confined or in the test's own process.

Nobody may change what is returned. `confined` is the way of the product; `examined` does without the sandbox and its
processes, for tests of what is concluded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from settings import GdbSettings
from tools.gdb.analysis import CrashAnalysis, analyze_core, examine_core

_found: dict[tuple[object, ...], CrashAnalysis] = {}


async def confined(core: Path, executable: Path | None = None) -> CrashAnalysis:
    """`analyze_core` with no other options."""
    key = (core, executable)
    if key not in _found:
        _found[key] = await analyze_core(core, executable=executable, settings=GdbSettings())
    return _found[key]


async def examined(
    core: Path, executable: Path | None = None, *, effort: Literal["full", "notes"] = "full"
) -> CrashAnalysis:
    """The same conclusions; with `notes` those that take no debugger."""
    key = (core, executable, effort)
    if key not in _found:
        _found[key] = await examine_core(
            core,
            executable=executable,
            settings=GdbSettings(sandbox="rlimits"),
            sysroot=None,
            debug_dirs=[],
            executable_dirs=[],
            fetched=None,
            effort=effort,
            soft_errors=[],
            progress=lambda text: None,
        )
    return _found[key]
