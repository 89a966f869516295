"""Where a Go program lies in a core's memory: its text, its types, its tables (runtime, `moduledata`)."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from diagnosis.crashes.causes.golang.pclntab import Function, LineTable, Place, line_table
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import PT_LOAD, PT_NOTE, ElfFile
from diagnosis.crashes.modules import MappedModule

_SEARCHED_BYTES = 64 << 20
_PART = 4 << 20
_MAX_LOOKS = 64
# words of moduledata: its head is the same since Go 1.18
_WORDS = 41
_FUNCTIONS_COUNT, _FIRST_PC, _TEXT, _TEXT_END, _TYPES = 17, 20, 22, 23, 37
_TYPES_END, _FUNCTION_DATA = 1, 3  # words after `types`


@dataclass(frozen=True)
class Layout:
    """Addresses in the process. `types` and `function_data` are None where the description could not be verified."""

    text: int
    text_end: int
    types: range | None = None
    function_data: int | None = None


class Program:
    """A Go program of one core: what its tables say of addresses in the process."""

    def __init__(self, core: CoreFile, module: MappedModule, elf: ElfFile) -> None:
        """Raises ValueError when `elf` has no table that is known, or it is not the one that the process used."""
        table = line_table(elf)
        if table is None:
            raise ValueError("the executable has no line table of Go 1.18 or later")
        first = next((s.vaddr - s.offset for s in elf.segments if s.type == PT_LOAD), 0)
        bias = module.base - first
        if not _same_notes(core, elf, bias):
            raise ValueError("the executable is another build")
        layout = _described(core, module, table, table.address + bias) or _by_header(table, module, bias)
        if layout is None:
            raise ValueError("the core does not say where the program's text begins")
        self.layout = layout
        self._table = table
        self._memory, self._elf, self._bias = core.memory, elf, bias
        self._functions: dict[int, Function | None] = {}

    def function(self, pc: int) -> Function | None:
        """The function that holds the instruction at `pc`."""
        if not self.layout.text <= pc < self.layout.text_end:
            return None
        if pc not in self._functions:
            self._functions[pc] = self._table.function(pc - self.layout.text)
        return self._functions[pc]

    def frame_size(self, function: Function, pc: int) -> int | None:
        return self._table.frame_size(function, pc - self.layout.text)

    def calls(self, function: Function, pc: int) -> list[Place]:
        """The calls at `pc`, inlined ones first; the last is `function` itself."""
        base = self.layout.function_data
        read = (lambda offset, count: self.read(base + offset, count)) if base is not None else None
        return self._table.calls(function, pc - self.layout.text, read)

    def read(self, address: int, count: int) -> bytes:
        """Up to `count` bytes of the process; pages that are never written are read from the executable itself."""
        if data := self._memory.read(address, count):
            return data
        at = address - self._bias
        for segment in self._elf.segments:
            if segment.type == PT_LOAD and not segment.writable and 0 <= at - segment.vaddr < segment.filesz:
                within = at - segment.vaddr
                return self._elf.file.read(segment.offset + within, min(count, segment.filesz - within))
        return b""

    def entry(self, function: Function) -> int:
        return self.layout.text + function.entry


def _same_notes(core: CoreFile, elf: ElfFile, bias: int) -> bool:
    """Go's own build id is in a note on the first page, which the kernel dumps; GNU's is not in every Go program."""
    for segment in elf.segments:
        if segment.type == PT_NOTE and segment.filesz < 1 << 16:
            there = core.memory.read(segment.vaddr + bias, segment.filesz)
            if there and there != elf.file.read(segment.offset, len(there)):
                return False
    return True


def _described(core: CoreFile, module: MappedModule, table: LineTable, address: int) -> Layout | None:
    """By the module's description: it begins with the table's address and that of the names in it."""
    if not module.base <= address < module.end or table.names_at >= module.end - address:
        return None
    wanted = struct.pack("<QQ", address, address + table.names_at)
    for at in islice(_occurrences(core, module, wanted), _MAX_LOOKS):
        data = core.memory.read(at, _WORDS * 8)
        if len(data) < _WORDS * 8:
            continue
        words = struct.unpack(f"<{_WORDS}Q", data)
        text, end = words[_TEXT], words[_TEXT_END]
        if words[_FIRST_PC] != text or not text < end or words[_FUNCTIONS_COUNT] != table.count + 1:
            continue
        if not module.base <= text or not end <= module.end:
            continue
        return _with_data(module, words, text, end, _TYPES if table.has_coverage else _TYPES - 2)
    return None


def _with_data(module: MappedModule, words: tuple[int, ...], text: int, end: int, types_at: int) -> Layout:
    types, types_end, data = words[types_at], words[types_at + _TYPES_END], words[types_at + _FUNCTION_DATA]
    if not module.base <= types < types_end <= module.end or not module.base <= data < module.end:
        return Layout(text, end)
    return Layout(text, end, range(types, types_end), data)


def _occurrences(core: CoreFile, module: MappedModule, wanted: bytes) -> Iterator[int]:
    """Where in the dumped memory of `module` the bytes are, word by word."""
    room = _SEARCHED_BYTES
    starts = [mapped.start for mapped in module.mappings]
    for piece in core.memory.pieces:
        index = bisect_right(starts, piece.vaddr) - 1
        if index < 0 or piece.vaddr >= module.end or not piece.filesz:
            continue
        at = piece.vaddr
        while at < piece.vaddr + piece.filesz and room > 0:
            data = core.memory.read(at, min(_PART + len(wanted), room))
            if not data:
                break
            found = data.find(wanted)
            while found >= 0:
                if (at + found) % 8 == 0:
                    yield at + found
                found = data.find(wanted, found + 1)
            room -= len(data)
            at += _PART


def _by_header(table: LineTable, module: MappedModule, bias: int) -> Layout | None:
    """By the start of the text that the table itself names, as Go 1.18 to 1.25 have it."""
    start = table.text_in_header + bias
    if not table.text_in_header or not module.base <= start < module.end:
        return None
    return Layout(start, min(module.end, start + table.text_size))
