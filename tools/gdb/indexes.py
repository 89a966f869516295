"""gdb's indexes of large debug information, kept by build-id: the next core of a big program is opened at once.

Without an index gdb reads through all debug information to learn what is where (gdb manual, "Index Files Speed Up
GDB"). An index is made in a step of its own, after a report, by a confined process that sees nothing but the one file;
it is used for that very file only (device, inode, size and time of change are part of its name), so that a file which
claims the build-id of another misleads nobody but its own readers.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from diagnosis.crashes.elf import ElfFile, FileBytes
from diagnosis.crashes.sections import SHT_NOBITS, build_id_of, sections_of
from errors import ParamedicError, ToolFailed, UnusableCore
from settings import GdbSettings
from tools.gdb.opened import OpenedCore

SUFFIX = ".gdb-index"
MAX_INDEX_BYTES = 1 << 30
_LIBRARY_BYTES = 1 << 20
"""Of a library's debug information: less than of a program's is worth an index, since every program's core has it.

glibc's (2 MB, packed) takes half of the time in which gdb opens a small core.
"""
_END = b"whole index of "
_BUILD_ID = re.compile(r"[0-9a-f]{8,128}")


def with_indexes(opened: OpenedCore, settings: GdbSettings) -> tuple[OpenedCore, dict[str, Path]]:
    """`opened` with the indexes that are there, and the large files that have none. Blocking."""
    if settings.index_cache is None:
        return opened, {}
    large = large_debug_files(opened, settings.index_from_bytes)
    known = known_indexes(settings.index_cache, large)
    case = replace(opened.case, indexes=known)
    return replace(opened, case=case), {name: path for name, path in large.items() if name not in known}


def large_debug_files(opened: OpenedCore, least: int) -> dict[str, Path]:
    """Files at hand with at least `least` bytes of debug information and no index of their own, by build-id.

    Of libraries so many bytes or `_LIBRARY_BYTES`.
    """
    resolved = opened.resolved
    found: dict[str, Path] = {}
    for module in opened.modules.all:
        names = resolved.debug.known.get(module.path)
        if module.build_id is None or names is None:
            continue
        local = resolved.debug.by_build_id.get(module.build_id)
        if names.symbols == "dwarf" and local is None:
            local = resolved.executable if module.is_main else resolved.files.get(module.path)
        if local is not None and _size(local) >= (least if module.is_main else min(least, _LIBRARY_BYTES)):
            found[module.build_id] = local
    return found


def known_indexes(folder: Path, files: Mapping[str, Path]) -> dict[str, Path]:
    """The indexes in `folder` of these files, by build-id."""
    found = {}
    for build_id, local in files.items():
        name = _name(build_id, local)
        with contextlib.suppress(PermissionError):  # a folder that is closed to the user of this core
            if name is not None and _is_whole(folder / name):
                found[build_id] = folder / name
    return found


async def make_index(file: Path, target: Path, settings: GdbSettings) -> str | None:
    """Let gdb write the index of `file` into the folder `target`, inside the confined process. Its file name or None.

    None also where gdb finds nothing to index, or one is in the file already.
    """
    from tools.gdb.sandbox import limited

    options = ["-batch", "-nx", "-nh", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off"]
    options += ["-iex", "maint set worker-threads 0", "-iex", f"set index-cache directory {target}"]
    options += ["-iex", "set index-cache enabled on", str(file)]
    argv, environment = limited(settings, options, file_bytes=MAX_INDEX_BYTES)
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        cwd=target,
    )
    async with asyncio.timeout(settings.deadline):
        await process.wait()
    with FileBytes(file) as opened:
        elf = ElfFile(opened)
        build_id = build_id_of(elf, sections_of(elf))
    name = f"{build_id}{SUFFIX}"
    return name if await asyncio.to_thread((target / name).is_file) else None


async def keep_indexes(files: Mapping[str, Path], settings: GdbSettings) -> list[str]:
    """Make and keep the indexes of these files, one after another; build-ids of those that are there now.

    What fails is left out: an index only saves time. Old ones go when the folder holds more than it may.
    """
    folder = settings.index_cache
    if folder is None:
        return []
    kept = []
    for build_id, local in files.items():
        name = await asyncio.to_thread(_name, build_id, local)
        if name is None or await asyncio.to_thread(_is_whole, folder / name):
            continue
        with contextlib.suppress(ParamedicError, OSError):
            await _keep(local, build_id, folder / name, settings)
            kept.append(build_id)
    if kept:
        await asyncio.to_thread(_make_room, folder, settings.index_cache_bytes)
    return kept


async def _keep(local: Path, build_id: str, target: Path, settings: GdbSettings) -> None:
    from tools.gdb.contained import Request, run

    # confined, a core is read as its owner or nobody: they open what they can name, and list nothing
    await asyncio.to_thread(target.parent.mkdir, mode=0o711, parents=True, exist_ok=True)
    work = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="making-", dir=target.parent))
    try:
        answer = await run(Request("index", local, settings, writable=work, file_bytes=MAX_INDEX_BYTES))
        made = work / f"{build_id}{SUFFIX}"
        if answer != b"true" or made.is_symlink() or not made.is_file():
            raise ToolFailed("gdb made no index")
        await asyncio.to_thread(_adopt, made, target)
    finally:
        await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)


def _adopt(made: Path, target: Path) -> None:
    """Copied, so that nobody but us owns it; it is there whole or not at all."""
    part = made.parent / "adopted"
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(handle, "wb") as copy, made.open("rb") as source:
        shutil.copyfileobj(source, copy, 1 << 20)
        copy.write(_END + copy.tell().to_bytes(8, "little"))
        copy.flush()
        os.fsync(copy.fileno())
    part.replace(target)


def _is_whole(file: Path) -> bool:
    """Whether it ends as `_adopt` ends it: gdb dies of an index that is cut off. What follows its tables gdb ignores.

    Raises PermissionError where the folder is closed.
    """
    trailer = len(_END) + 8
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            if size < trailer:
                return False
            opened.seek(size - trailer)
            return opened.read() == _END + (size - trailer).to_bytes(8, "little")
    except PermissionError:
        raise
    except OSError:
        return False


def _name(build_id: str, local: Path) -> str | None:
    if not _BUILD_ID.fullmatch(build_id):
        return None
    try:
        status = local.stat()
    except OSError:
        return None
    identity = f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"
    return f"{build_id}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}{SUFFIX}"


def _size(local: Path) -> int:
    """Bytes of debug information; 0 where the file has an index of its own."""
    try:
        with FileBytes(local) as file:
            sections = sections_of(ElfFile(file))
    except UnusableCore:
        return 0
    if ".gdb_index" in sections or ".debug_names" in sections:
        return 0
    section = sections.get(".debug_info") or sections.get(".zdebug_info")
    return section.size if section is not None and section.type != SHT_NOBITS else 0


def _make_room(folder: Path, most: int) -> None:
    files = sorted(_stats(folder.glob(f"*{SUFFIX}")), key=lambda item: -item[0])
    total = 0
    for _, size, path in files:  # the newest first
        total += size
        if total > most:
            path.unlink(missing_ok=True)


def _stats(paths: Iterable[Path]) -> Iterable[tuple[float, int, Path]]:
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            yield status.st_mtime, status.st_size, path
