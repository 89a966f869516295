"""Line numbers from a code object's table. Tables are data of the core: any bytes give a line or None."""

from __future__ import annotations

from collections.abc import Iterator

from diagnosis.crashes.causes.python.layouts import LineTable

_NO_LINE = -128
_NO_COLUMN, _LONG, _NONE = 13, 14, 15  # codes of the location table; 10 to 12 are one line, with 0 to 2 lines on
_ONE_LINE = 10
_LAST_LINE = 1 << 31


def line_at(kind: LineTable, table: bytes, first: int, offset: int) -> int | None:
    """The line of the instruction `offset` bytes into the bytecode of a function that begins at line `first`.

    None where the compiler gave it none, or the table ends before it.
    """
    line: int | None = first
    if offset >= 0:  # else it was called and has not begun
        line = {"lnotab": _lnotab, "ranges": _ranges, "locations": _locations}[kind](table, first, offset)
    return line if line is not None and 0 < line < _LAST_LINE else None


def _lnotab(table: bytes, line: int, offset: int) -> int | None:
    """Pairs: bytes on, lines on (Objects/lnotab_notes.txt of 3.9)."""
    at = 0
    for on, lines in _pairs(table):
        at += on
        if at > offset:
            break
        line += lines
    return line


def _ranges(table: bytes, line: int, offset: int) -> int | None:
    """Pairs: length in bytes, lines on from the pair before (Objects/lnotab_notes.txt of 3.10)."""
    at = 0
    for length, lines in _pairs(table):
        if lines != _NO_LINE:
            line += lines
        at += length
        if offset < at:
            return None if lines == _NO_LINE else line
    return None


def _pairs(table: bytes) -> Iterator[tuple[int, int]]:
    for index in range(0, len(table) - 1, 2):
        lines = table[index + 1]
        yield table[index], lines - 256 if lines > 127 else lines


def _locations(table: bytes, line: int, offset: int) -> int | None:
    """Entries that begin with a byte whose highest bit is set: four bits of code, three of length in units of two."""
    at, index = 0, 0
    while index < len(table):
        first = table[index]
        code = first >> 3 & 15
        at += ((first & 7) + 1) * 2
        index += 1
        if code in (_NO_COLUMN, _LONG):
            line += _signed(table, index)
        elif _ONE_LINE <= code < _NO_COLUMN:
            line += code - _ONE_LINE
        if offset < at:
            return None if code == _NONE else line
        while index < len(table) and not table[index] & 128:
            index += 1
    return None


def _signed(table: bytes, index: int) -> int:
    """Six bits a byte, the lowest first, bit 6 says that more follow; the sign is the lowest bit."""
    value, shift = 0, 0
    while index < len(table) and shift <= 30:
        byte = table[index]
        value |= (byte & 63) << shift
        if not byte & 64:
            break
        shift += 6
        index += 1
    return -(value >> 1) if value & 1 else value >> 1
