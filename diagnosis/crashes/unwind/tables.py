"""Which call frame information covers a program counter: `.eh_frame_hdr`'s search table, else `.eh_frame` in order,
else what is only there for debuggers (debug_frame.py).

Static programs may have no search table (gcc's crtbeginT.o registers `.eh_frame` instead); there the section is found
by the verified local file's section headers.

All reads go through the core's memory, so that pages of verified local files stand behind what was not dumped, and a
program whose file is not at hand is still unwound as far as its pages are in the core (the vDSO always is).
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import pairwise

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import PT_LOAD, ElfFile, Segment, parse_header, parse_segments
from diagnosis.crashes.modules import MappedModule, Modules
from diagnosis.crashes.sections import sections_of
from diagnosis.crashes.unwind.cfi import BadTable, Cie, Row, parse_cie, pointer, row_at
from diagnosis.crashes.unwind.debug_frame import DebugFrames
from errors import UnusableCore

PT_GNU_EH_FRAME = 0x6474E550
AT_SYSINFO_EHDR = 33
_MAX_TABLE = 64 << 20
_MAX_ENTRY = 1 << 20
_MAX_LINEAR = 200_000
_SEARCHABLE = (0x3B, 0x1B)  # pairs of four-byte numbers, relative to the table or to themselves


@dataclass(frozen=True)
class _Place:
    """Where the table of an image is: `starts` and `entries` are addresses, sorted by start."""

    starts: list[int]
    entries: list[int]


class UnwindTables:
    """The rows of all modules of one core. Tables are read when first needed, and once."""

    def __init__(self, core: CoreFile, modules: Modules, word: int) -> None:
        self._core = core
        self._modules = modules
        self._word = word
        self._places: dict[int, _Place | None] = {}
        self._debug: dict[int, DebugFrames | None] = {}
        self._cies: dict[int, Cie] = {}
        self._vdso = core.auxv.get(AT_SYSINFO_EHDR)

    def row(self, pc: int) -> Row | None:
        """The row for the instruction at `pc`; None where there is none or it cannot be read."""
        place = self._place(pc)
        index = bisect_right(place.starts, pc) - 1 if place is not None else -1
        if place is not None and index >= 0:
            try:
                if (found := self._entry_row(place.entries[index], pc)) is not None:
                    return found
            except (BadTable, struct.error):
                return None
        return self._debug_row(pc)

    def _debug_row(self, pc: int) -> Row | None:
        """The row that is only there for debuggers."""
        module = self._modules.at(pc)
        if module is None:
            return None
        if module.base not in self._debug:
            self._debug[module.base] = self._debug_frames(module)
        frames = self._debug[module.base]
        try:
            return frames.row(pc) if frames is not None else None
        except BadTable:
            return None

    def _debug_frames(self, module: MappedModule) -> DebugFrames | None:
        file = self._core.memory.file_behind(module.base)
        if file is None:
            return None
        try:
            segments = ElfFile(file).segments
        except UnusableCore:
            return None
        first = next((s.vaddr - s.offset for s in segments if s.type == PT_LOAD), 0)
        return DebugFrames(file, module.base - first, self._word)

    def _place(self, pc: int) -> _Place | None:
        module = self._modules.at(pc)
        base = module.base if module else self._vdso
        if base is None:
            return None
        if base not in self._places:
            try:
                self._places[base] = self._load(base, module)
            except (BadTable, struct.error):
                self._places[base] = None
        return self._places[base]

    def _load(self, base: int, module: MappedModule | None) -> _Place | None:
        header = parse_header(self._bytes(base, 64))
        if header is None:
            return None
        table = module.program_headers if module else b""
        if not table:
            table = self._bytes(base + header.phoff, min(header.phnum, 256) * header.phentsize)
        segments = parse_segments(replace(header, phnum=min(header.phnum, 256)), table)
        first = next((s.vaddr - s.offset for s in segments if s.type == PT_LOAD), 0)
        bias = base - first
        frames = next((s for s in segments if s.type == PT_GNU_EH_FRAME), None)
        return self._search_table(frames, bias) if frames is not None else self._by_section(base, bias)

    def _search_table(self, segment: Segment, bias: int) -> _Place | None:
        at = bias + segment.vaddr
        data = self._bytes(at, min(max(segment.filesz, 12), _MAX_TABLE))
        if len(data) < 8 or data[0] != 1:
            return None
        frame_encoding, count_encoding, encoding = data[1:4]
        frames, used = pointer(data, 4, frame_encoding, at + 4, self._word, at)
        if count_encoding != 0xFF and encoding in _SEARCHABLE:
            count, used = pointer(data, used, count_encoding, at + used, self._word, at)
            count = min(count, (len(data) - used) // 8)
            numbers = struct.unpack_from(f"<{2 * count}i", data, used)
            if encoding == 0x3B:
                starts = [at + number for number in numbers[::2]]
                entries = [at + number for number in numbers[1::2]]
            else:
                starts = [at + used + 8 * i + number for i, number in enumerate(numbers[::2])]
                entries = [at + used + 8 * i + 4 + number for i, number in enumerate(numbers[1::2])]
            if count and all(a <= b for a, b in pairwise(starts)):
                return _Place(starts, entries)
        return self._linear(frames)

    def _by_section(self, base: int, bias: int) -> _Place | None:
        file = self._core.memory.file_behind(base)
        if file is None:
            return None
        try:
            elf = ElfFile(file)
        except UnusableCore:
            return None
        section = sections_of(elf).get(".eh_frame")
        loads = (s for s in elf.segments if s.type == PT_LOAD)
        holder = next((s for s in loads if section and s.offset <= section.offset < s.offset + s.filesz), None)
        if section is None or holder is None:
            return None
        return self._linear(bias + holder.vaddr + section.offset - holder.offset)

    def _linear(self, at: int) -> _Place | None:
        """All entries from `at` on, for images whose search table is missing or damaged."""
        found: list[tuple[int, int]] = []
        for _ in range(_MAX_LINEAR):
            head = self._bytes(at, 8)
            if len(head) < 8:
                break
            length, back = struct.unpack("<II", head)
            if length == 0 or length > _MAX_ENTRY:
                break
            if back:
                try:
                    cie = self._cie(at + 4 - back)
                    body = self._bytes(at + 8, 2 * self._word)
                    start, _ = pointer(body, 0, cie.encoding, at + 8, self._word)
                    found.append((start, at))
                except BadTable:
                    pass
            at += 4 + length
        found.sort()
        return _Place([start for start, _ in found], [entry for _, entry in found]) if found else None

    def _entry_row(self, at: int, pc: int) -> Row | None:
        length, back = struct.unpack("<II", self._bytes(at, 8))
        if not 8 <= length <= _MAX_ENTRY or not back:
            return None
        cie = self._cie(at + 4 - back)
        body = self._bytes(at + 8, length - 4)
        start, used = pointer(body, 0, cie.encoding, at + 8, self._word)
        size, used = pointer(body, used, cie.encoding & 0x0F, 0, self._word)
        if not start <= pc < start + size:
            return None
        if cie.augmented:
            skipped, used = pointer(body, used, 0x01, 0, self._word)
            used += skipped
        return row_at(cie, body[used:], start, pc, self._word)

    def _cie(self, at: int) -> Cie:
        if at not in self._cies:
            head = self._bytes(at, 8)
            length, identity = struct.unpack("<II", head) if len(head) == 8 else (0, 1)
            if identity != 0 or not 8 <= length <= 1 << 16:
                raise BadTable("no common entry")
            self._cies[at] = parse_cie(self._bytes(at + 8, length - 4), self._word)
        return self._cies[at]

    def _bytes(self, address: int, count: int) -> bytes:
        """Up to `count` bytes, across the border between what was dumped and what stands in a file."""
        memory, parts = self._core.memory, []
        while count > 0:
            part = memory.read(address, count)
            if not part:
                break
            parts.append(part)
            address += len(part)
            count -= len(part)
        return b"".join(parts)
