"""Rust panics: message and place, from the crashed thread's stack; no symbols are needed.

While a panic is under way its `core::panic::Location` (a file name, a line, a column) is pointed to from the stack,
and so is its message: a `String` made on the heap, or a `&'static str`. Layouts: library/core/src/panic/location.rs
(file pointer and length, line and column of four bytes each), alloc::string::String (capacity, pointer, length).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from diagnosis.crashes.core_file import CoreFile, Memory

_SEARCHED_BYTES = 64 * 1024
_MAX_MESSAGE = 4000
_MAX_PATH = 500
_FILE = re.compile(rb"[\x20-\x7e]{1,%d}\.rs\0?" % _MAX_PATH)
_LIBRARY = ("/rustc/", "library/", "/rust/deps/")
_NEAR_WORDS = 512
"""How far from the place's pointer the message may be: both are in the frames of the panic machinery."""


@dataclass(frozen=True)
class RustPanic:
    """`location` is file:line:column. `address` is where the location is in memory, `offset` in the core file."""

    location: str
    message: str | None
    address: int
    offset: int | None


def rust_panic(core: CoreFile) -> RustPanic | None:
    """The panic that ended the crashed thread, or None. Bounded: 64 KiB of its stack are searched."""
    memory, sp = core.memory, core.crashed.sp
    if memory.order != "<" or sp is None:
        return None
    data = memory.read(sp, _SEARCHED_BYTES)
    words = memory.words(data)
    places = _places(memory, words)
    if not places:
        return None
    # the program's own place before one in the library that it called into
    index, location = next((item for item in places if not item[1].startswith(_LIBRARY)), places[0])
    message = _message(memory, words, index)
    if message is None and location.startswith(_LIBRARY):
        return None  # the standard library's frames have such places at hand when nothing panicked
    return RustPanic(location, message, words[index], memory.file_offset(words[index]))


def _places(memory: Memory, words: Sequence[int]) -> list[tuple[int, str]]:
    """(index of the word, place) of the pointers to a location, innermost first."""
    found: list[tuple[int, str]] = []
    seen: dict[int, str | None] = {}
    for index, word in enumerate(words):
        if word < 4096 or word % memory.word:
            continue
        if word not in seen:
            seen[word] = _place(memory, word)
        if (place := seen[word]) is not None:
            found.append((index, place))
    return found


def _place(memory: Memory, address: int) -> str | None:
    if memory.segment(address) is None:
        return None
    layout = struct.Struct("<QQII" if memory.word == 8 else "<4I")
    data = memory.read(address, layout.size)
    if len(data) < layout.size:
        return None
    pointer, length, line, column = layout.unpack(data)
    if not (4 <= length <= _MAX_PATH and 1 <= line < 1 << 22 and 1 <= column < 1 << 12):
        return None
    name = memory.read(pointer, length)
    if len(name) != length or not _FILE.fullmatch(name):
        return None
    return f"{name.rstrip(bytes(1)).decode()}:{line}:{column}"


def _message(memory: Memory, words: Sequence[int], near: int) -> str | None:
    """The text nearest to the place's pointer that is a whole `String`, else a whole `&str`.

    Only a text of several words is believed: a single word may be anything that the program had at hand.
    """
    order = sorted(
        range(max(0, near - _NEAR_WORDS), min(len(words) - 2, near + _NEAR_WORDS)), key=lambda i: abs(i - near)
    )
    for index in order:
        capacity, pointer, length = words[index : index + 3]
        segment = memory.segment(pointer) if pointer > 4096 else None
        fits = 0 < length <= capacity <= 1 << 20 and segment is not None and segment.writable
        if fits and (text := _text(memory, pointer, length)):
            return text
    for index in order:
        pointer, length = words[index : index + 2]
        segment = memory.segment(pointer) if pointer > 4096 else None
        if segment is None or segment.writable:
            continue
        # fmt::Arguments without arguments keeps twice the length plus one (library/core/src/fmt/mod.rs, since 1.93)
        for size in (length, length >> 1 if length & 1 else 0):
            if 3 < size <= _MAX_MESSAGE and (text := _text(memory, pointer, size)):
                return text
    return None


def _text(memory: Memory, pointer: int, length: int) -> str | None:
    data = memory.read(pointer, min(length, _MAX_MESSAGE))
    if len(data) < min(length, _MAX_MESSAGE):
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    fits = " " in text.strip() and not text.endswith(".rs")
    return text if fits and all(char.isprintable() or char in "\n\t\r" for char in text) else None
