"""A core's file in pieces: what lies in holes is told and not read, and nothing of it is left in the page cache."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from errors import ToolFailed

BLOCK = 64 << 10
"""Every piece of data begins at a multiple of it, and only the last one of a file ends elsewhere."""
PIECE = 256 << 10
"""The longest piece of data; it fits into a processor's own cache, so that several may look at it at little cost."""
ZEROS = bytes(PIECE)


def pieces(handle: int) -> Iterator[bytes | int]:
    """What the open file `handle` holds, from its start to its end: bytes, or the length of a hole.

    Where holes are, the file system decides: some tell smaller ones, or none. Blocking. Raises OSError, and ToolFailed
    when the file became shorter.
    """
    size, at = os.fstat(handle).st_size, 0
    while at < size:
        begin, end = _data(handle, at, size)
        if begin > at:
            yield begin - at
            at = begin
        while at < end:
            piece = _read(handle, min(PIECE, end - at), at)
            yield piece
            os.posix_fadvise(handle, at, len(piece), os.POSIX_FADV_DONTNEED)
            at += len(piece)


def zeros(count: int) -> Iterator[memoryview]:
    """So many zeros, a piece at a time."""
    whole = memoryview(ZEROS)
    while count > 0:
        yield whole[:count]
        count -= PIECE


def _read(handle: int, count: int, at: int) -> bytes:
    found = os.pread(handle, count, at)
    while len(found) < count:
        more = os.pread(handle, count - len(found), at + len(found))
        if not more:
            raise ToolFailed("the core's file became shorter while it was read")
        found += more
    return found


def _data(handle: int, at: int, size: int) -> tuple[int, int]:
    """Where the next data from `at`, a multiple of BLOCK, begin and end, to whole blocks."""
    try:
        begin = os.lseek(handle, at, os.SEEK_DATA)
        end = os.lseek(handle, begin, os.SEEK_HOLE)
    except OSError as error:  # a hole up to the end; else the file system knows no holes
        return (size, size) if error.errno == errno.ENXIO else (at, size)
    return min(size, begin // BLOCK * BLOCK), min(size, -(-end // BLOCK) * BLOCK)
