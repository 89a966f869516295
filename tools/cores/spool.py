"""A core that comes as a stream, such as from the kernel's core_pattern pipe, laid down so that it can be reduced.

The kernel sends headers and notes first, then memory by address; the main thread's stack is last, and what it points
to has passed by then. So everything that is not zero is kept in a sparse file until that has `SPOOL_BYTES`; after
that only what is wanted as far as is known: all stacks, whose places the notes tell, and what the stacks that came
point to.
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from types import TracebackType

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import Segment
from diagnosis.crashes.reduce.choose import wanted
from diagnosis.crashes.reduce.kept import Range, pieces, without
from tools.cores.sparse import Limits, SparseFile
from tools.cores.streams import Readable

SPOOL_BYTES = 2 << 30
_CHUNK = 1 << 20
_LOOK_AGAIN = 256 << 20
"""How much may pass until what is wanted is worked out again."""


class Spool:
    """`path` is a file with the core's own layout; `unavailable` the addresses that were let go."""

    def __init__(self, path: Path, limits: Limits, spool_bytes: int = SPOOL_BYTES) -> None:
        self.path = path
        self.unavailable: list[Range] = []
        self._file = SparseFile(path, limits.max_bytes, limits.disk_reserve)
        self._bytes = spool_bytes
        self._segments: list[Segment] = []  # in the order of the file
        self._segment_starts: list[int] = []
        self._offsets: list[Range] = []
        self._starts: list[int] = []
        self._look_at = 0

    def fill(self, stream: Readable) -> int:
        """Read `stream` to its end; returns its size in bytes. Raises InputTooLarge, ToolFailed, UnusableCore."""
        file = self._file
        while chunk := stream.read(_CHUNK):
            if file.written < self._bytes:
                file.write(chunk)
            else:
                if file.size >= self._look_at:
                    self._look()
                    self._look_at = file.size + _LOOK_AGAIN
                self._sift(chunk)
        file.flush()
        return file.size

    def _look(self) -> None:
        """Work out what is wanted, from what came so far."""
        self._file.flush()
        with CoreFile(self.path) as core:
            self._segments = sorted(core.memory.pieces, key=lambda segment: segment.offset)
            self._segment_starts = [segment.offset for segment in self._segments]
            kept = pieces(wanted(core), self._segments, 1 << 63)
        self._offsets = sorted((piece.offset, piece.offset + piece.filesz) for piece in kept)
        self._starts = [start for start, _ in self._offsets]

    def _sift(self, chunk: bytes) -> None:
        """Write what is wanted of `chunk`, and remember what is not."""
        start, end = self._file.size, self._file.size + len(chunk)
        index = max(0, bisect_right(self._starts, start) - 1)
        held: list[Range] = []
        while index < len(self._offsets) and self._offsets[index][0] < end:
            first, last = max(self._offsets[index][0], self._file.size), min(self._offsets[index][1], end)
            if first < last:
                self._file.skip(first - self._file.size)
                self._file.write(chunk[first - start : last - start])
                held.append((first, last))
            index += 1
        self._file.skip(end - self._file.size)
        for first, last in without([(start, end)], held):
            self._let_go(first, last)

    def _let_go(self, first: int, last: int) -> None:
        """File offsets to addresses."""
        index = max(0, bisect_right(self._segment_starts, first) - 1)
        while index < len(self._segments) and self._segments[index].offset < last:
            segment = self._segments[index]
            index += 1
            low, high = max(first, segment.offset), min(last, segment.offset + segment.filesz)
            if low < high:
                move = segment.vaddr - segment.offset
                if self.unavailable and self.unavailable[-1][1] == low + move:
                    self.unavailable[-1] = (self.unavailable[-1][0], high + move)
                else:
                    self.unavailable.append((low + move, high + move))

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
