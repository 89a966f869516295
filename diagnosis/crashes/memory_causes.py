"""Why a program ended itself, read from its memory without symbols.

- glibc keeps the text of an abort in a page of its own for core readers: `struct abort_msg_s {unsigned size;
  char msg[];}` (include/stdlib.h, assert/assert.c, sysdeps/posix/libc_fatal.c).
- libstdc++ marks each thrown object by the class `GNUCC++` in front of it (Itanium C++ ABI, exception handling,
  2.2.1; libsupc++/unwind-cxx.h for the layout, which is the generic one on all machines here but 32-bit ARM).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from diagnosis.crashes.core_file import CoreFile, Memory
from diagnosis.crashes.demangle import demangle_type
from diagnosis.crashes.elf import Segment

SCAN_BYTES = 1 << 30
"""No more writable memory than this is searched for one cause."""

_CHUNK = 4 << 20
_PAGE = 4096
_MESSAGE_LIMIT = 4000
_EXCEPTION_CLASS = b"\0++CCUNG"  # little-endian "GNUCC++\0"
_OBJECT_AFTER = 32
_TYPE_BEFORE, _COUNT_BEFORE = {8: 80, 4: 48}, {8: 96, 4: 64}
"""By the size of a word: how far in front of the class the type's pointer and the count of references are."""
_NEXT_BEFORE = {8: 48, 4: 32}
"""The same of the pointer to the exception that was being handled when this one was thrown."""
_TYPE_NAME = re.compile(rb"\*?[A-Za-z0-9_.$]+")
_STACK_SEARCHED = 16 << 10
_MOST_THROWN = 64
_DEEP = _STACK_SEARCHED
_WHAT_LIMIT = 2000
_STANDARD_WITH_TEXT = ("St13runtime_error", "St11logic_error")  # both hold a copy-on-write string after the vtable


@dataclass(frozen=True)
class MemoryText:
    """A text, and where it was read."""

    text: str
    address: int
    offset: int | None


@dataclass(frozen=True)
class ThrownObject:
    """A live C++ exception object. Each part may be unreadable."""

    type: str | None
    what: str | None
    address: int
    offset: int | None


def abort_message(core: CoreFile) -> MemoryText | None:
    """The text glibc left behind when it aborted, or None."""
    memory = core.memory
    for segment, at, chunk in _chunks(memory, 0):
        for page in range(-(segment.vaddr + at) % _PAGE, len(chunk) - 8, _PAGE):  # reduced cores start anywhere
            (size,) = struct.unpack_from(memory.order + "I", chunk, page)
            if size == 0 or size % _PAGE or size > 1 << 20:
                continue
            end = chunk.find(b"\0", page + 4, page + 4 + _MESSAGE_LIMIT)
            if end < 0:
                continue
            text = chunk[page + 4 : end]
            # the size is the text's, rounded up to pages (64 KiB pages included); anything else is no message
            if len(text) > 6 and size in _rounded(len(text)) and _printable(text):
                address = segment.vaddr + at + page
                return MemoryText(text.decode("utf-8", "replace").strip(), address, memory.file_offset(address))
    return None


def thrown_object(core: CoreFile) -> ThrownObject | None:
    """The exception that is being handled, or None. Objects that were freed are told by their reference count.

    Of several the one that the crashing thread's stack refers to first, and that no other was thrown on top of.
    """
    memory, first = core.memory, None
    if memory.order != "<" or core.header.machine == "arm":  # its exceptions have a layout of their own (EHABI)
        return None
    stack = memory.words(memory.read(core.crashed.sp or 0, _STACK_SEARCHED))
    depth = {word: index for index, word in reversed(list(enumerate(stack)))}
    for segment, at, chunk in _chunks(memory, len(_EXCEPTION_CLASS)):
        there: dict[int, ThrownObject] = {}
        found = chunk.find(_EXCEPTION_CLASS)
        while found >= 0:
            header = segment.vaddr + at + found
            if header % 16 == 0 and len(there) < _MOST_THROWN and (thrown := _thrown(memory, header)):
                there[header] = thrown
            found = chunk.find(_EXCEPTION_CLASS, found + 8)
        earlier = {memory.pointer(header - _NEXT_BEFORE[memory.word]) for header in there}
        last = [header for header in there if header - _TYPE_BEFORE[memory.word] not in earlier] or list(there)
        if held := [header for header in last if {header, header + _OBJECT_AFTER} & depth.keys()]:
            return there[min(held, key=lambda each: min(depth.get(each + more, _DEEP) for more in (0, _OBJECT_AFTER)))]
        first = first or (there[last[0]] if last else None)
    return first


def _thrown(memory: Memory, header: int) -> ThrownObject | None:
    count_at = header - _COUNT_BEFORE[memory.word]
    count, padding = memory.pointer(count_at), memory.pointer(count_at + memory.word)
    if count is None or not 1 <= count <= 1000 or padding != 0:
        return None
    type_info = memory.pointer(header - _TYPE_BEFORE[memory.word])
    if not type_info or memory.segment(type_info) is None:
        return None
    names = _type_names(memory, type_info)
    where = header + _OBJECT_AFTER
    what = _what(memory, where, names)
    if not names and what is None:
        return None
    return ThrownObject(demangle_type(names[0]) if names else None, what, where, memory.file_offset(where))


def _type_names(memory: Memory, type_info: int) -> list[str]:
    """Mangled names of the type and of its single bases, as far as memory holds them."""
    names: list[str] = []
    for _ in range(8):
        name_at = memory.pointer(type_info + memory.word)
        name = memory.c_string(name_at, 500) if name_at else None
        if not name or not _TYPE_NAME.fullmatch(name):
            break
        names.append(name.decode("ascii").lstrip("*"))
        base = memory.pointer(type_info + 2 * memory.word)
        if not base or base % memory.word or memory.segment(base) is None:
            break
        type_info = base
    return names


def _what(memory: Memory, where: int, names: list[str]) -> str | None:
    """what() of the standard exceptions and of classes derived from them; the value of a thrown string or number."""
    kind = names[0] if names else ""
    if kind in ("PKc", "Pc"):
        text_at = memory.pointer(where)
        return _message(memory.c_string(text_at, _WHAT_LIMIT)) if text_at else None
    if kind in ("i", "j", "l", "m"):
        data = memory.read(where, 8)
        wide, signed = kind in ("l", "m"), kind in ("i", "l")
        size = memory.word if wide else 4
        return str(int.from_bytes(data[:size], "little", signed=signed)) if len(data) >= size else None
    if (
        names
        and len(names) > 1
        and not any(name in _STANDARD_WITH_TEXT for name in names)
        and names[-1] != "St9exception"
    ):
        return None
    text_at = memory.pointer(where + memory.word)
    return _message(memory.c_string(text_at, _WHAT_LIMIT)) if text_at else None


def _message(text: bytes | None) -> str | None:
    """A text that a program made of whatever it had: mostly printable is text, the rest stays in it."""
    if not text:
        return None
    decoded = text.decode("utf-8", "replace")
    strange = sum(not char.isprintable() and char not in "\n\t\r" for char in decoded)
    return decoded if strange * 5 <= len(decoded) else None


def _chunks(memory: Memory, overlap: int) -> Iterator[tuple[Segment, int, bytes]]:
    """Writable memory piece by piece, as (segment, offset in it, bytes); pieces overlap by `overlap` bytes."""
    budget = SCAN_BYTES
    for segment in memory.writable():
        at = 0
        while at < segment.filesz and budget > 0:
            data = memory.file.next_data(segment.offset + at) - segment.offset
            if data >= at + _CHUNK:  # untouched stack and heap are holes
                at += (data - at) // _CHUNK * _CHUNK
                continue
            chunk = memory.file.read(segment.offset + at, min(_CHUNK + overlap, segment.filesz - at))
            if not chunk:
                break
            yield segment, at, chunk
            at += _CHUNK
            budget -= len(chunk)


def _rounded(length: int) -> set[int]:
    return {(length + extra + page - 1) // page * page for page in (4096, 16384, 65536) for extra in (1, 5)}


def _printable(text: bytes) -> bool:
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char in "\n\t" for char in decoded)
