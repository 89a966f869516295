"""Whether a file is a whole core: by what its ELF headers say, not by its size having stopped.

The kernel writes a core front to back and sets the file's length last (fs/coredump.c), so a file as long as its
program headers demand is whole. A shorter one is still being written, or was cut: by the process's RLIMIT_CORE, by a
full disk, or by something that nobody saw.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from diagnosis.crashes.elf import ET_CORE, PN_XNUM, ElfFile, FileBytes
from diagnosis.crashes.formats import is_packed, what_is
from errors import UnusableCore
from incidents.collected import Completeness

_HEAD = 512
_PAGE = 4096


@dataclass(frozen=True)
class Condition:
    """`completeness` None: it may still grow. `missing` bytes are what its headers name beyond its end."""

    completeness: Completeness | None
    missing: int = 0
    reason: str | None = None


def examine(path: Path) -> Condition:
    """The condition of a file as it is now. Blocking, but reads its headers only. Raises UnusableCore (unreadable)."""
    with FileBytes(path) as file:
        head = file.read(0, _HEAD)
        if not head.strip(b"\0"):  # the headers are written last by some file systems
            return Condition(None, _HEAD, "the file has no headers")
        if is_packed(head):
            return Condition(Completeness.COMPLETE)
        if head[:4] != b"\x7fELF"[: len(head)]:
            return Condition(Completeness.NOT_A_CORE, reason=f"it is {what_is(head)}")
        try:
            elf = ElfFile(file)
        except UnusableCore:
            return Condition(None, _HEAD, "its headers are cut off or damaged")
        if elf.header.type != ET_CORE:
            return Condition(Completeness.NOT_A_CORE, reason=f"it is {what_is(head)}")
        extent = max((segment.offset + segment.filesz for segment in elf.segments), default=0)
        extent = max(extent, *_tables(elf))
        if file.size < extent:
            return Condition(None, extent - file.size, f"{extent - file.size} of its {extent} bytes are missing")
        return Condition(Completeness.COMPLETE)


def _tables(elf: ElfFile) -> tuple[int, int]:
    """Where the program headers end, and the section header that counts them when there are 65,535 or more."""
    header = elf.header
    many = header.phnum == PN_XNUM
    headers = header.phoff + (0 if many else header.phnum * header.phentsize)
    return headers, header.shoff + (64 if header.bits == 64 else 40) if many else 0


def why_cut(path: Path, condition: Condition, core_limits: Collection[int]) -> Condition:
    """The final condition of a file that is not whole and no longer grows.

    `core_limits` are what RLIMIT_CORE the process may have had, in bytes, where that is known. The kernel stops at the
    first piece that would pass the limit, so what it wrote ends within a page below it. Holes do not count, and what a
    file with holes takes of the disk is up to two pages more than was written.
    """
    status = path.stat()
    space = os.statvfs(path.parent)
    free = space.f_bavail * space.f_frsize
    what = condition.reason or "it is cut off"
    taken = min(status.st_size, status.st_blocks * 512)
    spare = 2 * _PAGE if taken < status.st_size else 0
    limits = [limit for limit in core_limits if -spare <= limit - taken <= _PAGE]
    if limits:
        said = f"{what}: the process may write cores of at most {min(limits)} bytes (RLIMIT_CORE)"
        return Condition(Completeness.CUT_BY_LIMIT, condition.missing, said)
    if free < max(_PAGE, min(condition.missing, 1 << 20)):
        said = f"{what}: the disk is full ({free} bytes are free)"
        return Condition(Completeness.NO_SPACE, condition.missing, said)
    return Condition(Completeness.TRUNCATED, condition.missing, f"{what}, and it no longer grows")
