"""Recursion in a list of frame names: what repeats is told once, whatever the depth."""

from __future__ import annotations

MAX_PERIOD = 16
"""Functions that call each other in a round; longer rounds are not recognised."""
_MERGED = 200


def cycle(names: list[str]) -> list[str]:
    """The shortest repeating block of `names`, rotated to a fixed order; empty when nothing repeats.

    Which function of the block ran out of stack is chance, and so is a leaf it had called: the last two thirds of the
    list decide, the rotation starts at the alphabetically first.
    """
    tail = names[len(names) // 3 :]
    for period in range(1, MAX_PERIOD + 1):
        if len(tail) < 3 * period:
            return []
        if all(tail[i] == tail[i + period] for i in range(len(tail) - period)):
            return rotated(tail[:period])
    return []


def rotated(block: list[str]) -> list[str]:
    """`block` from its alphabetically first start: where a round begins is chance."""
    return min((block[i:] + block[:i] for i in range(len(block))), default=[])


def merged(names: list[str]) -> list[str]:
    """`names` without direct and indirect repetition: a block that follows itself is kept once."""
    result: list[str] = []
    seen: set[str] = set()
    for name in names[:_MERGED]:
        result.append(name)
        if name not in seen:
            seen.add(name)
            continue
        for period in range(1, MAX_PERIOD + 1):
            if len(result) >= 2 * period and result[-period:] == result[-2 * period : -period]:
                del result[-period:]
                break
    return result
