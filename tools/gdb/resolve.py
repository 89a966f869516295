"""Which local files belong to a core: the executable and the libraries, each proved by its build-id."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import ET_DYN, ET_EXEC, ElfFile, FileBytes
from diagnosis.crashes.link_map import loaded_names
from diagnosis.crashes.modules import MappedModule, Match, Modules, compare, same_dynamic_section
from errors import UnusableCore
from tools.gdb.debug_files import DebugFiles

_LINKS = 40  # as the kernel's MAXSYMLINKS
_SEARCHED_FILES = 20_000


@dataclass
class Resolved:
    """Local files for a core. `files` maps paths of the process to files that gdb may use for them."""

    executable: Path | None = None
    executable_match: Match = "absent"
    files: dict[str, Path] = field(default_factory=dict)
    matches: dict[str, Match] = field(default_factory=dict)
    debug: DebugFiles = field(default_factory=DebugFiles)
    soft_errors: list[str] = field(default_factory=list)
    _open: list[FileBytes] = field(default_factory=list)

    def close(self) -> None:
        for file in self._open:
            file.close()


def resolve(
    core: CoreFile,
    modules: Modules,
    *,
    executable: Path | None,
    sysroot: Path | None,
    debug_dirs: Sequence[Path],
    executable_dirs: Sequence[Path],
    fetched: Path | None = None,
) -> Resolved:
    """Find and verify files, and let the core's memory be read through to those that are exact.

    `fetched` is a folder of downloaded files, laid out as a debug directory; it is searched last.

    Raises UnusableCore when `executable` was given and is not the program that crashed. Blocking.
    """
    resolved = Resolved(matches=modules.matches)
    main = modules.main
    debug_dirs = [*debug_dirs, *([sysroot / "usr/lib/debug"] if sysroot else []), *([fetched] if fetched else [])]
    try:
        if executable is not None:
            _given(resolved, core, executable, main)
        elif main is not None:
            _searched(resolved, core, main, sysroot, debug_dirs, executable_dirs)
        else:
            resolved.soft_errors.append("the core does not say which executable it is of (no NT_FILE or NT_AUXV)")
        for module in modules.all:
            if module.is_main:
                if resolved.executable is not None:
                    resolved.matches[module.path] = resolved.executable_match
                    _use(resolved, core, module, resolved.executable)
                else:
                    resolved.matches.setdefault(module.path, "absent")
            else:
                _library(resolved, core, module, sysroot, [*executable_dirs, *debug_dirs])
        for name, path in loaded_names(core, modules).items():
            if path in resolved.files and _clean(name):
                resolved.files.setdefault(name, resolved.files[path])
        _debug_files(resolved, modules, debug_dirs, fetched)
    except BaseException:
        resolved.close()
        raise
    return resolved


def _debug_files(resolved: Resolved, modules: Modules, folders: Sequence[Path], fetched: Path | None) -> None:
    """What is known of each module's names; nothing of a module whose file is not at hand."""
    existing = [folder for folder in folders if folder.is_dir()]
    for module in modules.all:
        local = resolved.executable if module.is_main else resolved.files.get(module.path)
        if local is not None:
            try:
                with FileBytes(local) as file:
                    resolved.debug.find(module.path, local, file, existing, fetched)
            except UnusableCore:  # removed meanwhile
                continue
    resolved.soft_errors += resolved.debug.soft_errors


def _given(resolved: Resolved, core: CoreFile, executable: Path, main: MappedModule | None) -> None:
    with FileBytes(executable) as file:
        elf = ElfFile(file)
        if elf.header.type not in (ET_EXEC, ET_DYN):
            raise UnusableCore(f"{str(executable)!a} is not an executable (a core dump or object file)")
        match: Match = _check(core, main, executable) if main else "unchecked"
        found = elf.build_id()
    if match == "mismatch":
        wanted = f"build-id {main.build_id}" if main and main.build_id else "other program headers"
        raise UnusableCore(
            f"{str(executable)!a} is not the program that crashed: the core has {wanted}, "
            f"the file {'build-id ' + found if found else 'no build-id and different program headers'}; "
            "use the binary of exactly that build"
        )
    if match == "unchecked":
        resolved.soft_errors.append(
            "the executable cannot be checked against the core: there is no build-id to compare"
        )
    resolved.executable, resolved.executable_match = executable.absolute(), match


def _searched(
    resolved: Resolved,
    core: CoreFile,
    main: MappedModule,
    sysroot: Path | None,
    debug_dirs: Sequence[Path],
    executable_dirs: Sequence[Path],
) -> None:
    for candidate in _candidates(main, sysroot, debug_dirs, executable_dirs):
        match = _check(core, main, candidate)
        if match == "exact" or (match == "unchecked" and main.build_id is None):
            resolved.executable, resolved.executable_match = candidate, match
            if match == "unchecked":
                resolved.soft_errors.append(
                    f"{_shown(main.path)} was taken by its path: the core holds no build-id of it"
                )
            return
        if match == "mismatch" and candidate.name == main.name:
            resolved.soft_errors.append(
                f"{_shown(str(candidate))} is another build than the one that crashed: not used"
            )
    wanted = f" with build-id {main.build_id}" if main.build_id else ""
    resolved.soft_errors.append(
        f"the executable {_shown(main.path)}{wanted} is not at hand: no function names or lines"
    )


def _candidates(
    main: MappedModule, sysroot: Path | None, debug_dirs: Sequence[Path], executable_dirs: Sequence[Path]
) -> Iterator[Path]:
    if found := in_root(sysroot or Path("/"), main.path):
        yield found
    if main.build_id:
        for folder in (*executable_dirs, *debug_dirs):
            path = by_build_id(folder, main.build_id)
            with contextlib.suppress(OSError):  # a folder that the confined process may not enter
                if path.is_file():
                    yield path.resolve()
    yield from _walk(executable_dirs, main)


def by_build_id(folder: Path, build_id: str, suffix: str = "") -> Path:
    """Where a debug directory keeps the file of `build_id`; `suffix` is `.debug` for its debug information."""
    return folder / ".build-id" / build_id[:2] / f"{build_id[2:]}{suffix}"


def _walk(folders: Sequence[Path], main: MappedModule) -> Iterator[Path]:
    """Files in `folders`; those of the executable's name first, the others only when there is a build-id to tell."""
    others: list[Path] = []
    seen = 0
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                seen += 1
                if seen > _SEARCHED_FILES:
                    break
                if name == main.name:
                    yield Path(parent) / name
                elif main.build_id:
                    others.append(Path(parent) / name)
    yield from others


def _library(
    resolved: Resolved, core: CoreFile, module: MappedModule, sysroot: Path | None, folders: Sequence[Path]
) -> None:
    found = in_root(sysroot or Path("/"), module.path)
    match: Match = _check(core, module, found) if found else "absent"
    for folder in folders if match in ("absent", "mismatch") and module.build_id else ():
        stored = by_build_id(folder, module.build_id or "")
        if stored.is_file() and _check(core, module, stored) == "exact":
            found, match = stored, "exact"
            break
    resolved.matches[module.path] = match
    shown = _shown(module.path)
    if match == "absent":
        resolved.soft_errors.append(f"{shown} is not at hand: its frames have no names")
    elif match == "mismatch":
        resolved.soft_errors.append(f"{shown} here is another build than the one that was mapped: not used")
    elif found is not None:
        if match == "unchecked":
            resolved.soft_errors.append(f"{shown} cannot be checked: there is no build-id to compare")
        _use(resolved, core, module, found)


def _use(resolved: Resolved, core: CoreFile, module: MappedModule, local: Path) -> None:
    """Let gdb have `local` for `module`; read memory through it only when it is proved to be the same file."""
    if _clean(module.path):
        resolved.files[module.path] = local
    if resolved.matches[module.path] == "exact":
        file = FileBytes(local)
        resolved._open.append(file)
        for mapped in module.mappings:
            core.memory.back(mapped, file)


def _check(core: CoreFile, module: MappedModule, path: Path) -> Match:
    """How `path` compares with `module`; a file that is no ELF file is another one."""
    try:
        with FileBytes(path) as file:
            elf = ElfFile(file)
            match = compare(module, elf)
            other = match == "unchecked" and same_dynamic_section(core, module, elf) is False
            return "mismatch" if other else match
    except UnusableCore:
        return "mismatch"


def in_root(root: Path, path: str) -> Path | None:
    """The regular file at `path` below `root`, symbolic links followed as if `root` were `/`; None when not there."""
    path = path.removesuffix(" (deleted)")  # replaced on disk while it ran; the build-id tells
    if not _clean(path):
        return None
    parts = [part for part in path.split("/") if part][::-1]
    current: list[str] = []
    links = 0
    while parts:
        part = parts.pop()
        if part == "..":
            current = current[:-1]
            continue
        here = root.joinpath(*current, part)
        try:
            mode = here.lstat().st_mode
            if stat.S_ISLNK(mode):
                links += 1
                if links > _LINKS:
                    return None
                target = str(here.readlink())
                current = [] if target.startswith("/") else current
                parts += [item for item in target.split("/") if item not in ("", ".")][::-1]
                continue
        except (OSError, ValueError):
            return None
        current.append(part)
    found = root.joinpath(*current)
    return found if found.is_file() else None


def _clean(path: str) -> bool:
    """An absolute, plain path; `a (deleted)` and hostile ones are not."""
    return (
        path.startswith("/")
        and len(path) < 4096
        and path.isprintable()
        and not any(part in (".", "..") for part in path.split("/"))
        and "//" not in path
        and not path.endswith("/")
    )


def _shown(path: str) -> str:
    return ascii(path[:300])
