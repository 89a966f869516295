"""Use after free: the bad value is what the allocator wrote into a freed chunk, or lies in one."""

from __future__ import annotations

from collections.abc import Sequence

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.faults import Fault
from diagnosis.crashes.root_cause.classes import Conclusion, RootClass
from diagnosis.crashes.root_cause.heap import bytes_at, chunk_at, fast_link, freed, is_freed, main_heaps
from diagnosis.crashes.root_cause.pointers import Blamed
from diagnosis.crashes.root_cause.variables import Held, origin, pointer_of, variables_of
from incidents.crash_report import Frame

_FRAMES = 4
_SEARCHED = 512
_OFFSET = 0x400


def freed_source(core: CoreFile, fault: Fault, blamed: Blamed | None, frames: Sequence[Frame]) -> Conclusion | None:
    """The cause when the bad pointer came out of a freed chunk; None when that cannot be shown."""
    value = blamed.value if blamed else fault.address
    if value is None or core.memory.order != "<":
        return None
    for address, held in _candidates(core, frames):
        if is_freed(core, address) and value in _words(core, address):
            return _conclusion(core, fault, value, address, held, frames)
    for address, words in freed(core).items():
        if value in words:
            return _conclusion(core, fault, value, address, None, frames)
    for address, held in _candidates(core, frames):
        link = core.memory.pointer(address) or 0
        # a slot of the table of virtual functions, a member: its offset was added to what the object's start held
        if link >= _OFFSET and 0 < value - link < _OFFSET and is_freed(core, address):
            return _conclusion(core, fault, link, address, held, frames)
    if blamed is not None and blamed.source is not None and fast_link(core, blamed.source, value) is not None:
        return _conclusion(core, fault, value, blamed.source, None, frames)
    page = value << 12
    if 1 << 16 < value < 1 << 35 and any(heap.vaddr <= page < heap.end for heap in main_heaps(core)):
        return Conclusion(
            RootClass.USE_AFTER_FREE,
            0.8,
            f"the pointer {hex(value)} is the mark that glibc leaves in the first word of a freed chunk "
            f"(the chunk's address >> 12, of the heap page {hex(page)}): an object was used after it was freed",
        )
    return None


def _conclusion(
    core: CoreFile, fault: Fault, value: int, address: int, held: Held | None, frames: Sequence[Frame]
) -> Conclusion:
    words = _words(core, address)
    offset = words.index(value) * core.memory.word
    part = {0: "the allocator's list link", core.memory.word: "the allocator's key"}.get(
        offset, f"what was at offset {hex(offset)}"
    )
    chunk = chunk_at(core, address)
    room = f" of {chunk.usable} bytes" if chunk else ""
    name = f"`{held.variable.name}` points to" if held else "an object was in"
    where, how = origin(frames, held) if held else (None, None)
    told = f"; {how}" if how else ""
    proof = bytes_at(core.memory, address - 16, 48, "header, list link and key of the freed chunk")
    return Conclusion(
        RootClass.USE_AFTER_FREE,
        0.97 if held else 0.93,
        f"{name} the heap chunk{room} at {hex(address)}, which is freed: the pointer {hex(value)} that was read from "
        f"it is {part}{told}",
        held.variable.name if held else f"heap chunk at {hex(address)}",
        where,
        (proof,) if proof else (),
    )


def _candidates(core: CoreFile, frames: Sequence[Frame]) -> list[tuple[int, Held | None]]:
    """Pointers of the innermost frames, then registers."""
    held: list[tuple[int, Held | None]] = [
        (address, each)
        for frame in frames[:_FRAMES]
        for each in variables_of(frame)
        if (address := pointer_of(each.variable))
    ]
    return [*held, *((value, None) for value in core.crashed.registers.values())]


def _words(core: CoreFile, address: int) -> list[int]:
    chunk = chunk_at(core, address)
    data = core.memory.read(address, min(chunk.usable if chunk else 16, _SEARCHED))
    return list(core.memory.words(data))
