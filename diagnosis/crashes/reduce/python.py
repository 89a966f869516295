"""The frames of a Python program: they, their code objects and texts are in its heap, where no stack leads.

What reading them takes is kept: they are read here as they will be from the reduced core. The interpreter's file is
not at hand, so its state is found in the global variables: since 3.13 by the mark at its start, else by its list of
interpreters (`_PyRuntimeState.interpreters`: head, main), which leads to a thread of the core. A program with several
interpreters is found only by the mark.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from diagnosis.crashes.causes.python.interpreter import Interpreter
from diagnosis.crashes.causes.python.layouts import COOKIE, Layout, layout_of
from diagnosis.crashes.causes.python.stack import stacks_of
from diagnosis.crashes.core_file import CoreFile, Memory
from diagnosis.crashes.elf import Segment
from diagnosis.crashes.reduce.kept import Range
from diagnosis.crashes.reduce.stacks import words

_MODULE = re.compile(r"/(?:lib)?python3\.(?P<minor>\d{1,2})(?!\d)[^/]*$")
_GLOBALS_BYTES = 4 << 20
_ALL_GLOBALS_BYTES = 16 << 20
_MAX_LOOKS = 20_000


class _Recorded(Memory):
    """The memory of a core that notes what is read of it."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(memory.file, memory.order, memory.word, list(memory.pieces))
        self.ranges: list[Range] = []

    def read(self, address: int, count: int) -> bytes:
        data = super().read(address, count)
        if data:
            self.ranges.append((address, address + len(data)))
        return data


def python_frames(core: CoreFile, globals_: Sequence[Segment]) -> Iterator[Range]:
    """Ranges that hold the frames of all threads and what names them; nothing for other programs."""
    named = (_MODULE.search(mapped.path) for mapped in core.files)
    minors = {int(match["minor"]) for match in named if match is not None}
    if core.header.machine != "x86_64":
        return
    room = _ALL_GLOBALS_BYTES
    for minor in minors:
        for segment in globals_:
            place = (segment.vaddr, segment.vaddr + min(segment.filesz, _GLOBALS_BYTES, room))
            room -= place[1] - place[0]
            found = _state(core, minor, place)
            if found is not None:
                memory = _Recorded(core.memory)
                stacks_of(core, Interpreter("", found[1], found[0], None), memory)
                yield from memory.ranges
                return


def _state(core: CoreFile, minor: int, place: Range) -> tuple[int, Layout] | None:
    """Address of `_PyRuntime` in `place`, and its layout."""
    start, end = place
    at = core.memory.read(start, end - start).find(COOKIE)
    if at >= 0:
        layout = layout_of(minor, core.memory, start + at)
        return (start + at, layout) if isinstance(layout, Layout) else None
    layout = layout_of(minor, core.memory, start)
    if isinstance(layout, str):  # one that has the mark, or that is not supported
        return None
    pointers = {status.registers["fs_base"] for status in core.threads if status.registers}
    found = words(core, place, _GLOBALS_BYTES)
    looks = _MAX_LOOKS
    for index in range(len(found) - 1):
        if found[index] and found[index] == found[index + 1] and found[index] % core.header.word == 0:
            looks -= 1
            if looks < 0:
                return None
            if _leads_to_thread(core.memory, layout, found[index], pointers):
                return start + index * core.header.word - layout.interpreters, layout
    return None


def _leads_to_thread(memory: Memory, layout: Layout, interpreter: int, pointers: Collection[int]) -> bool:
    state = memory.pointer(interpreter + layout.threads)
    return bool(state) and memory.pointer((state or 0) + layout.thread_id) in pointers
