"""From a core file to a diagnosis: notes and memory by ourselves, stacks and variables by gdb."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from diagnosis.crashes.conclude import conclude
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.memory_causes import MemoryText, ThrownObject, abort_message, thrown_object
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.report import Observed
from diagnosis.crashes.view import DebuggerView
from errors import ToolFailed, ToolMissing, ToolTimeout
from incidents.crash_report import CrashReport
from incidents.models import Diagnosis
from settings import GdbSettings
from tools.gdb.plan import Depth, look
from tools.gdb.resolve import Resolved, resolve
from tools.gdb.sandbox import Case, launch
from tools.gdb.session import OPTIONS, GdbStopped, open_session

_DEGRADED_FRAMES = 32
_FIRST_SHARE = 0.65
"""Of the time that is left, for the first try; the rest is for the degraded one."""


@dataclass(frozen=True)
class CrashAnalysis:
    """`whole` holds, by evidence id, texts that are longer than their excerpt."""

    report: CrashReport
    diagnosis: Diagnosis
    whole: dict[str, str]


@dataclass
class _Opened:
    path: Path
    core: CoreFile
    modules: Modules
    resolved: Resolved
    debug_dirs: Sequence[Path]
    sha256: str
    message: MemoryText | None
    thrown: ThrownObject | None

    def close(self) -> None:
        self.resolved.close()
        self.core.close()


async def analyze_core(
    core: Path,
    *,
    executable: Path | None,
    settings: GdbSettings,
    sysroot: Path | None = None,
    debug_dirs: Sequence[Path] = (),
    executable_dirs: Sequence[Path] = (),
    progress: Callable[[str], None] | None = None,
) -> CrashAnalysis:
    """Diagnose one core dump.

    `executable` is refused when it is not the program that crashed; without it the path in the core (below `sysroot`)
    and `executable_dirs` are searched by build-id. When gdb fails or is stopped by a limit, the report is PARTIAL and
    holds what notes and memory say.

    Raises UnusableCore, ToolMissing when gdb is not installed, ToolTimeout when even the file cannot be read in time.
    """
    say = progress or (lambda text: None)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings.deadline
    say("reading the core's notes and memory")
    try:
        async with asyncio.timeout_at(deadline):
            opened = await asyncio.to_thread(
                _open, core, executable, sysroot, tuple(debug_dirs), tuple(executable_dirs)
            )
    except TimeoutError:
        raise ToolTimeout(f"the core could not be read within {settings.deadline:g} s") from None
    try:
        resolved = opened.resolved
        case = Case(opened.path, resolved.executable, resolved.files, opened.debug_dirs)
        view = await _debug(case, opened, settings, deadline, say)
        say("drawing conclusions")
        seen = Observed(
            core=opened.core,
            sha256=opened.sha256,
            modules=opened.modules,
            matches=resolved.matches,
            files_used={path: str(local) for path, local in resolved.files.items()},
            executable=str(resolved.executable) if resolved.executable else None,
            executable_match=resolved.executable_match,
            message=opened.message,
            thrown=opened.thrown,
            view=view,
            soft_errors=tuple(resolved.soft_errors),
        )
        report, diagnosis, whole = await asyncio.to_thread(conclude, seen)
        return CrashAnalysis(report, diagnosis, whole)
    finally:
        opened.close()


def _open(
    core: Path,
    executable: Path | None,
    sysroot: Path | None,
    debug_dirs: Sequence[Path],
    executable_dirs: Sequence[Path],
) -> _Opened:
    opened = CoreFile(core)
    debug_dirs = [folder.absolute() for folder in debug_dirs if folder.is_dir()]
    try:
        modules = Modules(opened)
        resolved = resolve(
            opened,
            modules,
            executable=executable,
            sysroot=sysroot,
            debug_dirs=debug_dirs,
            executable_dirs=executable_dirs,
        )
    except BaseException:
        opened.close()
        raise
    aborted = opened.signo == signal.SIGABRT
    message = abort_message(opened) if aborted else None
    thrown = thrown_object(opened) if aborted and message is None else None
    return _Opened(core.absolute(), opened, modules, resolved, debug_dirs, sha256_of(core), message, thrown)


def sha256_of(path: Path) -> str:
    """Of the whole file, streamed. Blocking."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _debug(
    case: Case, opened: _Opened, settings: GdbSettings, deadline: float, say: Callable[[str], None]
) -> DebuggerView:
    """What gdb sees; a second, smaller try when a limit stopped the first."""
    loop = asyncio.get_running_loop()
    depths = [
        Depth(settings.max_frames, settings.max_threads, variables=True),
        Depth(min(_DEGRADED_FRAMES, settings.max_frames), 1, variables=False),
    ]
    view = DebuggerView()
    for attempt, depth in enumerate(depths):
        view = DebuggerView(complete=attempt == 0, soft_errors=view.soft_errors)
        remaining = deadline - loop.time()
        until = loop.time() + remaining * _FIRST_SHARE if attempt == 0 else deadline
        say("asking gdb" if attempt == 0 else "asking gdb again for less")
        try:
            with tempfile.TemporaryDirectory(prefix="paramedic-gdb-") as folder:
                start = await launch(case, settings, Path(folder), OPTIONS)
                async with open_session(start, settings.output_bytes) as session:
                    executable = case.executable is not None
                    await look(session, opened.core, opened.modules, depth, until, view, executable=executable)
            return view
        except GdbStopped as error:
            view.soft_errors.append(f"gdb {error.reason}" + ("; asked again for less" if attempt == 0 else ""))
            view.complete = False
            if opened.core.crashed.tid in view.frames and view.disassembly:
                return view  # the crashing thread is there: more would not be had by asking for less
        except ToolMissing:
            raise
        except ToolFailed as error:
            view.soft_errors.append(str(error))
            view.complete = False
            return view
    return view
