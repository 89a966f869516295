"""The note that a reduced core carries: what it was made of, and the map of memory before most of it was left out.

Its owner is `PARAMEDIC`; debuggers pass over owners that they do not know. A reduced core holds only the pieces that
were kept, so that a debugger says of the rest that it cannot be read. What was mapped is kept here: without it a kept
piece would look like a mapping of its own, and the memory beside it like an unmapped hole.

Layout, in the byte order of the core: u32 version, u32 count, u64 size of the original file, u64 bytes that were
missing of it, then `count` times u64 start, u64 size in memory, u64 size in the original file, u64 flags (p_flags).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from diagnosis.crashes.elf import MAX_SEGMENTS, PT_LOAD, Note, Segment

OWNER = b"PARAMEDIC"
NT_ORIGIN = 0x50415241  # no type that a debugger reads, whoever the owner
_VERSION = 1
_HEAD, _ENTRY = "IIQQ", "QQQQ"
_MOST = 2**64 - 1
_NOWHERE = 1 << 63
"""File offset of bytes that were left out: reading there gives nothing."""


@dataclass(frozen=True)
class Origin:
    """Of a reduced core. Sizes in bytes; `mappings` are all of the original, with no place in this file."""

    size: int
    missing_bytes: int
    mappings: tuple[Segment, ...]


def origin_note(size: int, missing_bytes: int, mappings: Sequence[Segment], order: str) -> bytes:
    """The whole note, padded to four bytes."""
    missing_bytes = min(missing_bytes, _MOST)  # damaged headers may name more bytes than there can be
    data = struct.pack(order + _HEAD, _VERSION, len(mappings), min(size, _MOST), missing_bytes)
    data += b"".join(struct.pack(order + _ENTRY, m.vaddr, m.memsz, m.filesz, m.flags) for m in mappings)
    name = OWNER + b"\0"
    padded = name + bytes(-len(name) % 4)
    return struct.pack(order + "III", len(name), len(data), NT_ORIGIN) + padded + data


def read_origin(note: Note, order: str) -> Origin | None:
    """What `note` says, or None when it is not such a note, of another version, or damaged."""
    head = struct.calcsize(order + _HEAD)
    if note.owner != OWNER or note.type != NT_ORIGIN or len(note.data) < head:
        return None
    version, count, size, missing = struct.unpack_from(order + _HEAD, note.data, 0)
    if version != _VERSION or count > MAX_SEGMENTS or len(note.data) != head + count * struct.calcsize(order + _ENTRY):
        return None
    mappings = tuple(
        Segment(PT_LOAD, flags & 7, _NOWHERE, start, min(in_file, in_memory), in_memory)
        for start, in_memory, in_file, flags in struct.iter_unpack(order + _ENTRY, note.data[head:])
    )
    return Origin(size, missing, mappings)
