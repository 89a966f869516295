"""Damage done to a core that the kernel wrote: its headers and notes, its bytes, its length."""

from __future__ import annotations

import random
import struct


def mutate(data: bytearray, dice: random.Random) -> None:
    """Change headers and notes, where structure is; sometimes the rest, sometimes the length."""
    kind = dice.randrange(5)
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
    else:
        for _ in range(200):
            data[dice.randrange(len(data))] = dice.randrange(256)
