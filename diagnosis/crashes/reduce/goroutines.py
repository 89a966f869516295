"""The goroutines of a Go program: their descriptors and stacks are in its heap, where no thread's stack leads.

A descriptor (`struct g`, runtime/runtime2.go) begins with the bounds of its stack; its saved registers follow five
words later, with a pointer to the descriptor itself. That is how the runtime's list of all goroutines
(`runtime.allgs`) is recognised among the global variables, in stripped programs too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import Segment
from diagnosis.crashes.reduce.kept import Range
from diagnosis.crashes.reduce.stacks import words

MAX_GOROUTINES = 100_000
STACKS_BYTES = 128 << 20

_LOW, _HIGH, _SAVED_SP, _SELF = 0, 1, 7, 9  # words of struct g: stack.lo, stack.hi, sched.sp, sched.g
_DESCRIPTOR_WORDS = 64
_GLOBALS_BYTES = 4 << 20
_ALL_GLOBALS_BYTES = 64 << 20
_MAX_LOOKS = 100_000
_MAX_STACK = 1 << 30  # the runtime's own limit
_LEAST = 2  # a program has its main goroutine and those of the runtime


def goroutines(core: CoreFile, globals_: Sequence[Segment], crash: Sequence[int]) -> Iterator[Range]:
    """Ranges that hold the list, the descriptors and the stacks in use; nothing for other programs.

    The saved stack pointer of a goroutine that runs is out of date. `crash` are the words of the crashing thread's
    registers and of its stack, where the handler of the signal got the real one.
    """
    word = core.header.word
    room, looks = _ALL_GLOBALS_BYTES, _MAX_LOOKS
    for segment in globals_:
        place = (segment.vaddr, segment.vaddr + min(segment.filesz, _GLOBALS_BYTES, room))
        room -= place[1] - place[0]
        found = words(core, place, _GLOBALS_BYTES)
        for at in range(len(found) - 1):
            array, count = found[at], found[at + 1]  # a slice, or a pointer and its length beside it
            if not array or array % word or not _LEAST <= count <= MAX_GOROUTINES:
                continue
            looks -= 1
            if looks < 0:
                return
            first = words(core, (array, array + _LEAST * word), _LEAST * word)
            if len(first) == _LEAST and all(_descriptor(core, address) is not None for address in first):
                yield from _all(core, array, count, sorted(crash))
                return


def _all(core: CoreFile, array: int, count: int, crash: list[int]) -> Iterator[Range]:
    word = core.header.word
    yield array, array + count * word
    room = STACKS_BYTES
    for address in words(core, (array, array + count * word), count * word):
        descriptor = _descriptor(core, address)
        if descriptor is None:
            continue
        yield address, address + _DESCRIPTOR_WORDS * word
        low, start, end = descriptor
        named = bisect_left(crash, low)
        if named < len(crash) and crash[named] < start:
            start = crash[named]
        if 0 < end - start <= room:
            room -= end - start
            yield start, end


def _descriptor(core: CoreFile, address: int) -> tuple[int, int, int] | None:
    """The stack of the goroutine at `address`: lowest address, the one in use, end; None when there is no goroutine."""
    word = core.header.word
    if not address or address % word:
        return None
    found = words(core, (address, address + (_SELF + 1) * word), (_SELF + 1) * word)
    if len(found) <= _SELF or found[_SELF] != address:
        return None
    low, high, saved = found[_LOW], found[_HIGH], found[_SAVED_SP]
    if high == 0 and low == 0:  # ended; its descriptor waits for another
        return 0, 0, 0
    if not low < high or high - low > _MAX_STACK:
        return None
    return low, (saved if low <= saved <= high else low), high
