"""A core opened together with the local files that were proved to belong to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import ET_CORE, ET_DYN, ET_EXEC, FileBytes
from diagnosis.crashes.formats import elf_type
from diagnosis.crashes.modules import Modules
from errors import UnusableCore
from tools.debuginfod.wanted import Wanted
from tools.gdb.resolve import Resolved, resolve
from tools.gdb.sandbox import Case


@dataclass(frozen=True)
class OpenedCore:
    core: CoreFile
    modules: Modules
    resolved: Resolved
    case: Case

    def close(self) -> None:
        self.resolved.close()
        self.core.close()

    def wanted(self) -> list[Wanted]:
        """What a debuginfod server may have: files that are not at hand, and debug information of all; program first.

        A file that is there as another build is asked for too.
        """
        wanted: list[Wanted] = []
        for module in self.modules.all:
            if module.build_id is None:
                continue
            names = self.resolved.debug.known.get(module.path)
            if self.modules.matches.get(module.path) != "exact":
                wanted.append(Wanted(module.build_id, "executable"))
            if names is None or names.symbols != "dwarf":
                wanted.append(Wanted(module.build_id, "debuginfo"))
        return wanted


@asynccontextmanager
async def opened_core(
    core: Path,
    *,
    executable: Path | None,
    sysroot: Path | None = None,
    debug_dirs: Sequence[Path] = (),
    executable_dirs: Sequence[Path] = (),
    fetched: Path | None = None,
) -> AsyncIterator[OpenedCore]:
    """Read notes and find files, off the event loop. Raises UnusableCore (see `CoreFile` and `resolve`)."""
    found = await asyncio.to_thread(
        _open, core, executable, sysroot, tuple(debug_dirs), tuple(executable_dirs), fetched
    )
    try:
        yield found
    finally:
        found.close()


def _open(
    path: Path,
    executable: Path | None,
    sysroot: Path | None,
    debug_dirs: Sequence[Path],
    executable_dirs: Sequence[Path],
    fetched: Path | None,
) -> OpenedCore:
    core = CoreFile(path)
    folders = [folder.absolute() for folder in debug_dirs if folder.is_dir()]
    try:
        modules = Modules(core)
        resolved = resolve(
            core,
            modules,
            executable=executable,
            sysroot=sysroot,
            debug_dirs=folders,
            executable_dirs=executable_dirs,
            fetched=fetched,
        )
    except BaseException:
        core.close()
        raise
    case = Case(path.absolute(), resolved.executable, resolved.files, resolved.debug.layout(resolved.executable))
    return OpenedCore(core, modules, resolved, case)


def refuse_swapped(core: Path, executable: Path | None) -> None:
    """Raises UnusableCore when `core` is a program and `executable` a core dump. Looks at their first bytes only."""
    if executable is not None and _type(core) in (ET_EXEC, ET_DYN) and _type(executable) == ET_CORE:
        raise UnusableCore(
            f"core and executable are swapped: {str(executable)[:300]!a} is the core dump, "
            f"and {str(core)[:300]!a} the program"
        )


def _type(path: Path) -> int | None:
    try:
        with FileBytes(path) as file:
            return elf_type(file.read(0, 64))
    except UnusableCore:
        return None
