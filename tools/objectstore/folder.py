"""A folder as a store: written so that an object is there whole, and on the disk, or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from errors import InvalidInput
from tools.objectstore.failures import Damaged, StoreUnreachable

_CHUNK = 1 << 20


def put_file(root: Path, key: str, source: Path | bytes, sha256: str) -> None:
    """Copy `source` to `root`/`key`, when what the disk then holds, read again, has `sha256`. Blocking.

    Raises InvalidInput (no source, or other bytes), StoreUnreachable (the folder is not there, not writable or full),
    Damaged.
    """
    target = root / key
    # obstore takes names that end with # and a number for unfinished ones and does not list them
    part = target.with_name(f"{target.name}#{os.getpid()}")
    try:
        if not root.is_dir():
            raise StoreUnreachable(f"the store's folder {str(root)!a} is not there: is it mounted?")
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        try:
            _copy(source, part)
            if _digest(part) != sha256:
                if (hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else _digest(source)) != sha256:
                    raise InvalidInput(f"storing {key}: the file is not the one that was to be stored")
                raise Damaged(f"storing {key}: the folder's disk holds other bytes than were written")
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        _sync(target.parent)
    except OSError as error:
        full = " (the disk is full)" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise StoreUnreachable(f"storing {key} in the folder failed: {error.strerror}{full}") from None


def _copy(source: Path | bytes, part: Path) -> None:
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    with os.fdopen(handle, "wb", buffering=0) as out:
        if isinstance(source, bytes):
            out.write(source)
        else:
            try:
                file = source.open("rb", buffering=0)
            except OSError as error:
                raise InvalidInput(f"{source.name} cannot be read: {error.strerror}") from None
            with file:
                while os.sendfile(out.fileno(), file.fileno(), None, _CHUNK):  # the kernel copies
                    pass
        os.fsync(out.fileno())


def _digest(path: Path) -> str:
    """Read anew: on a network file system, from the server."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
