"""Write an ELF core that holds the notes of another one and pieces of its memory.

Layout of elf(5): header, program headers, notes, memory. Mappings that the original does not hold either (code of
files) keep their program header; those that are left out have none, so that a debugger says that they cannot be read.
It would show zeros for a header without bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import BinaryIO

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import MAX_NOTE_BYTES, PT_LOAD, PT_NOTE, ElfFile, Segment, parse_notes
from diagnosis.crashes.origin import origin_note

_CHUNK = 1 << 20
_MOST_HEADERS = 65_000
_MOST_NOTES = 16
_PAGE = 4096


def write_core(core: CoreFile, kept: Sequence[Segment], target: BinaryIO, progress: Callable[[int], None]) -> int:
    """Write the reduced core to `target`, which need not be seekable; returns its size in bytes.

    `progress` is called with the bytes written so far. Raises OSError of `target`.
    """
    header, order = core.header, core.header.order
    elf = ElfFile(core.file)
    notes = _notes(core, elf)
    size = core.origin.size if core.origin else core.file.size
    mappings = core.memory.segments
    notes.append(origin_note(size, core.missing_bytes, mappings, order))
    undumped = [m for m in mappings if m.filesz == 0 and m.memsz][: _MOST_HEADERS - len(kept) - len(notes)]
    loads = sorted([*kept, *undumped], key=lambda segment: segment.vaddr)

    fixed, entry = (64, 56) if header.bits == 64 else (52, 32)
    at = fixed + entry * (len(notes) + len(loads))
    table = []
    for note in notes:
        table.append(_entry(header.bits, order, Segment(PT_NOTE, 0, at, 0, len(note), 0), 4))
        at += len(note)
    at += -at % _PAGE
    first = at
    for load in loads:
        table.append(
            _entry(header.bits, order, Segment(PT_LOAD, load.flags, at, load.vaddr, load.filesz, load.memsz), 1)
        )
        at += load.filesz
    head = bytearray(core.file.read(0, fixed))
    head[fixed - 12 :] = struct.pack(order + "6H", fixed, entry, len(table), 0, 0, 0)
    struct.pack_into(order + ("QQ" if header.bits == 64 else "II"), head, 32 if header.bits == 64 else 28, fixed, 0)
    target.write(bytes(head) + b"".join(table))
    for note in notes:
        target.write(note)
    target.write(bytes(first - fixed - entry * len(table) - sum(map(len, notes))))
    written = first
    for load in loads:
        written += _copy(core, load, target)
        progress(written)
    return written


def _copy(core: CoreFile, piece: Segment, target: BinaryIO) -> int:
    at = 0
    while at < piece.filesz:
        chunk = core.file.read(piece.offset + at, min(_CHUNK, piece.filesz - at))
        if not chunk:  # the file shrank, or its disk fails: later pieces must stay where the headers say
            chunk = bytes(min(_CHUNK, piece.filesz - at))
        target.write(chunk)
        at += len(chunk)
    return at


def _notes(core: CoreFile, elf: ElfFile) -> list[bytes]:
    """The notes of each segment that has some; the kernel and debuggers write one."""
    found: list[bytes] = []
    room = MAX_NOTE_BYTES
    for segment in [segment for segment in elf.segments if segment.type == PT_NOTE][:_MOST_NOTES]:
        if room > 0:
            found.append(_whole_notes(core, segment))
            room -= len(found[-1])
    return found


def _whole_notes(core: CoreFile, segment: Segment) -> bytes:
    """The notes of `segment` up to the last that is there as a whole, without an earlier note of ours."""
    data = core.file.read(segment.offset, min(segment.filesz, MAX_NOTE_BYTES))
    end = 0
    for note in parse_notes(data, core.header.order):
        if core.origin is not None and note.owner == b"PARAMEDIC":
            return data[:end]
        end = min(len(data), note.offset + (len(note.data) + 3) // 4 * 4)
    return data[:end]


def _entry(bits: int, order: str, s: Segment, align: int) -> bytes:
    if bits == 64:
        return struct.pack(order + "IIQQQQQQ", s.type, s.flags, s.offset, s.vaddr, 0, s.filesz, s.memsz, align)
    return struct.pack(order + "8I", s.type, s.offset, s.vaddr, 0, s.filesz, s.memsz, s.flags, align)
