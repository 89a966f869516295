"""Go values in a core's memory: what an interface holds, by its type's description (internal/abi, `Type`)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from diagnosis.crashes.causes.golang.pclntab import Read

MAX_TEXT = 2000
"""Bytes of a string that are read."""
_TYPE = struct.Struct("<QQIBBBBQQi")
_KIND_BITS = 0x1F  # the others were flags before Go 1.24
_EXTRA_STAR = 2  # TFlagExtraStar: the name that is stored begins with a star that is not the type's
_MAX_NAME = 300
_BOOL, _STRING = 1, 24
_NUMBERS = {2: "q", 3: "b", 4: "h", 5: "i", 6: "q", 7: "Q", 8: "B", 9: "H", 10: "I", 11: "Q", 12: "Q", 13: "f", 14: "d"}
_PLAIN_NAMES = """
    bool int int8 int16 int32 int64 uint uint8 uint16 uint32 uint64 uintptr float32 float64 string"""
_PLAIN = frozenset(_PLAIN_NAMES.split())


@dataclass(frozen=True)
class Value:
    """`text` as the runtime prints it in a traceback; `address` is where it was read."""

    type: str
    text: str
    address: int


def value_of(read: Read, types: range, kind: int, data: int) -> Value | None:
    """What an interface with these two words holds; None when they cannot be such words, or are those of nil."""
    if kind not in types or kind % 8:
        return None
    head = read(kind, _TYPE.size)
    if len(head) < _TYPE.size:
        return None
    size, _, _, flags, _, _, number, _, _, name_at = _TYPE.unpack(head)
    name = _name(read, types.start + name_at) if types.start + name_at in types else None
    if name is None:
        return None
    if flags & _EXTRA_STAR:
        name = name.removeprefix("*")
    number &= _KIND_BITS
    text: str | None
    if number == _STRING and size == 16:
        text = string_at(read, data)
        shown = text if name in _PLAIN or text is None else f'{name}("{text}")'
    elif number == _BOOL and size == 1:
        byte = read(data, 1)
        shown = {b"\0": "false", b"\1": "true"}.get(byte)
        shown = shown if shown is None or name in _PLAIN else f"{name}({shown})"
    elif number in _NUMBERS and size == struct.calcsize("<" + _NUMBERS[number]):
        raw = read(data, size)
        if len(raw) < size:
            return None
        amount = struct.unpack("<" + _NUMBERS[number], raw)[0]
        shown = f"{amount:g}" if isinstance(amount, float) else str(amount)
        shown = shown if name in _PLAIN else f"{name}({shown})"
    else:
        shown = f"({name})"  # the runtime prints its address, which says nothing
    return Value(name, shown, data) if shown is not None else None


def string_at(read: Read, address: int) -> str | None:
    """The text of a string header at `address`; None when it is no string of readable text."""
    header = read(address, 16)
    if len(header) < 16:
        return None
    text, length = struct.unpack("<QQ", header)
    return text_at(read, text, length)


def text_at(read: Read, address: int, length: int) -> str | None:
    """The text of a string: all of it in memory, UTF-8, without control characters but white space."""
    if length == 0:
        return ""
    if length >= 1 << 32 or not address:
        return None
    data = read(address, min(length, MAX_TEXT))
    if len(data) < min(length, MAX_TEXT):
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if length <= MAX_TEXT or error.start < MAX_TEXT - 4:
            return None
        text = data[: error.start].decode("utf-8")
    if any(ord(char) < 32 and char not in "\t\n\r" for char in text):
        return None
    return text + ("…" if length > MAX_TEXT else "")


def _name(read: Read, address: int) -> str | None:
    """A type's name: flags, its length as a varint, its bytes."""
    data = read(address, _MAX_NAME + 3)
    if len(data) < 3:
        return None
    length, at = data[1] & 0x7F, 2
    if data[1] & 0x80:
        length, at = length | (data[2] << 7), 3
    raw = data[at : at + length]
    if not 0 < length <= _MAX_NAME or len(raw) < length:
        return None
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return name if name.isprintable() else None
