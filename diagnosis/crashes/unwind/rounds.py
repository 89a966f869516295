"""Many equal steps of a walk at once: a function that calls itself makes frames of one size.

A deep recursion is tens of thousands of them. Each step of an ordinary walk costs a microsecond or two; here they are
compared as columns of the stack.
"""

from __future__ import annotations

from itertools import islice

LEAST = 16
"""Fewer rounds are not worth it."""


def equal_rounds(window: bytes, word: int, stride: int, returns_at: int, pc: int, chain: tuple[int, int] | None) -> int:
    """How many frames of `stride` bytes follow each other in `window`, all returning to `pc`.

    `returns_at` is where the first one's return address lies in the window. `chain` is, for functions that keep a frame
    pointer, where the first one saved its caller's, and the value that it must have: it grows by `stride` with each
    frame. Positions are multiples of the word, in bytes.
    """
    if stride <= 0 or stride % word or returns_at % word or returns_at < 0:
        return 0
    whole = memoryview(window)[: len(window) // word * word]
    words = whole.cast("Q") if word == 8 else whole.cast("I")
    step = stride // word
    returns = words[returns_at // word :: step].tolist()
    count = next((index for index, value in enumerate(returns) if value != pc), len(returns))
    if chain is not None:
        at, expected = chain
        if at % word or at < 0:
            return 0
        saved = words[at // word :: step].tolist()
        wanted = range(expected, expected + stride * (count + 1), stride)
        count = next(
            (index for index, (a, b) in enumerate(zip(islice(saved, count), wanted, strict=False)) if a != b),
            min(count, len(saved)),
        )
    return count
