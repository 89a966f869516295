"""What stacks and registers point to: the objects that a backtrace shows, and the causes that memory holds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import Segment
from diagnosis.crashes.reduce.kept import Kept, Range
from diagnosis.crashes.reduce.stacks import words

CRASH_PAGES = 256
"""Pages that are kept for pointers of the thread that crashed, nearest to its stack pointer first."""
NESTED_OBJECTS = 1024
"""Objects that objects of the crashing thread point to: the text of a string, of an exception."""
OTHER_OBJECTS = 32
"""Objects for each other thread: what its frames' arguments point to."""
OTHER_TOTAL = 8192

_PAGE = 4096
_OBJECT_BEFORE, _OBJECT_AFTER = 64, 448  # a heap chunk's header; the 200 characters that gdb shows of a string
_SEARCHED = 64 << 10
_ALL_SEARCHED = 64 << 20
_HEADS = 16
_HEAD_BYTES = 8 << 10  # of a heap: malloc's arena and the first thread's cache
_OWN_PAGES = 64
_GLOBALS = 1 << 20


class Reach:
    """Follows pointers into mappings that are not kept as a whole."""

    def __init__(self, core: CoreFile, kept: Kept, large: Sequence[Segment]) -> None:
        self._core, self._kept = core, kept
        self._large = sorted(large, key=lambda segment: segment.vaddr)
        self._starts = [segment.vaddr for segment in self._large]
        self._seen: set[int] = set()
        self._total = 0
        self._searched = 0

    def _segment(self, address: int) -> Segment | None:
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self._large[index].vaddr + self._large[index].filesz:
            return self._large[index]
        return None

    def crash(self, registers: Iterable[int], stack: Range) -> None:
        """Pages and objects behind the registers and the stack of the thread that crashed."""
        targets: list[int] = []
        pages: set[int] = set()
        heads: set[int] = set()
        for value in dict.fromkeys([*registers, *words(self._core, stack, _SEARCHED)]):
            segment = self._segment(value)
            if segment is None or stack[0] <= value < stack[1]:
                continue
            targets.append(value)
            page = value - value % _PAGE
            if page not in pages:
                pages.add(page)
                end = value + _OBJECT_AFTER if value + _OBJECT_AFTER > page + _PAGE else page + _PAGE
                self._kept.add("memory that the crashing thread points to", page, end)
            if segment.vaddr not in heads and len(heads) < _HEADS:
                heads.add(segment.vaddr)
                self._kept.add("starts of heaps", segment.vaddr, segment.vaddr + _HEAD_BYTES)
            if len(pages) >= CRASH_PAGES:
                break
        self._nested(targets)

    def _nested(self, targets: list[int]) -> None:
        count = 0
        for target in targets:
            for value in words(self._core, (target, target + _OBJECT_AFTER), _OBJECT_AFTER):
                if self._object("objects behind those", value):
                    count += 1
            if count >= NESTED_OBJECTS:
                break

    def other(self, registers: Iterable[int], stack: Range) -> None:
        """Objects behind the registers and the stack of another thread."""
        if self._total >= OTHER_TOTAL or self._searched >= _ALL_SEARCHED:
            return
        self._searched += min(_SEARCHED, stack[1] - stack[0])
        count = 0
        for value in dict.fromkeys([*registers, *words(self._core, stack, _SEARCHED)]):
            if self._total >= OTHER_TOTAL or count >= OTHER_OBJECTS:
                return
            if not stack[0] <= value < stack[1] and self._object("objects of other threads", value):
                count += 1
                self._total += 1

    def _object(self, kind: str, address: int) -> bool:
        granule = address // _OBJECT_BEFORE
        if granule in self._seen or self._segment(address) is None:
            return False
        self._seen.add(granule)
        start = granule * _OBJECT_BEFORE - _OBJECT_BEFORE
        self._kept.add(kind, start, start + _OBJECT_BEFORE + _OBJECT_AFTER)
        return True

    def own_pages(self, data: Iterable[Segment]) -> None:
        """Whole pages that global variables point to: glibc keeps the text of an abort in one (`__abort_msg`)."""
        count, room = 0, _ALL_SEARCHED
        for segment in data:
            place = (segment.vaddr, segment.vaddr + min(segment.filesz, _GLOBALS, room))
            room -= place[1] - place[0]
            for value in words(self._core, place, _GLOBALS):
                if value and value % _PAGE == 0 and count < _OWN_PAGES and self._segment(value) is not None:
                    self._kept.add("pages of the C library", value, value + _PAGE)
                    count += 1
