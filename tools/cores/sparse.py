"""Write what may be a huge core to disk: zeros become holes, and limits end it before the disk is full."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from errors import InputTooLarge, ToolFailed

BLOCK = 1 << 16
_ZEROS = bytes(BLOCK)
_DISK_CHECK = 64 << 20


@dataclass(frozen=True)
class Limits:
    """Of what is unpacked, in bytes."""

    max_bytes: int = 64 << 30
    """Of one unpacked file, holes included."""
    ratio: int = 2000
    """What is packed may grow by this factor, and to `floor` in any case."""
    floor: int = 8 << 30
    disk_reserve: int = 1 << 30
    """Left free on the disk that is written to."""

    def of_packed(self, size: int) -> int:
        """How many bytes may come out of `size` packed ones."""
        return min(self.max_bytes, max(self.floor, size * self.ratio))


class SparseFile:
    """A new private file that is written from the start to the end; blocks of zeros are left out."""

    def __init__(self, path: Path, limit: int, disk_reserve: int) -> None:
        """Raises ToolFailed when the file cannot be made."""
        self.path = path
        self.size = 0
        """Bytes so far, holes included."""
        self.written = 0
        self._limit, self._reserve = limit, disk_reserve
        self._next_check = 0
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ToolFailed(f"cannot write to {str(path.parent)!a}: {error.strerror}") from None

    def write(self, data: bytes) -> None:
        """Append. Raises InputTooLarge past the limit, ToolFailed when the disk is full."""
        if self.size + len(data) > self._limit:
            raise InputTooLarge(f"it unpacks to more than the {self._limit} bytes that are allowed for it")
        view = memoryview(data)
        start = 0
        while start < len(data):  # runs of blocks that are not zero, without copying them
            end = start
            while end < len(data) and not data.startswith(_ZEROS[: len(data) - end], end):
                end += BLOCK
            if end > start:
                self._put(view[start:end], self.size + start)
            start = end + BLOCK
        self.size += len(data)

    def skip(self, count: int) -> None:
        """Leave `count` bytes out."""
        self.size += count

    def _put(self, block: memoryview, offset: int) -> None:
        if self.written >= self._next_check:
            self._next_check = self.written + _DISK_CHECK
            status = os.fstatvfs(self._fd)
            if status.f_bavail * status.f_frsize < self._reserve + BLOCK:
                raise ToolFailed(f"the disk of {str(self.path.parent)!a} is nearly full: the core is not unpacked")
        try:
            while block:
                done = os.pwrite(self._fd, block, offset)
                self.written += done
                block, offset = block[done:], offset + done
        except OSError as error:
            raise ToolFailed(f"writing to {str(self.path.parent)!a} failed: {error.strerror}") from None

    def flush(self) -> None:
        """Give the file its size so far, holes at its end included."""
        os.ftruncate(self._fd, self.size)

    def close(self) -> None:
        if self._fd >= 0:
            self.flush()
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> SparseFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
