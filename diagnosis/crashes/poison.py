"""Byte patterns that allocators, compilers and people write into memory that must not be used."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

State = Literal["freed", "uninitialized", "marker"]


@dataclass(frozen=True)
class Poison:
    """`state` is what the memory was, `source` who writes the pattern."""

    name: str
    state: State
    source: str


_BYTES: dict[int, tuple[State, str]] = {
    0x5A: ("freed", "jemalloc's junk for freed memory"),
    0xE5: ("freed", "mozjemalloc's junk for freed memory"),
    0xDD: ("freed", "the Microsoft debug heap's mark of freed memory"),
    0x6B: ("freed", "the kernel's slab poison of freed objects"),
    0xA5: ("uninitialized", "jemalloc's junk for new memory"),
    0xCD: ("uninitialized", "the Microsoft debug heap's mark of new memory"),
    0xCC: ("uninitialized", "a debug build's mark of unused stack"),
    0xBE: ("uninitialized", "AddressSanitizer's fill of new memory"),
    0xAA: ("uninitialized", "a compiler's fill of automatic variables (-ftrivial-auto-var-init=pattern)"),
    0xFE: ("uninitialized", "a compiler's fill of automatic variables (-ftrivial-auto-var-init=pattern)"),
}
_WORDS: dict[int, tuple[State, str]] = {
    0xDEADBEEF: ("marker", "a marker that programs write by hand"),
    0xBAADF00D: ("uninitialized", "a marker of new memory"),
    0xFEEEFEEE: ("freed", "a debug heap's mark of freed memory"),
    0xDEADC0DE: ("marker", "a marker that programs write by hand"),
    0xCAFEBABE: ("marker", "a marker that programs write by hand"),
}
_REACH = 0x1000


def poison_of(value: int) -> Poison | None:
    """The pattern that `value` is made of, allowing for a member's offset (below 4 KiB) that was added to it."""
    if value < 1 << 24:
        return None
    wide = value >= 1 << 32
    for byte, (state, source) in _BYTES.items():
        whole = int.from_bytes(bytes([byte]) * (8 if wide else 4), "little")
        if 0 <= value - whole < _REACH:
            return Poison(f"0x{byte:02x} repeated", state, source)
    for word, (state, source) in _WORDS.items():
        for whole in (word, word << 32 | word, word << 32):
            if 0 <= value - whole < _REACH:
                return Poison(hex(word), state, source)
    return None


def text_in(value: int) -> str | None:
    """The printable text that a pointer's bytes spell (at least six of eight characters), or None."""
    if not 0 <= value < 1 << 64:
        return None
    raw = struct.pack("<Q", value)
    text = raw.rstrip(b"\0")
    if len(text) < 6 or not all(32 <= byte < 127 for byte in text):
        return None
    return text.decode("ascii")
