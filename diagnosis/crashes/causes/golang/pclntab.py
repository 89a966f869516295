"""Go's table from program counters to functions, files, lines and frame sizes: `.gopclntab`.

The runtime needs it for tracebacks, so the linker's -s and -w leave it in. Layout of Go 1.18 and later: runtime's
symtab.go, runtime2.go (`pcHeader`, `_func`, `inlinedCall`) and internal/abi's symtab.go. All of it may be hostile:
every offset is checked by reading (short reads are answers), every loop is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from diagnosis.crashes.elf import PT_LOAD, ElfFile
from diagnosis.crashes.sections import SHT_NOBITS, sections_of

_SECTIONS = (".gopclntab", ".data.rel.ro.gopclntab")
_MAGIC_118, _MAGIC_120 = 0xFFFFFFF0, 0xFFFFFFF1
_HEADER = struct.Struct("<IHBBQQQQQQQQ")
_FUNCTION = struct.Struct("<IiiIIIIII")  # up to cuOffset
_CALL_118, _CALL_120 = struct.Struct("<12xii"), struct.Struct("<4xii4x")
"""An inlined call: where its name is, and an instruction of the caller where it was made."""
_MAX_FUNCTIONS = 8 << 20
_MAX_NAME = 512
_MAX_TABLE = 64 << 10
"""Bytes of one function's table of values; the largest generated functions of the standard library have 20 KiB."""
_ALL_TABLES = 4 << 20
"""Bytes of them that are read in all, so that a program cannot make this take long."""
_MAX_INLINED = 32
_INLINE_INDEX, _INLINE_TREE = 2, 3  # PCDATA_InlTreeIndex, FUNCDATA_InlTree

Read = Callable[[int, int], bytes]
"""Bytes at an offset, fewer past the end."""


@dataclass(frozen=True)
class Function:
    """A function of the table. Offsets are of the table's parts; `entry` is from the start of the text."""

    entry: int
    name: str
    pcsp: int
    pcfile: int
    pcln: int
    unit: int
    pcdata: tuple[int, ...]
    inline_tree: int | None
    """Offset of the table of inlined calls from the module's `gofunc`."""


@dataclass(frozen=True)
class Place:
    """One call, inlined or not; `function` is the linker's name, such as `main.(*Shop).open`."""

    function: str
    file: str | None
    line: int | None
    inlined: bool = False


class LineTable:
    """`read` gives the table's bytes; `address` is where the executable has it, before it was moved by the loader."""

    def __init__(self, read: Read, address: int) -> None:
        """Raises ValueError when it is no table of a known version for 64-bit little-endian machines."""
        self._read = read
        self.address = address
        header = read(0, _HEADER.size)
        if len(header) < _HEADER.size:
            raise ValueError("the table is cut off")
        magic, pad, quantum, word, count, _, text, *offsets = _HEADER.unpack(header)
        if magic not in (_MAGIC_118, _MAGIC_120) or pad or quantum not in (1, 2, 4) or word != 8:
            raise ValueError("not a line table of Go 1.18 or later")
        if not 0 < count <= _MAX_FUNCTIONS:
            raise ValueError("the table's count of functions is not possible")
        self.names_at, self._units, self._files, self._values, self._functions = offsets
        self.text_in_header: int = text
        self.has_coverage = magic == _MAGIC_120
        """The module's description has two more words since then (runtime, `moduledata.covctrs`)."""
        self.count: int = count
        self._quantum: int = quantum
        self._call = _CALL_120 if self.has_coverage else _CALL_118
        self._left = _ALL_TABLES
        self._found: dict[int, Function | None] = {}

    def function(self, offset: int) -> Function | None:
        """The function that holds the instruction `offset` bytes from the start of the text."""
        low, high = 0, self.count
        if not self._entry(0) <= offset < self._entry(self.count):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            if self._entry(middle) <= offset:
                low = middle
            else:
                high = middle
        if low not in self._found:
            self._found[low] = self._function(low)
        return self._found[low]

    @property
    def text_size(self) -> int:
        """Bytes from the start of the first function to the end of the last."""
        return self._entry(self.count)

    def _entry(self, index: int) -> int:
        return self._number(self._functions + 8 * index)

    def _number(self, at: int) -> int:
        data = self._read(at, 4)
        return int.from_bytes(data, "little") if len(data) == 4 else 0

    def _function(self, index: int) -> Function | None:
        at = self._functions + self._number(self._functions + 8 * index + 4)
        head = self._read(at, _FUNCTION.size)
        if len(head) < _FUNCTION.size:
            return None
        entry, name, _, _, pcsp, pcfile, pcln, pcdata, unit = _FUNCTION.unpack(head)
        at += _FUNCTION.size + (4 if self.has_coverage else 0)  # startLine came with that version, too
        flags = self._read(at, 4)
        if len(flags) < 4 or pcdata > 16 or entry != self._entry(index):
            return None
        tables = tuple(self._number(at + 4 + 4 * position) for position in range(pcdata))
        tree = None
        if flags[3] > _INLINE_TREE:
            tree = self._number(at + 4 + 4 * (pcdata + _INLINE_TREE))
        named = self.name(name)
        if named is None:
            return None
        return Function(entry, named, pcsp, pcfile, pcln, unit, tables, None if tree == 0xFFFFFFFF else tree)

    def name(self, offset: int) -> str | None:
        return self._string(self.names_at + offset) if offset >= 0 else None

    def _string(self, at: int) -> str | None:
        text, ended, _ = self._read(at, _MAX_NAME).partition(b"\0")
        return text.decode("utf-8", "replace") if ended and text else None

    def frame_size(self, function: Function, offset: int) -> int | None:
        """Bytes between the stack pointer and the return address when the instruction at `offset` is to run."""
        size = self._value(function, function.pcsp, offset)
        return size if size is not None and size >= 0 else None

    def place(self, function: Function, offset: int) -> tuple[str | None, int | None]:
        """File and line of the innermost call at `offset`."""
        number = self._value(function, function.pcfile, offset)
        line = self._value(function, function.pcln, offset)
        file = None
        if number is not None and number >= 0:
            file_at = self._number(self._units + 4 * (function.unit + number))
            file = self._string(self._files + file_at) if file_at != 0xFFFFFFFF else None
        return file, line if file and line is not None and line > 0 else None

    def calls(self, function: Function, offset: int, read_tree: Read | None) -> list[Place]:
        """The calls at the instruction at `offset`, innermost first; the last is `function` itself.

        `read_tree` reads the tables of inlined calls from the module's `gofunc`; without it only the last has a name.
        """
        found: list[Place] = []
        at = offset
        inlinable = read_tree is not None and function.inline_tree is not None
        while read_tree is not None and inlinable and len(found) < _MAX_INLINED:
            index = self._data(function, _INLINE_INDEX, at)
            if index is None or index < 0:
                break
            record = read_tree((function.inline_tree or 0) + self._call.size * index, self._call.size)
            if len(record) < self._call.size:
                break
            name, parent = self._call.unpack(record)
            called = self.name(name)
            if called is None or parent < 0:
                break
            found.append(Place(called, *self.place(function, at), inlined=True))
            at = function.entry + parent
        found.append(Place(function.name, *self.place(function, at)))
        return found

    def _data(self, function: Function, table: int, offset: int) -> int | None:
        return self._value(function, function.pcdata[table], offset) if table < len(function.pcdata) else None

    def _value(self, function: Function, table: int, target: int) -> int | None:
        """What the table at `table` says of the instruction at `target`; None where it says nothing.

        Pairs of differences: to the value (its sign in the lowest bit) and to the address where the next begins.
        """
        if table == 0:
            return None
        data = self._read(self._values + table, _MAX_TABLE if target - function.entry > 512 else 1024)
        at, value, place, left = 0, -1, function.entry, self._left
        while at < min(len(data), left):
            change, at = _varint(data, at)
            if change is None or (change == 0 and at > 1):
                break
            value += -((change + 1) >> 1) if change & 1 else change >> 1
            step, at = _varint(data, at)
            if step is None:
                break
            place += step * self._quantum
            if target < place:
                self._left -= at
                return value
        self._left -= at
        return None


def _varint(data: bytes, at: int) -> tuple[int | None, int]:
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(data):
            return None, at
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    return None, at


def line_table(elf: ElfFile) -> LineTable | None:
    """The table of the executable `elf`; None when it has none that is known."""
    header = elf.header
    if header.order != "<" or header.bits != 64:
        return None
    sections = sections_of(elf)
    section = next((sections[name] for name in _SECTIONS if name in sections), None)
    if section is None or section.type == SHT_NOBITS:
        return None
    start, size = section.offset, section.size
    segment = next(
        (s for s in elf.segments if s.type == PT_LOAD and s.offset <= start < s.offset + s.filesz),
        None,
    )
    if segment is None:
        return None

    def read(offset: int, count: int) -> bytes:
        return elf.file.read(start + offset, min(count, size - offset)) if 0 <= offset < size else b""

    try:
        return LineTable(read, segment.vaddr + start - segment.offset)
    except ValueError:
        return None
