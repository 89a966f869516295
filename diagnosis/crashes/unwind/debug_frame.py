"""Call frame information that is only for debuggers: `.debug_frame` (DWARF 5, 6.4.1), in the verified local file.

C programs of machines whose compiler writes no `.eh_frame` on its own have nothing else: gcc 12 for RISC-V,
and programs built with -fno-asynchronous-unwind-tables. Addresses are those of the file, not relative.
"""

from __future__ import annotations

import struct
from bisect import bisect_right

from diagnosis.crashes.elf import ElfFile, FileBytes
from diagnosis.crashes.sections import SHT_NOBITS, sections_of
from diagnosis.crashes.unwind.cfi import BadTable, Cie, Row, parse_cie, row_at
from errors import UnusableCore

_MAX_TABLE = 64 << 20
_MAX_ENTRIES = 1_000_000
_COMMON = 0xFFFFFFFF


class DebugFrames:
    """The entries of one file. `bias` is what the loader added to its addresses."""

    def __init__(self, file: FileBytes, bias: int, word: int) -> None:
        """Read the section; a file without one, or with one that cannot be read, has no entries."""
        self._bias, self._word = bias, word
        self._data = _section(file)
        self._address = struct.Struct("<QQ" if word == 8 else "<II")
        self._cies: dict[int, Cie] = {}
        found: list[tuple[int, int]] = []
        at = 0
        for _ in range(_MAX_ENTRIES):
            if at + 8 + self._address.size > len(self._data):
                break
            length, identity = struct.unpack_from("<II", self._data, at)
            if not 8 <= length <= len(self._data) - at - 4:
                break
            if identity != _COMMON and length >= 4 + self._address.size:
                found.append((self._address.unpack_from(self._data, at + 8)[0], at))
            at += 4 + length
        found.sort()
        self._starts = [start for start, _ in found]
        self._entries = [entry for _, entry in found]

    def row(self, pc: int) -> Row | None:
        """The row for the instruction at `pc` of the process. Raises BadTable when its entry cannot be read."""
        target = pc - self._bias
        index = bisect_right(self._starts, target) - 1
        if index < 0:
            return None
        at = self._entries[index]
        length, identity = struct.unpack_from("<II", self._data, at)
        start, size = self._address.unpack_from(self._data, at + 8)
        if not start <= target < start + size:
            return None
        program = self._data[at + 8 + self._address.size : at + 4 + length]
        return row_at(self._cie(identity), program, start, target, self._word)

    def _cie(self, at: int) -> Cie:
        if at not in self._cies:
            head = self._data[at : at + 8]
            length, identity = struct.unpack("<II", head) if len(head) == 8 else (0, 0)
            entry = self._data[at + 8 : at + 4 + length]
            name_end = entry.find(b"\0", 1)
            if identity != _COMMON or name_end < 0:
                raise BadTable("no common entry")
            if entry[0] >= 4:  # since DWARF 4: sizes of an address and of a segment selector
                entry = entry[: name_end + 1] + entry[name_end + 3 :]
            self._cies[at] = parse_cie(entry, self._word)
        return self._cies[at]


def _section(file: FileBytes) -> bytes:
    try:
        section = sections_of(ElfFile(file)).get(".debug_frame")
    except UnusableCore:
        return b""
    if section is None or section.type == SHT_NOBITS:
        return b""
    return file.read(section.offset, min(section.size, _MAX_TABLE))
