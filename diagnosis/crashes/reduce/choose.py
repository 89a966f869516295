"""What of a core is kept: all that stacks, modules and the context of the crash need, little of the heap.

Notes are always kept whole. Of memory:

- every thread's stack from its stack pointer up, its own one too when it runs on an alternate one, and the thread
  library's control blocks;
- mappings of program files, as far as the kernel wrote them: build-ids, relocated data, global variables;
- small anonymous mappings, which hold the dynamic linker's and the libraries' own data, and the vDSO;
- the dynamic linker's list of objects wherever it is, so that a debugger finds the libraries;
- goroutines, and the frames of Python programs;
- pages around the crashing thread's registers and what its stack points to, one step further for small objects, and
  what other threads' stacks point to: the arguments in a backtrace, C++ exceptions and glibc's abort message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import Segment
from diagnosis.crashes.link_map import link_map_places
from diagnosis.crashes.reduce.goroutines import goroutines
from diagnosis.crashes.reduce.kept import Kept, Range, pieces, without
from diagnosis.crashes.reduce.python import python_frames
from diagnosis.crashes.reduce.reachable import Reach
from diagnosis.crashes.reduce.stacks import control_blocks, left_behind, live_stacks, thread_pointers, words

SMALL = 256 << 10
ALL_SMALL = 32 << 20
FILE_DATA = 16 << 20
"""Of a file's writable mapping: a debugger would fill what is missing from the file on disk, which is not the same."""
ALL_FILE_DATA = 128 << 20

_PAGE = 4096
_FIRST = 2 * _PAGE
_AROUND = 2048
_SEARCHED = 16 << 10


@dataclass(frozen=True)
class Choice:
    """`pieces` say what to copy from where; `bytes_by_kind` why, counted before overlaps are joined."""

    pieces: list[Segment]
    bytes_by_kind: dict[str, int]

    @property
    def size(self) -> int:
        return sum(piece.filesz for piece in self.pieces)


def choose(core: CoreFile, unavailable: Sequence[Range] = ()) -> Choice:
    """What to keep of `core`. `unavailable` addresses (sorted) are not in the file although its headers say so."""
    kept = _kept(core)
    ranges = without(kept.joined(), unavailable)
    return Choice(pieces(ranges, core.memory.pieces, core.file.size), kept.bytes_by_kind)


def wanted(core: CoreFile) -> list[Range]:
    """Addresses that will be kept, whether or not the file holds them yet."""
    return _kept(core).joined()


def _kept(core: CoreFile) -> Kept:
    kept = Kept()
    large, data = _whole_mappings(core, kept)
    pointers = thread_pointers(core)
    stacks = live_stacks(core, pointers)
    for start, end in stacks:
        kept.add("stacks", start, end)
    for start, end in control_blocks(pointers):
        kept.add("thread control blocks", start, end)
    for start, end in link_map_places(core):
        kept.add("list of loaded objects", start, end)
    reach = Reach(core, kept, large)
    _crash_context(core, kept, reach, stacks[0], pointers[0])
    for thread, stack in zip(core.threads[1:], stacks[1:], strict=True):
        reach.other(thread.registers.values(), stack)
        if thread.pc and core.memory.file_offset(thread.pc) is not None:
            kept.add("code at the program counters", thread.pc - _AROUND, thread.pc + _AROUND)
    reach.own_pages(data)
    crash = [*core.crashed.registers.values(), *words(core, stacks[0], _SEARCHED)]
    variables = [*data, *_zeroed(core, data)]
    for start, end in goroutines(core, variables, crash):
        kept.add("goroutines", start, end)
    for start, end in python_frames(core, variables):
        kept.add("Python frames", start, end)
    return kept


def _zeroed(core: CoreFile, data: Sequence[Segment]) -> list[Segment]:
    """The anonymous mappings behind writable data: variables without an initial value."""
    found = (core.memory.segment(segment.end) for segment in data)
    return [segment for segment in found if segment is not None and segment.writable and segment.filesz]


def small_mappings(core: CoreFile) -> list[Segment]:
    """Anonymous mappings that are kept whole, smallest first while there is room."""
    room = ALL_SMALL
    found = []
    dumped = (s for s in core.memory.segments if 0 < s.filesz <= SMALL and core.mapped_at(s.vaddr) is None)
    for segment in sorted(dumped, key=lambda segment: segment.filesz):
        room -= segment.filesz
        if room < 0:
            break
        found.append(segment)
    return found


def _whole_mappings(core: CoreFile, kept: Kept) -> tuple[list[Segment], list[Segment]]:
    """Mappings that are not kept whole, and the writable ones of files."""
    small = {id(segment) for segment in small_mappings(core)}
    large: list[Segment] = []
    data: list[Segment] = []
    room = ALL_FILE_DATA
    for segment in core.memory.segments:
        if not segment.filesz:
            continue
        end = segment.vaddr + segment.filesz
        if core.mapped_at(segment.vaddr) is not None:
            if segment.writable:
                data.append(segment)
            fits = segment.filesz <= (FILE_DATA if segment.writable else SMALL) and segment.filesz <= room
            if fits:
                room -= segment.filesz
                kept.add("mappings of files", segment.vaddr, end)
            else:
                kept.add("mappings of files", segment.vaddr, min(end, segment.vaddr + _FIRST))
                large.append(segment)
        elif id(segment) in small:
            kept.add("small mappings", segment.vaddr, end)
        else:
            large.append(segment)
    return large, data


def _crash_context(core: CoreFile, kept: Kept, reach: Reach, stack: Range, pointer: int) -> None:
    registers = list(core.crashed.registers.values())
    if core.signal is not None:
        registers.append(core.signal.address)
    for value in registers:
        if core.memory.segment(value) is not None:
            kept.add("memory around the registers", value - _AROUND, value + _PAGE)
    reach.crash(registers, stack)
    own = left_behind(core, stack, pointer)
    if own is not None:
        kept.add("stacks", *own)
        reach.crash([], own)
