"""A core's file on the node, which its container can change, swap or link elsewhere at any moment.

A file is known by device, inode, length and time of change. What stands under its name later is read, emptied or
removed only when it is still that file; nothing follows a symbolic link.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from errors import Conflict, InvalidInput, NotFound

Disposal = Literal["remove", "truncate", "keep"]
_MOST_NS = (1 << 63) - 1
"""A file's owner sets its time of change to anything; SQLite's integers, which keep it, have 63 bits and a sign."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class LocalFile:
    path: Path
    device: int
    inode: int
    size: int
    modified_ns: int
    seal: str | None = field(default=None, compare=False, repr=False)
    """Of its bytes, as they were when it was collected (collector/seal.py)."""

    @classmethod
    def at(cls, path: Path) -> LocalFile:
        """The regular file at `path` now. Raises NotFound, InvalidInput."""
        try:
            status = path.lstat()
        except OSError as error:
            raise NotFound(f"the core's file is gone: {error.strerror}") from None
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInput("the core's file is no regular file")
        return cls(path.absolute(), *stamp_of(status))

    @property
    def stamp(self) -> tuple[int, int, int, int]:
        return self.device, self.inode, self.size, self.modified_ns


@contextmanager
def opened(file: LocalFile) -> Iterator[int]:
    """A descriptor of the very file. Raises NotFound, Conflict (another file, or changed, now or while it was open)."""
    try:
        handle = os.open(file.path, _READ)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Conflict("a symbolic link stands in the place of the core's file") from None
        raise NotFound(f"the core's file cannot be read: {error.strerror}") from None
    try:
        if stamp_of(os.fstat(handle)) != file.stamp:
            raise Conflict("another file stands in the place of the core's, or it was written to")
        yield handle
        if stamp_of(os.fstat(handle)) != file.stamp:
            raise Conflict("the core's file was written to while it was read")
    finally:
        os.close(handle)


def dispose(file: LocalFile, how: Disposal) -> str:
    """Remove or empty the very file; `removed`, `truncated`, `kept`, `gone`, or `changed` when it is another now.

    Blocking. Raises OSError when the disk does not allow it.
    """
    if how == "keep":
        return "kept"
    try:
        folder = os.open(file.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return "gone"
    try:
        flags = os.O_WRONLY if how == "truncate" else os.O_RDONLY
        handle = os.open(file.path.name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        os.close(folder)
        return "gone"
    except OSError as error:
        os.close(folder)
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return "changed"
        raise
    try:
        if stamp_of(os.fstat(handle)) != file.stamp:
            return "changed"
        if how == "truncate":
            os.ftruncate(handle, 0)
            return "truncated"
        # whoever swaps it between these two lines loses a file of the same folder, which is theirs
        os.unlink(file.path.name, dir_fd=folder)
        os.fsync(folder)
        return "removed"
    finally:
        os.close(handle)
        os.close(folder)


def stamp_of(status: os.stat_result) -> tuple[int, int, int, int]:
    """Device, inode, length and time of change (ns since the epoch; beyond the years 1677 and 2262 their ends)."""
    return status.st_dev, status.st_ino, status.st_size, max(-_MOST_NS, min(_MOST_NS, status.st_mtime_ns))
