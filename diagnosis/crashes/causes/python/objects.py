"""Python objects in the memory of a core: strings, bytes, exceptions. Every pointer may be wrong.

Offsets that have been the same since 3.8 in builds with the GIL are here, others in `Layout`.
"""

from __future__ import annotations

import struct

from diagnosis.crashes.causes.python.layouts import Layout
from diagnosis.crashes.core_file import Memory

MAX_TEXT = 500
"""Characters of a string that are read."""

_TYPE = 8  # PyObject.ob_type
_TYPE_NAME, _TYPE_FLAGS = 24, 168  # PyTypeObject
_SIZE, _ITEMS, _BYTES = 16, 24, 32  # PyVarObject.ob_size, PyTupleObject.ob_item, PyBytesObject.ob_sval
_ARGUMENTS = 24  # PyBaseExceptionObject.args
_TEXT_LENGTH, _TEXT_STATE = 16, 32  # PyASCIIObject
_IS_EXCEPTION, _IS_TUPLE, _IS_BYTES, _IS_TEXT = 1 << 30, 1 << 26, 1 << 27, 1 << 28  # Py_TPFLAGS_*_SUBCLASS
_COMPACT, _ASCII = 1 << 5, 1 << 6
_FORMATS = {1: "B", 2: "H", 4: "I"}
_TOLD_ARGUMENTS = 3


class Objects:
    """Reads objects; what is not there, or not of the kind asked for, is None."""

    def __init__(self, memory: Memory, layout: Layout) -> None:
        self.memory, self.layout = memory, layout

    def type_of(self, address: int) -> int | None:
        return self.memory.pointer(address + _TYPE) if address else None

    def text(self, address: int | None, *, end: bool = False) -> str | None:
        """A compact string, fit for one line; of a long one its beginning, or its `end`."""
        if not address or not self._is(address, _IS_TEXT):
            return None
        head = self.memory.read(address + _TEXT_LENGTH, _TEXT_STATE + 4 - _TEXT_LENGTH)
        if len(head) < _TEXT_STATE + 4 - _TEXT_LENGTH:
            return None
        length, state = struct.unpack("<q8xI", head)
        letter = _FORMATS.get(state >> 2 & 7)
        if length < 0 or letter is None or not state & _COMPACT:
            return None
        width = struct.calcsize(letter)
        start = address + (self.layout.ascii_text if state & _ASCII else self.layout.wide_text)
        count = min(length, MAX_TEXT)
        if end:
            start += (length - count) * width
        data = self.memory.read(start, count * width)
        if len(data) < count * width:
            return None
        shown = "".join(map(_character, struct.unpack(f"<{count}{letter}", data)))
        if length == count:
            return shown
        return f"…{shown}" if end else f"{shown}…"

    def raw(self, address: int | None, limit: int) -> bytes | None:
        """The content of a bytes object that is not longer than `limit`."""
        if not address or not self._is(address, _IS_BYTES):
            return None
        size = self.memory.pointer(address + _SIZE)
        if size is None or size > limit:
            return None
        data = self.memory.read(address + _BYTES, size)
        return data if len(data) == size else None

    def exception(self, address: int | None) -> str | None:
        """`Type: text` of an exception, `Type` of one that was not given a text."""
        if not address or not self._is(address, _IS_EXCEPTION):
            return None
        arguments = self.memory.pointer(address + _ARGUMENTS)
        said = None
        if arguments and self._is(arguments, _IS_TUPLE):
            count = min(self.memory.pointer(arguments + _SIZE) or 0, _TOLD_ARGUMENTS)
            texts = (self.text(self.memory.pointer(arguments + _ITEMS + 8 * index)) for index in range(count))
            said = next((text for text in texts if text), None)
        name = self.type_name(self.type_of(address))
        return f"{name}: {said}" if name and said else name

    def type_name(self, address: int | None) -> str | None:
        """Of the type at `address`; for classes of C code with their module."""
        name = self.memory.pointer(address + _TYPE_NAME) if address else None
        raw = self.memory.c_string(name, MAX_TEXT) if name else None
        return "".join(_character(ord(char)) for char in raw.decode("utf-8", "replace")) if raw else None

    def _is(self, address: int, kind: int) -> bool:
        """The object's type says that it is of this `kind`: a wrong pointer does rarely."""
        kind_at = self.type_of(address)
        flags = self.memory.pointer(kind_at + _TYPE_FLAGS) if kind_at else None
        return flags is not None and bool(flags & kind)


def _character(number: int) -> str:
    """What a terminal or a page might obey, and half of a surrogate pair, is replaced."""
    char = chr(number) if number < 0x110000 else "�"
    return char if char.isprintable() else "�"
