"""A core as it comes: packed, in an archive, with its executable beside it. What comes out is a plain file.

One plain, blocking function, so that it can run in a process of its own: what is read here was made by somebody else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from diagnosis.crashes.elf import ET_CORE, ET_DYN, ET_EXEC, PT_NOTE, parse_header, parse_segments
from diagnosis.crashes.formats import elf_type, is_packed, is_tar, is_zip, packed_with, what_is
from errors import InvalidInput, UnusableCore
from tools.cores.archive import Member, tar_members, zip_members
from tools.cores.packing import unpacked
from tools.cores.plain import Unpacked
from tools.cores.sparse import Limits, SparseFile
from tools.cores.streams import CHUNK, Readable, Source

MAX_DEPTH = 4
"""Packed in packed: core.zst in a tar.gz is three."""
MAX_PROGRAMS = 64
MAX_PROGRAM_BYTES = 2 << 30

_HEAD = 64 << 10


@dataclass
class _Work:
    target: Path
    limits: Limits
    allowed: int
    core: Path | None = None
    compression: str = ""
    programs: int = 0
    other_cores: int = 0
    seen: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)

    @property
    def program_folder(self) -> Path:
        return self.target / "programs"


def unpack(source: Path, target_dir: Path, limits: Limits) -> Unpacked:
    """Find the core in `source` and write it to `target_dir`, an empty private folder. Blocking.

    A stream that is cut off or damaged gives what came before that, and a soft error. Names in archives are never
    used as paths. Raises UnusableCore when there is no core in it, InputTooLarge past `limits`,
    ToolFailed when the disk is full.
    """
    try:
        stream = source.open("rb")
    except (OSError, ValueError):
        return Unpacked(source)  # the reader of cores says what is wrong with it
    with stream:
        head = stream.read(_HEAD)
        if not is_packed(head):
            return Unpacked(source)
        stream.seek(0)
        work = _Work(target_dir, limits, limits.of_packed(source.stat().st_size))
        if is_zip(head):
            _members(work, zip_members(stream, work.damage.append), ["zip"])
        else:
            _read(work, stream, "", [])
    if work.core is None:
        found = f": it holds {', '.join(work.seen[:5])}" if work.seen else ""
        found = ": what is packed in it is empty, or cut off at its start" if work.seen == [what_is(b"")] else found
        damage = f"; {work.damage[0]}" if work.damage else ""
        raise UnusableCore(f"{str(source)[:300]!a} holds no core dump{found}{damage}")
    if work.other_cores:
        work.damage.append(f"{work.other_cores} more cores in the archive are not read: only the first is")
    return Unpacked(
        work.core,
        work.compression,
        work.program_folder if work.programs else None,
        tuple(dict.fromkeys(work.damage)),
    )


def _read(work: _Work, stream: Readable, name: str, packing: list[str]) -> None:
    """Look at what `stream` is, and take it when it is a core or a program."""
    source = Source(stream)
    head = source.peek(_HEAD)
    kind = elf_type(head)
    if kind == ET_CORE and _holds_notes(head):
        if work.core is None:
            work.core, work.compression = work.target / "core", _named(packing)
            _save(work, source, work.core, work.allowed)
        else:
            work.other_cores += 1
    elif kind in (ET_EXEC, ET_DYN) and packing and packing[-1] in ("tar", "zip"):
        _program(work, source)
    elif (compression := packed_with(head)) is not None and len(packing) < MAX_DEPTH:
        _read(work, unpacked(compression, source, work.damage.append), name, [*packing, compression])
    elif is_tar(head) and "tar" not in packing and "zip" not in packing:
        _members(work, tar_members(source, work.allowed, work.damage.append), [*packing, "tar"])
    elif len(work.seen) < 5:
        work.seen.append(f"{name[:80]!a} ({what_is(head)})" if name else what_is(head))


def _members(work: _Work, members: Iterable[Member], packing: list[str]) -> None:
    for member in members:
        _read(work, member.stream, member.name, packing)
        work.allowed -= member.taken
        if work.allowed <= 0:
            work.damage.append("the archive holds more than is allowed: the rest of it was not read")
            return


def _program(work: _Work, source: Source) -> None:
    """Keep an executable or library: it may be the one that crashed."""
    if work.programs >= MAX_PROGRAMS:
        return
    work.program_folder.mkdir(exist_ok=True)
    work.programs += 1
    path = work.program_folder / str(work.programs)
    try:
        _save(work, source, path, min(MAX_PROGRAM_BYTES, work.allowed))
    except InvalidInput:
        path.unlink()


def _save(work: _Work, source: Source, path: Path, limit: int) -> None:
    with SparseFile(path, limit, work.limits.disk_reserve) as file:
        while chunk := source.read(CHUNK):
            file.write(chunk)


def _holds_notes(head: bytes) -> bool:
    """A core has notes: separate debug files and damaged ones of that type do not. Looks at what is there."""
    header = parse_header(head[:64])
    if header is None:
        return False
    table = head[header.phoff : header.phoff + header.phnum * header.phentsize]
    return not table or any(segment.type == PT_NOTE for segment in parse_segments(header, table))


def _named(packing: list[str]) -> str:
    """`tar+gzip` for a tar that was compressed, as the names of such files say it; else outermost first."""
    if len(packing) >= 2 and packing[1] == "tar":
        return "+".join(["tar", packing[0], *packing[2:]])
    return "+".join(packing)
