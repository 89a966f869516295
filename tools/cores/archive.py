"""Members of tar and zip archives as streams. Their names are shown, and never used."""

from __future__ import annotations

import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, BinaryIO

from errors import InputTooLarge, UnusableCore
from tools.cores.streams import CHUNK, Readable, Source

MAX_MEMBERS = 10_000
_PIECE = 1 << 16  # what is read in a call that fails is lost
_HEADER_BYTES = 1 << 20
"""Of one member's extended headers, which are read into memory."""
_DIRECTORY_BYTES = 4 << 20
_LONG_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_TAR_ERRORS = (tarfile.TarError, EOFError, ValueError, OverflowError, OSError, RecursionError, IndexError, struct.error)
_ZIP_ERRORS = (zipfile.BadZipFile, EOFError, ValueError, OSError, RuntimeError, NotImplementedError, zlib.error)


class _Counted:
    """A stream that knows how much of it was taken, and that ends where its archive is damaged."""

    def __init__(self, stream: IO[bytes], damage: Callable[[str], None]) -> None:
        self._stream, self._damage = stream, damage
        self.taken = 0

    def read(self, size: int) -> bytes:
        try:
            data = self._stream.read(min(size, _PIECE))
        except (*_TAR_ERRORS, *_ZIP_ERRORS) as error:
            self._damage(f"the archive is damaged: {str(error)[:200]}")
            return b""
        self.taken += len(data)
        return data


@dataclass(frozen=True)
class Member:
    name: str
    stream: _Counted

    @property
    def taken(self) -> int:
        """Bytes of it that were read so far."""
        return self.stream.taken


class _Info(tarfile.TarInfo):
    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        """tarfile's hook for each header: names of gigabytes are not read."""
        if self.type in _LONG_HEADERS and self.size > _HEADER_BYTES:
            raise tarfile.ReadError(f"a name of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]


class _Limited:
    """What tarfile reads between members is headers; endless ones end here."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.left = 0
        self.in_member = True

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if not self.in_member:
            self.left -= len(data)
            if self.left < 0:
                raise tarfile.ReadError("its headers have no end")
        return data


def tar_members(source: Source, limit: int, damage: Callable[[str], None]) -> Iterator[Member]:
    """Regular files, in the archive's order; sparse ones come out whole. Ends after `limit` bytes of them."""
    left = limit
    stream = _Limited(source)
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK, tarinfo=_Info) as archive:  # type: ignore[call-overload]
            for _ in range(MAX_MEMBERS):
                stream.in_member, stream.left = False, 2 * CHUNK + 32 * _HEADER_BYTES
                info = archive.next()
                archive.members = []  # it keeps them all
                if info is None:
                    return
                stream.in_member = True
                file = archive.extractfile(info) if info.isreg() else None
                if file is None:
                    continue
                counted = _Counted(file, damage)
                yield Member(info.name, counted)
                while counted.taken <= left and counted.read(CHUNK):
                    pass  # what is left of a member must be read to come to the next
                left -= counted.taken
                if left < 0:
                    break
            damage("the archive holds more than is allowed: the rest of it was not read")
    except _TAR_ERRORS as error:
        damage(f"the tar archive is damaged or was cut off: {str(error)[:200]}")


def zip_members(stream: BinaryIO, damage: Callable[[str], None]) -> Iterator[Member]:
    """Files of a zip archive. Raises UnusableCore when it cannot be read, InputTooLarge for too many members."""
    _check_directory(stream)
    try:
        archive = zipfile.ZipFile(stream)
    except _ZIP_ERRORS as error:
        raise UnusableCore(f"the zip archive cannot be read; it may be cut off: {str(error)[:200]}") from None
    with archive:
        for info in archive.infolist()[:MAX_MEMBERS]:
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                damage("the zip archive is encrypted: unpack it first")
                continue
            try:
                file = archive.open(info)
            except _ZIP_ERRORS as error:
                damage(f"a member of the zip archive cannot be read: {str(error)[:200]}")
                continue
            with file:
                yield Member(info.filename, _Counted(file, damage))


def _check_directory(stream: BinaryIO) -> None:
    """zipfile reads the whole directory of an archive into memory; APPNOTE.TXT 4.3.16 has the record of its size."""
    size = stream.seek(0, 2)
    stream.seek(max(0, size - 66_000))
    tail = stream.read(66_000)
    stream.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    directory = struct.unpack_from("<I", tail, at + 12)[0] if 0 <= at <= len(tail) - 22 else 0
    if directory > _DIRECTORY_BYTES:  # also when it is told elsewhere (zip64)
        raise InputTooLarge("the zip archive has too many members; unpack the core from it first")
