"""Reduce a core: from a file or a stream, packed or not, to a file or a stream, packed or not."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.formats import is_packed
from diagnosis.crashes.reduce.choose import choose
from diagnosis.crashes.reduce.kept import Range
from diagnosis.crashes.reduce.writer import write_core
from errors import InvalidInput, ToolFailed
from tools.cores.sparse import Limits
from tools.cores.spool import Spool
from tools.cores.streams import HEAD, Source, looks_packed

_PIPE_BYTES = 1 << 20
_ANY_BYTES = 1 << 62
_LEVEL = 3  # of zstd: higher ones take long and gain little
_PROGRESS_BYTES = 16 << 20


@dataclass(frozen=True)
class Shrunk:
    """Sizes in bytes; `packed_size` is of the file or stream that was written."""

    size: int
    allocated: int
    reduced_size: int
    packed_size: int
    threads: int
    pieces: int
    bytes_by_kind: dict[str, int]
    soft_errors: tuple[str, ...]


def shrink(
    source: Path | BinaryIO,
    target: Path | BinaryIO,
    limits: Limits,
    say: Callable[[str], None],
    spool_folder: Path | None = None,
) -> Shrunk:
    """Write the reduced core of `source` to `target`. Blocking. A target named `*.zst` is compressed.

    A stream is laid down in `spool_folder` (else the system's temporary folder) as far as it may be needed. A target
    file appears whole or not at all. Raises InvalidInput when source and target are one file, UnusableCore,
    InputTooLarge, ToolFailed.
    """
    if isinstance(source, Path) and isinstance(target, Path):
        _must_differ(source, target)
    folder = Path(tempfile.mkdtemp(prefix="paramedic-shrink-", dir=spool_folder))
    try:
        path, unavailable, soft = _plain(source, folder, limits, say)
        with CoreFile(path) as core:
            say("choosing what to keep")
            choice = choose(core, sorted(unavailable))
            if core.missing_bytes:
                soft.append(f"the core is truncated: {core.missing_bytes} bytes are missing")
            if core.note_error:
                soft.append(core.note_error)
            if unavailable:
                lost = sum(end - start for start, end in unavailable)
                soft.append(f"{lost} bytes had passed before it was known whether they are needed")
            with _opened(target) as (out, written):
                reduced = write_core(core, choice.pieces, out, _teller(say))
            return Shrunk(
                core.file.size,
                core.file.allocated,
                reduced,
                written[0],
                len(core.threads),
                len(choice.pieces),
                choice.bytes_by_kind,
                tuple(soft),
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _plain(
    source: Path | BinaryIO, folder: Path, limits: Limits, say: Callable[[str], None]
) -> tuple[Path, list[Range], list[str]]:
    """A plain core file, the addresses that it does not hold although it says so, and what went wrong."""
    if not isinstance(source, Path):
        _widen(source)
        stream = Source(source)
        head = stream.peek(HEAD)
        say("reading the core")
        if not is_packed(head):
            with Spool(folder / "core", replace(limits, max_bytes=_ANY_BYTES)) as spool:  # holes cost nothing
                spool.fill(stream)
            return spool.path, spool.unavailable, []
        source = folder / "packed"
        with Spool(source, limits, limits.max_bytes) as spool:
            spool.fill(stream)
    if not looks_packed(source):
        return source, [], []
    from tools.cores.unpack import unpack

    say("unpacking the core")
    found = unpack(source, folder, limits)
    return found.core, [], list(found.soft_errors)


def _widen(source: BinaryIO) -> None:
    """A pipe hands over 64 KiB at a time unless it is told otherwise; the crashed process waits on its other end."""
    with contextlib.suppress(OSError, ValueError):  # no pipe
        fcntl.fcntl(source.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _must_differ(source: Path, target: Path) -> None:
    if target.is_dir():
        raise InvalidInput(f"{str(target)[:300]!a} is a folder, not a file to write to")
    if not target.absolute().parent.is_dir():
        raise InvalidInput(f"cannot write to {str(target.parent)[:300]!a}: there is no such folder")
    if source.exists() and target.exists() and source.samefile(target):
        raise InvalidInput("the reduced core would overwrite the core itself: name another file")


@contextmanager
def _opened(target: Path | BinaryIO) -> Iterator[tuple[BinaryIO, list[int]]]:
    """What to write to, and a list whose item becomes the number of bytes that arrived there."""
    written = [0]
    if not isinstance(target, Path):
        yield _Counting(target, written), written  # type: ignore[misc]
        target.flush()
        return
    try:
        handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=target.absolute().parent)
    except OSError as error:
        raise ToolFailed(f"cannot write to {str(target.parent)[:300]!a}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            if target.suffix == ".zst":
                import zstandard

                with zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).stream_writer(
                    file, closefd=False
                ) as packing:
                    yield packing, written
            else:
                yield file, written
            file.flush()
            os.fsync(file.fileno())
            written[0] = file.tell()
        Path(name).replace(target)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise ToolFailed(f"writing {str(target)[:300]!a} failed: {error.strerror}") from None
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class _Counting:
    """A stream that counts what it is given."""

    def __init__(self, stream: BinaryIO, written: list[int]) -> None:
        self._stream, self._written = stream, written

    def write(self, data: bytes) -> int:
        try:
            self._stream.write(data)
        except OSError as error:
            raise ToolFailed(f"writing the reduced core failed: {error.strerror}") from None
        self._written[0] += len(data)
        return len(data)


def _teller(say: Callable[[str], None]) -> Callable[[int], None]:
    told = 0

    def tell(size: int) -> None:
        nonlocal told
        if size >= told:
            told = size + _PROGRESS_BYTES
            say(f"writing: {size >> 20} MB")

    return tell
