"""Streams of bytes that are read once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Protocol

from diagnosis.crashes.formats import is_packed

CHUNK = 1 << 20
HEAD = 512
"""Enough to know what a file is."""


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Source:
    """A stream that can be looked into before it is read."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._head = b""

    def peek(self, count: int) -> bytes:
        """The next bytes, fewer at the end."""
        while len(self._head) < count and (more := self._stream.read(count - len(self._head))):
            self._head += more
        return self._head[:count]

    def read(self, count: int) -> bytes:
        """At least one byte, or none at the end."""
        if self._head:
            found, self._head = self._head[:count], self._head[count:]
            return found
        return self._stream.read(count)


def looks_packed(core: Path) -> bool:
    """Whether `unpack` has something to do. Blocking."""
    try:
        if not core.is_file():
            return False
        with core.open("rb") as file:
            return is_packed(file.read(HEAD))
    except (OSError, ValueError):  # the reader of cores says what is wrong with it
        return False


def create_private(path: Path) -> BinaryIO:
    """A new file for us alone: a confined process then reads it as its owner, and may read what else is the owner's."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
