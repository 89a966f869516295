"""Ranges of a core's memory that are kept, and the pieces of the file that they come to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from diagnosis.crashes.elf import Segment

MAX_PIECES = 50_000
"""An ELF header counts at most 65,534 program headers without further ado."""

_NEAR = 512
"""Ranges that are closer than this become one: a program header and its table cost as much as the bytes between."""

Range = tuple[int, int]
"""Addresses: first, and one past the last."""


class Kept:
    """Collects ranges of addresses. `bytes_by_kind` is what each reason asked for, before ranges are joined."""

    def __init__(self) -> None:
        self._ranges: list[Range] = []
        self.bytes_by_kind: dict[str, int] = {}

    def add(self, kind: str, start: int, end: int) -> None:
        if start < end:
            self._ranges.append((max(start, 0), end))
            self.bytes_by_kind[kind] = self.bytes_by_kind.get(kind, 0) + end - start

    def joined(self) -> list[Range]:
        """Sorted, without overlaps."""
        near = _NEAR
        while len(result := _join(self._ranges, near)) > MAX_PIECES // 2:
            near *= 8
        return result


def pieces(ranges: Sequence[Range], segments: Sequence[Segment], limit: int) -> list[Segment]:
    """`ranges` (sorted) as parts of dumped `segments`, with their place in the file, which has `limit` bytes."""
    starts = [start for start, _ in ranges]
    found: list[Segment] = []
    for segment in sorted(segments, key=lambda segment: segment.vaddr):
        end = segment.vaddr + min(segment.filesz, max(0, limit - segment.offset))
        index = max(0, bisect_right(starts, segment.vaddr) - 1)
        while index < len(ranges) and ranges[index][0] < end and len(found) < MAX_PIECES:
            first, last = max(ranges[index][0], segment.vaddr), min(ranges[index][1], end)
            if first < last:
                at = segment.offset + first - segment.vaddr
                found.append(Segment(segment.type, segment.flags, at, first, last - first, last - first))
            index += 1
    return found


def without(ranges: Sequence[Range], gone: Sequence[Range]) -> list[Range]:
    """`ranges` less those that are `gone`; both sorted and without overlaps."""
    result: list[Range] = []
    index = 0
    for start, end in ranges:
        while index < len(gone) and gone[index][1] <= start:
            index += 1
        at = index
        while at < len(gone) and gone[at][0] < end:
            if start < gone[at][0]:
                result.append((start, gone[at][0]))
            start = max(start, gone[at][1])
            at += 1
        if start < end:
            result.append((start, end))
    return result


def _join(ranges: list[Range], near: int) -> list[Range]:
    result: list[Range] = []
    for start, end in sorted(ranges):
        if result and start <= result[-1][1] + near:
            if end > result[-1][1]:
                result[-1] = (result[-1][0], end)
        else:
            result.append((start, end))
    return result
