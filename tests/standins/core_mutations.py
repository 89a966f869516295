"""Damage done to a core that the kernel wrote, and to an executable: headers, notes, tables, bytes, length."""

from __future__ import annotations

import random
import struct

EXTREMES = (0, 1, 7, 2**31 - 1, 2**32 - 1, 2**47, 2**63 - 1, 2**63, 2**64 - 1)
_HEADER, _ENTRY, _SECTION = 64, 56, 64


def mutate(data: bytearray, dice: random.Random) -> None:
    """Change headers and notes, where structure is; sometimes the rest, sometimes the length."""
    kind = dice.randrange(8)
    (notes,) = struct.unpack_from("<Q", data, 64 + 8)
    if kind == 0:  # the ELF header and the first program headers
        for _ in range(dice.randrange(1, 8)):
            data[dice.randrange(4, 64 + 56 * 8)] = dice.randrange(256)
    elif kind == 1:  # whole fields of headers and notes to extreme values
        for _ in range(dice.randrange(1, 6)):
            at = dice.choice([dice.randrange(16, 600), notes + dice.randrange(0, 4000)])
            value = dice.choice([0, 1, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1, len(data), len(data) - 1])
            struct.pack_into("<Q", data, at, value)
    elif kind == 2:
        for _ in range(dice.randrange(1, 40)):
            data[notes + dice.randrange(0, 5000)] = dice.randrange(256)
    elif kind == 3:
        del data[dice.randrange(1, len(data)) :]
    elif kind == 4:
        for _ in range(200):
            data[dice.randrange(len(data))] = dice.randrange(256)
    elif kind == 5:  # mappings that lie about where they are and how large
        _lie(data, dice, dice.randrange(1, 12))
    elif kind == 6:  # another byte order, word size, machine or type
        field, values = dice.choice([(5, (2, 0)), (4, (1, 3)), (18, (3, 8, 40, 183, 243, 255)), (16, (0, 2, 3, 255))])
        data[field] = dice.choice(values)
    else:  # pointers in memory: lists without end, names that lead nowhere
        _repoint(data, dice)


def mutate_program(data: bytearray, dice: random.Random) -> None:
    """Change an executable; most changes leave its build-id, so that it still counts as the one that crashed."""
    kind = dice.randrange(7)
    if kind == 0:
        for _ in range(dice.randrange(1, 8)):
            data[dice.randrange(4, _HEADER + _ENTRY * 12)] = dice.randrange(256)
    elif kind == 1:
        _lie(data, dice, dice.randrange(1, 6))
    elif kind == 2:  # the section headers
        (table,) = struct.unpack_from("<Q", data, 40)
        for _ in range(dice.randrange(1, 12)):
            at = table + dice.randrange(0, max(8, len(data) - table - 8))
            struct.pack_into("<Q", data, min(at, len(data) - 8), dice.choice([*EXTREMES, len(data)]))
    elif kind in (3, 4):  # what one section holds: unwind tables, symbols, debug information
        start, size = _section(data, dice)
        for _ in range(dice.choice([1, 8, 100])):
            if kind == 3:
                data[start + dice.randrange(size)] = dice.choice([0, 0x7F, 0x80, 0xFF, dice.randrange(256)])
            elif size >= 8:
                struct.pack_into("<I", data, start + dice.randrange(size - 4), dice.choice(EXTREMES) & 0xFFFFFFFF)
    elif kind == 5:
        del data[dice.randrange(1, len(data)) :]
    else:
        data[5 if dice.random() < 0.5 else 4] ^= 3


def _lie(data: bytearray, dice: random.Random, times: int) -> None:
    """Fields of program headers: offset, address, sizes."""
    first, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    for _ in range(times):
        entry = first + _ENTRY * dice.randrange(count)
        own = struct.unpack_from("<6Q", data, entry + 8)
        value = dice.choice([*EXTREMES, *own, len(data), dice.choice(own) + 4096, 1 << 40])
        struct.pack_into("<Q", data, entry + dice.choice([8, 16, 32, 40]), value & (2**64 - 1))


def _repoint(data: bytearray, dice: random.Random) -> None:
    """Words of memory that look like pointers become other such words: lists get loops, texts another start."""
    memory = len(data) // 4
    words = [at for at in range(memory, len(data) - 8, 8) if data[at + 5] in (0x55, 0x56, 0x7F) and not data[at + 6]]
    for _ in range(dice.randrange(1, 400)):
        if len(words) < 2:
            return
        to, source = dice.choice(words), dice.choice(words)
        data[to : to + 8] = data[source : source + 8]


def _section(data: bytearray, dice: random.Random) -> tuple[int, int]:
    """Place and size of a section with bytes in the file, not the one of the build-id."""
    (table,) = struct.unpack_from("<Q", data, 40)
    (count,) = struct.unpack_from("<H", data, 60)
    found = []
    for index in range(count):
        kind, _, _, offset, size = struct.unpack_from("<IQQQQ", data, table + index * _SECTION + 4)
        if size and kind not in (0, 7, 8):  # SHT_NULL, SHT_NOTE, SHT_NOBITS
            found.append((offset, size))
    return dice.choice(found)
