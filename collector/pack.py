"""Compress a file as it is read, holes without reading them, and encrypt what comes out: never much of it in memory."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from collector.pieces import PIECE, pieces, zeros
from collector.seal import Check
from errors import ToolFailed
from tools.objectstore.encryption import Encryptor, Keyring

_DISK_CHECK = 32 << 20
_LONG_HOLE = 4 << 20


class DiskNearlyFull(ToolFailed):
    """There is too little room to prepare what is to be stored."""

    title = "The disk is nearly full"


@dataclass(frozen=True)
class Packed:
    """`size` and `sha256` are of the bytes that were written; `plain_sha256` is of what was read, unless a seal was
    given: then `sealed` says whether that holds what was read."""

    size: int
    sha256: str
    plain_sha256: str | None
    sealed: bool | None


def pack(
    handle: int, target: Path, *, level: int, ring: Keyring | None, reserve: int, seal: str | None = None
) -> Packed:
    """Write what the open file `handle` holds to the new file `target`, as zstd with a checksum; encrypted with `ring`.

    Blocking. Raises DiskNearlyFull when less than `reserve` bytes would stay free, ToolFailed.
    """
    out = _Out(target, Encryptor(ring) if ring else None, reserve)
    check = Check(seal) if seal is not None else None
    plain = hashlib.sha256() if check is None else None
    frames = _Frames(level)
    try:
        with out:
            for piece in pieces(handle):
                if check is not None:
                    check.add(piece)
                if plain is not None:
                    for part in zeros(piece) if isinstance(piece, int) else (piece,):
                        plain.update(part)
                for packed in frames.hole(piece) if isinstance(piece, int) else (frames.data(piece),):
                    out.write(packed)
            out.write(frames.end())
            out.finish()
    except OSError as error:
        target.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskNearlyFull("the disk is full: the core cannot be prepared for the store") from None
        raise ToolFailed(f"preparing the core failed: {error.strerror}") from None
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return Packed(
        out.size, out.digest.hexdigest(), plain.hexdigest() if plain else None, check.holds() if check else None
    )


def free_bytes(folder: Path) -> int:
    """What may still be written to the disk of `folder`. Raises OSError."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


class _Frames:
    """zstd frames, which its readers take as one: a long hole costs nothing, as its frames are made once.

    A file without long holes is one frame.
    """

    def __init__(self, level: int) -> None:
        self._zstd = zstandard.ZstdCompressor(level=level, write_checksum=True)
        self._begun: zstandard.ZstdCompressionObj | None = self._zstd.compressobj()
        self._ready: list[tuple[int, bytes]] = []

    def data(self, piece: bytes | memoryview) -> bytes:
        if self._begun is None:
            self._begun = self._zstd.compressobj()
        return self._begun.compress(piece)

    def hole(self, count: int) -> Iterator[bytes]:
        if count >= _LONG_HOLE:
            yield self.end()
            self._ready = self._ready or [(size, self._zstd.compress(bytes(size))) for size in (_LONG_HOLE, PIECE)]
            for size, frame in self._ready:
                for _ in range(count // size):
                    yield frame
                count %= size
        for part in zeros(count):
            yield self.data(part)

    def end(self) -> bytes:
        begun, self._begun = self._begun, None
        return begun.flush() if begun is not None else b""


class _Out:
    """A new private file that counts and hashes what it is given."""

    def __init__(self, target: Path, encryptor: Encryptor | None, reserve: int) -> None:
        self._target, self._encryptor, self._reserve = target, encryptor, reserve
        self.size = 0
        self.digest = hashlib.sha256()
        self._check_at = 0

    def write(self, data: bytes) -> None:
        self._put(self._encryptor.update(data) if self._encryptor and data else data)

    def finish(self) -> None:
        if self._encryptor:
            self._put(self._encryptor.finish())

    def _put(self, data: bytes) -> None:
        if not data:
            return
        if self.size >= self._check_at:
            self._check_at = self.size + _DISK_CHECK
            if free_bytes(self._target.parent) < self._reserve + _DISK_CHECK:
                raise DiskNearlyFull("the disk is nearly full: the core cannot be prepared for the store")
        view = memoryview(data)
        while view:
            view = view[os.write(self._handle, view) :]
        self.digest.update(data)
        self.size += len(data)

    def __enter__(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._handle = os.open(self._target, flags, 0o600)

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)
