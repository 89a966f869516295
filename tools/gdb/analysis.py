"""From a core file to a diagnosis: notes and memory by ourselves, stacks and variables by gdb."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from diagnosis.crashes.causes.python.stack import python_stacks
from diagnosis.crashes.causes.rust import RustPanic, rust_panic
from diagnosis.crashes.conclude import conclude
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.frames import HANDLER_FRAME
from diagnosis.crashes.handled import restore_fault
from diagnosis.crashes.memory_causes import MemoryText, ThrownObject, abort_message, thrown_object
from diagnosis.crashes.report import Observed
from diagnosis.crashes.unwind.walk import Walk, walk
from diagnosis.crashes.view import DebuggerView
from errors import ToolFailed, ToolMissing, ToolTimeout
from incidents.crash_report import CrashReport
from incidents.models import Diagnosis
from settings import GdbSettings
from tools.gdb.architecture import debugger_for
from tools.gdb.go_programs import is_go_program, show_goroutines
from tools.gdb.indexes import with_indexes
from tools.gdb.opened import OpenedCore, opened_core, refuse_swapped
from tools.gdb.plan import Depth, look
from tools.gdb.sandbox import launch, private_folder
from tools.gdb.session import OPTIONS, GdbStopped, open_session

if TYPE_CHECKING:
    from tools.debuginfod.client import Debuginfod

_HASHED_BYTES = 128 << 20
"""Larger cores are not hashed here: it takes longer than all the rest. `tools.cores.identify` does."""

_DEGRADED_FRAMES = 32
_SHARE = 0.65
"""Of the time that is left, for a try that others may follow."""


@dataclass(frozen=True)
class CrashAnalysis:
    """`whole` holds, by evidence id, texts that are longer than their excerpt.

    `not_indexed` are files with much debug information that the next analysis would open faster with an index, by
    build-id: `keep_indexes` (indexes.py) makes them, after the report.
    """

    report: CrashReport
    diagnosis: Diagnosis
    whole: dict[str, str]
    not_indexed: dict[str, Path] = field(default_factory=dict)


async def analyze_core(
    core: Path,
    *,
    executable: Path | None,
    settings: GdbSettings,
    sysroot: Path | None = None,
    debug_dirs: Sequence[Path] = (),
    executable_dirs: Sequence[Path] = (),
    debuginfod: Debuginfod | None = None,
    progress: Callable[[str], None] | None = None,
) -> CrashAnalysis:
    """Diagnose one core dump, in a confined process of its own (see worker.py).

    `executable` is refused when it is not the program that crashed; without it the path in the core (below `sysroot`)
    and `executable_dirs` are searched by build-id; `debuginfod` is asked for what is missing before gdb starts. When
    gdb fails or is stopped by a limit, the report is PARTIAL and holds what notes and memory say; when the process
    itself dies, it is asked once more for notes and memory alone.

    Raises UnusableCore, ToolMissing when gdb is not installed, ToolTimeout when even the file cannot be read in time,
    ToolFailed when the process dies twice.
    """
    from tools.gdb.contained import Request, WorkerDied, run

    say = progress or (lambda text: None)
    await asyncio.to_thread(refuse_swapped, core, executable)
    request = Request(
        "analyze",
        core,
        settings,
        executable=executable,
        sysroot=sysroot,
        debug_dirs=debug_dirs,
        executable_dirs=executable_dirs,
        fetched=debuginfod.folder if debuginfod else None,
        progress=say,
    )
    failures: list[str] = []
    if debuginfod is not None:
        failures = await debuginfod.complete(request)
    try:
        answer = await run(replace(request, more={"effort": "full", "soft_errors": failures}))
    except (WorkerDied, ToolTimeout) as error:
        say("asking again for less")
        failures = [*failures, f"{error}; asked again for notes and memory alone"]
        answer = await run(replace(request, more={"effort": "notes", "soft_errors": failures}))
    try:
        document = _Document.model_validate_json(answer)
    except ValidationError as error:
        raise WorkerDied(f"the worker's answer is no diagnosis ({error.error_count()} errors)") from None
    if document.diagnosis.crash is None:
        raise WorkerDied("the worker's answer holds no crash report")
    return CrashAnalysis(document.diagnosis.crash, document.diagnosis, document.whole, document.not_indexed)


class _Document(BaseModel):
    """What the confined process answers."""

    model_config = ConfigDict(extra="forbid")

    diagnosis: Diagnosis
    whole: dict[str, str]
    not_indexed: dict[str, Path]


async def examine_core(
    core: Path,
    *,
    executable: Path | None,
    settings: GdbSettings,
    sysroot: Path | None,
    debug_dirs: Sequence[Path],
    executable_dirs: Sequence[Path],
    fetched: Path | None,
    effort: Literal["full", "notes", "identity"],
    soft_errors: Sequence[str],
    progress: Callable[[str], None],
) -> CrashAnalysis:
    """What `analyze_core` has done, inside the confined process. `soft_errors` go into the report.

    `effort`: with gdb, by notes and memory alone, or only as much as tells which crash it is (no search, no hash).
    """
    say = progress
    deadline = asyncio.get_running_loop().time() + settings.deadline
    say("reading the core's notes and memory")
    async with opened_core(
        core,
        executable=executable,
        sysroot=sysroot,
        debug_dirs=debug_dirs,
        executable_dirs=executable_dirs,
        fetched=fetched,
    ) as opened:
        stacks = await asyncio.to_thread(walk, opened.core, opened.modules)
        scan = asyncio.ensure_future(asyncio.to_thread(_scan, opened.core, core, effort))
        try:
            full = effort == "full"
            not_indexed: dict[str, Path] = {}
            if full and settings.index_cache is not None:
                opened, not_indexed = await asyncio.to_thread(with_indexes, opened, settings)
            is_go = await asyncio.to_thread(is_go_program, opened.case.executable)
            view = DebuggerView(complete=False)
            if full:
                view = await _debug(opened, stacks, settings, deadline, say, go=is_go)
            async with asyncio.timeout_at(deadline):
                scanned = await asyncio.shield(scan)
                go = await show_goroutines(opened, settings, deadline, say, view, stacks, full=full) if is_go else None
        except TimeoutError:
            raise ToolTimeout(f"the core could not be read within {settings.deadline:g} s") from None
        finally:
            if not scan.done():  # the thread reads the file until the next look
                scan.cancel()
        _restore(opened.core, view)
        say("drawing conclusions")
        resolved = opened.resolved
        seen = Observed(
            core=opened.core,
            sha256=scanned.sha256,
            modules=opened.modules,
            matches=resolved.matches,
            files_used={path: str(local) for path, local in resolved.files.items()},
            executable=str(resolved.executable) if resolved.executable else None,
            executable_match=resolved.executable_match,
            message=scanned.message,
            thrown=scanned.thrown,
            rust=scanned.rust,
            go=go,
            python=await asyncio.to_thread(python_stacks, opened.core, opened.modules, resolved.files),
            view=view,
            walk=stacks,
            soft_errors=(*resolved.soft_errors, *soft_errors),
            names=resolved.debug.known,
        )
        report, diagnosis, whole = await asyncio.to_thread(conclude, seen)
        return CrashAnalysis(report, diagnosis, whole, not_indexed)


def _restore(core: CoreFile, view: DebuggerView) -> None:
    """When the program's own handler raised the last signal, let the first fault be what is explained."""
    frames = view.frames.get(core.crashed.tid, [])
    handler = next((i for i, frame in enumerate(frames) if frame.function == HANDLER_FRAME), None)
    if view.handler_context is None or handler is None or handler + 1 >= len(frames):
        return
    pc = int(frames[handler + 1].offset or "0", 16)
    if not restore_fault(core, view.handler_context, pc, view.instruction) and not core.interrupted:
        view.soft_errors.append("a signal handler was running; what it was called for could not be read")


def sha256_of(path: Path) -> str:
    """Of the whole file, streamed. Blocking."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class _Scanned:
    """What was found in memory alone."""

    sha256: str | None = None
    message: MemoryText | None = None
    thrown: ThrownObject | None = None
    rust: RustPanic | None = None


def _scan(core: CoreFile, path: Path, effort: str) -> _Scanned:
    """What takes the whole file; runs beside gdb."""
    if effort == "identity":
        return _Scanned()
    aborted = core.signo == signal.SIGABRT
    message = abort_message(core) if aborted else None
    rust = rust_panic(core) if aborted and message is None else None
    thrown = thrown_object(core) if aborted and message is None and rust is None else None
    return _Scanned(sha256_of(path) if core.file.size <= _HASHED_BYTES else None, message, thrown, rust)


async def _debug(
    opened: OpenedCore,
    stacks: Walk | None,
    settings: GdbSettings,
    deadline: float,
    say: Callable[[str], None],
    *,
    go: bool,
) -> DebuggerView:
    """What gdb sees. When a limit stops it: fewer frames, then no variables, then the thread that crashed alone.

    One that took all its time is asked for the least at once.
    """
    loop = asyncio.get_running_loop()
    program, missing = debugger_for(opened.core.header, settings.program)
    if program is None:
        return DebuggerView(complete=False, soft_errors=[missing or ""])
    settings = settings.model_copy(update={"program": program})
    fewer = min(_DEGRADED_FRAMES, settings.max_frames)
    depths = [
        Depth(settings.max_frames, settings.max_threads, variables=True),
        Depth(fewer, settings.max_threads, variables=True),
        Depth(fewer, settings.max_threads, variables=False),
        Depth(fewer, 1, variables=False),
    ]
    if go:
        depths = depths[-1:]  # the rest is delve's: gdb does not know goroutines
    view = DebuggerView()
    while depths:
        depth = depths.pop(0)
        first = view.complete
        view = DebuggerView(complete=first, soft_errors=view.soft_errors)
        until = loop.time() + (deadline - loop.time()) * _SHARE if depths else deadline
        say("asking gdb" if first else "asking gdb again for less")
        try:
            async with private_folder() as folder:
                start = await launch(opened.case, settings, folder, OPTIONS)
                async with open_session(start, settings.output_bytes) as session:
                    await look(session, opened, stacks, depth, until, view)
            return view
        except GdbStopped as error:
            view.complete = False
            if opened.core.crashed.tid in view.frames and view.disassembly:
                depths = []  # the crashing thread is there: more would not be had by asking for less
            elif loop.time() >= until:
                depths = depths[-1:]
            view.soft_errors.append(f"gdb {error.reason}" + ("; asked again for less" if depths else ""))
        except ToolMissing:
            raise
        except ToolFailed as error:
            view.soft_errors.append(str(error))
            view.complete = False
            return view
    return view
