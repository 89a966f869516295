"""Root causes that glibc found itself: a damaged heap, a smashed stack, a refused copy."""

from __future__ import annotations

import re
from collections.abc import Sequence

from diagnosis.crashes.classify import Verdict
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.frames import normalize, relevant
from diagnosis.crashes.root_cause.classes import Conclusion, Proof, RootClass
from diagnosis.crashes.root_cause.heap import (
    Broken,
    bytes_at,
    chunk_at,
    first_broken,
    freed,
    is_binned,
    is_freed,
    main_heaps,
    text_around,
)
from diagnosis.crashes.root_cause.variables import Held as HeldVariable
from diagnosis.crashes.root_cause.variables import array_length, origin, pointer_of, variables_of
from incidents.crash_report import Frame
from incidents.models import CauseClass

# glibc's messages by what they prove (malloc/malloc.c)
_DOUBLE = ("double free detected", "(fasttop)")
_DOUBLE_OR_OVERRUN = "double free or corruption"  # a neighbour's header does not fit: either of the two
_NOT_ALLOCATED = ("free(): invalid pointer", "munmap_chunk(): invalid pointer", "realloc(): invalid pointer")
_OVERRUN = (
    "invalid next size", "corrupted size vs. prev_size", "corrupted top size", "invalid size", "mismatching next",
    "invalid next->prev_inuse", "memory corruption", "invalid old size", "corrupted unsorted chunks",
)  # fmt: skip
_GUESSED = 0.9
"""Of a double free that glibc tells and memory does not show."""
_STACK_SEARCHED = 2048
_RUN = re.compile(rb"[\x20-\x7e]{9,}")
_FRAMES = 4


def abort_cause(core: CoreFile, verdict: Verdict, frames: Sequence[Frame], message: str | None) -> Conclusion | None:
    """The cause behind a message of glibc, or behind a fault inside its allocator."""
    text = message or ""
    own = relevant(frames)[:_FRAMES]
    if verdict.cause is CauseClass.STACK_SMASHING:
        return _smashed(core, own)
    if "overflow detected" in text:
        return Conclusion(
            RootClass.PREVENTED_OVERFLOW, 0.95, f'a checked function refused to overrun its buffer ("{text[:200]}")'
        )
    if any(words in text for words in _DOUBLE):
        # "double free or corruption": a neighbour that wrote over the size looks the same to the allocator
        damaged = _overrun(core, own, text) if "or corruption" in text else None
        return damaged or _double_free(core, own, text)
    if any(words in text for words in _NOT_ALLOCATED):
        return _invalid_free(core, own, text)
    found = _overrun(core, own, text or verdict.because)
    if found is not None:
        return found
    if _DOUBLE_OR_OVERRUN in text and (twice := _double_free(core, own, text)).confidence > _GUESSED:
        return twice
    if any(words in text for words in _OVERRUN):
        return Conclusion(
            RootClass.HEAP_OVERFLOW, 0.7, f'the size of a heap chunk was overwritten ("{text[:200]}"): by its neighbour'
        )
    if _DOUBLE_OR_OVERRUN in text:
        return Conclusion(
            RootClass.HEAP_CORRUPTION,
            0.6,
            f'the chunk that was freed, or its neighbour, is not as it must be ("{text[:200]}"): freed twice, overrun, '
            "or no pointer that malloc returned",
        )
    said = f'"{text[:200]}"' if text else verdict.because
    return Conclusion(
        RootClass.HEAP_CORRUPTION,
        0.6,
        f"the allocator's lists were overwritten ({said}): after a free, or by an overrun",
    )


def _double_free(core: CoreFile, frames: Sequence[Frame], text: str) -> Conclusion:
    said = f'glibc said "{text[:200]}"'
    held = next((each for each in _pointers(frames) if _freed(core, each)), None)
    if held is not None:
        address = pointer_of(held.variable) or 0
        where, how = origin(frames, held)
        place = "the lists" if is_binned(core, address) else "the cache"
        return Conclusion(
            RootClass.DOUBLE_FREE,
            0.98,
            f"`{held.variable.name}` = {hex(address)} was freed before and was freed again: its chunk is in {place} "
            f"of freed ones ({said}){_told(how)}",
            held.variable.name,
            where,
            _proofs(bytes_at(core.memory, address - 16, 32, "header, list link and key of the freed chunk")),
        )
    words = _stack_words(core)
    cached = [address for address in freed(core) if address in words]
    cached = cached or [address for address in words if is_binned(core, address)]
    if len(cached) == 1:
        return Conclusion(
            RootClass.DOUBLE_FREE,
            0.95,
            f"the chunk at {hex(cached[0])} was freed before and was freed again ({said})",
            f"heap chunk at {hex(cached[0])}",
            None,
            _proofs(bytes_at(core.memory, cached[0] - 16, 32, "header, list link and key of the freed chunk")),
        )
    return Conclusion(RootClass.DOUBLE_FREE, _GUESSED, f"a chunk was freed twice ({said})")


def _invalid_free(core: CoreFile, frames: Sequence[Frame], text: str) -> Conclusion:
    """A pointer that malloc did not return: of the stack, of a global, or into the middle of a chunk."""
    for held in _pointers(frames[:1]):  # others were at hand too, and not freed
        address = pointer_of(held.variable) or 0
        segment = core.memory.segment(address)
        if address < 4096 or segment is None or chunk_at(core, address) is not None:
            continue
        if not segment.writable and core.mapped_at(address) is None:
            continue
        sp = core.crashed.sp or 0
        if segment.vaddr <= sp < segment.end:
            kind = "on the stack"
        elif core.mapped_at(address) is not None:
            kind = "in the program's own data"
        elif address % 16:
            kind = "inside a heap block, not at its start"
        else:
            continue
        where, how = origin(frames, held)
        return Conclusion(
            RootClass.INVALID_FREE,
            0.85,
            f"`{held.variable.name}` = {hex(address)} was freed, but it is {kind}: "
            f'malloc never returned it (glibc said "{text[:200]}"){_told(how)}',
            held.variable.name,
            where,
            _proofs(bytes_at(core.memory, address - 16, 32, "what lies before the pointer instead of a header")),
        )
    return _overrun(core, frames, text) or Conclusion(
        RootClass.INVALID_FREE, 0.8, f'a pointer was freed that malloc never returned (glibc said "{text[:200]}")'
    )


def _overrun(core: CoreFile, frames: Sequence[Frame], said: str) -> Conclusion | None:
    """Go along the heap to the first size word that cannot be one: the chunk before it was overrun."""
    broken = _broken(core)
    if broken is None or broken.before is None or broken.word == 0:
        return None
    chunk = broken.before
    held = next((each for each in _pointers(frames) if pointer_of(each.variable) == chunk.address), None)
    text = text_around(core.memory, broken.at)
    name = f"`{held.variable.name}` " if held else ""
    what = f'; the text "{text[:80]}" runs over its end' if text else ""
    return Conclusion(
        RootClass.HEAP_OVERFLOW,
        0.95 if text else 0.85,
        f"the heap block {name}at {hex(chunk.address)} with room for {chunk.usable} bytes was overrun: the size of the "
        f"chunk after it, at {hex(broken.at)}, is {hex(broken.word)}{what} ({said[:200]})",
        held.variable.name if held else f"heap chunk at {hex(chunk.address)} of {chunk.usable} bytes",
        origin(frames, held)[0] if held else None,
        _proofs(
            bytes_at(core.memory, chunk.address, min(chunk.size + 16, 128), "the block that was overrun"),
            bytes_at(core.memory, broken.at - 8, 32, "header of the chunk after it"),
        ),
    )


def _smashed(core: CoreFile, frames: Sequence[Frame]) -> Conclusion:
    """The stack protector's finding: which array, and the text that overran it."""
    frame = frames[0] if frames else None
    place = normalize(frame.function) if frame and frame.function else "the function"
    arrays = [v for v in (frame.locals if frame else []) if array_length(v) is not None]
    array = arrays[0] if len(arrays) == 1 else None
    sp = core.crashed.sp or 0
    data = core.memory.read(sp, 16384)
    start = (array.value or "").strip('"').partition('"')[0][:6].encode() if array else b""
    runs = [found for found in _RUN.finditer(data) if start and found[0].startswith(start)]
    length = array_length(array) if array else None
    run = next((found for found in runs if length is None or len(found[0]) > length), None)
    what = f'; the text "{run[0][:80].decode("ascii")}" ({len(run[0])} bytes) runs over its end' if run else ""
    named = f"`{array.name}` of {length} bytes " if array else ""
    return Conclusion(
        RootClass.STACK_BUFFER_OVERFLOW,
        0.98,
        f"a local array {named}in {place} was overrun up to the canary before the return address{what}",
        array.name if array else None,
        frame.frame if frame else None,
        _proofs(bytes_at(core.memory, sp + run.start(), min(len(run[0]), 128), "the array and what overran it"))
        if run
        else (),
    )


def _pointers(frames: Sequence[Frame]) -> list[HeldVariable]:
    return [each for frame in frames for each in variables_of(frame) if pointer_of(each.variable)]


def _freed(core: CoreFile, held: HeldVariable) -> bool:
    address = pointer_of(held.variable) or 0
    return is_freed(core, address) or is_binned(core, address)


def _stack_words(core: CoreFile) -> set[int]:
    """Words near the stack pointer and in registers: where the allocator keeps what it was called with."""
    data = core.memory.read(core.crashed.sp or 0, _STACK_SEARCHED)
    return set(core.memory.words(data)) | set(core.crashed.registers.values())


def _broken(core: CoreFile) -> Broken | None:
    return next((found for heap in main_heaps(core) if (found := first_broken(core.memory, heap))), None)


def _proofs(*found: Proof | None) -> tuple[Proof, ...]:
    return tuple(proof for proof in found if proof is not None)


def _told(how: str | None) -> str:
    return f"; {how}" if how else ""
