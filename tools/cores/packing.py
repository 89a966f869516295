"""Compressed streams, read piece by piece: what a bomb would unpack to is never in memory, and what came before
damage is not lost."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import lz4.frame
import zstandard

from tools.cores.streams import CHUNK, Readable

_WINDOW = 128 << 20  # of zstd, as its command line accepts without --long
_LZMA_MEMORY = 256 << 20


def unpacked(name: str, source: Readable, damage: Callable[[str], None]) -> Readable:
    """A stream of what `source` holds, packed by `name`. `damage` is told why it ends before its end."""
    if name == "zstd":
        return _Zstd(source, damage)
    makers: dict[str, Callable[[], Any]] = {
        "gzip": _Gzip,
        "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY),
        "lz4": lz4.frame.LZ4FrameDecompressor,
        "bzip2": bz2.BZ2Decompressor,
    }
    return _Frames(name, makers[name], source, damage)


class _Frames:
    """One frame after the other, each by a decompressor with the interface of bz2.BZ2Decompressor."""

    def __init__(self, name: str, make: Callable[[], Any], source: Readable, damage: Callable[[str], None]) -> None:
        self._name, self._make, self._source, self._damage = name, make, source, damage
        self._decoder: Any = make()
        self._fresh = False  # at the start of a frame that is not the first
        self._ended = False

    def read(self, size: int) -> bytes:
        while not self._ended:
            data = b""
            if self._decoder.eof:
                data = self._decoder.unused_data or self._source.read(CHUNK)
                if not data:
                    break
                self._decoder, self._fresh = self._make(), True
            elif self._decoder.needs_input:
                data = self._source.read(CHUNK)
                if not data and not self._fresh:
                    self._stop(f"the {self._name} stream ends before its end: the file was cut off")
                if not data:
                    break
            try:
                found = self._decoder.decompress(data, size)
            except (OSError, EOFError, ValueError, RuntimeError, lzma.LZMAError, zlib.error) as error:
                if not self._fresh:  # padding behind the last frame is none
                    self._stop(f"the {self._name} stream is damaged: {str(error)[:200]}")
                break
            if found:
                self._fresh = False
                return bytes(found)
        self._ended = True
        return b""

    def _stop(self, reason: str) -> None:
        self._ended = True
        self._damage(reason)


class _Gzip:
    """zlib with the interface of the others."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=31)
        self._rest = b""

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._rest

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, size: int) -> bytes:
        found = self._decoder.decompress(self._rest + data, size)
        self._rest = self._decoder.unconsumed_tail
        return found


class _Zstd:
    """zstd's own reader: its other interface would unpack a whole piece of input at once."""

    def __init__(self, source: Readable, damage: Callable[[str], None]) -> None:
        decoder = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        self._reader = decoder.stream_reader(source, read_size=CHUNK, read_across_frames=True)  # type: ignore[arg-type]
        self._damage = damage
        self._ended = False

    def read(self, size: int) -> bytes:
        if self._ended:
            return b""
        try:
            found = self._reader.read(min(size, 1 << 18))  # what is decoded in a call that fails is lost
        except (zstandard.ZstdError, MemoryError, OSError) as error:
            self._ended = True
            self._damage(f"the zstd stream is damaged: {str(error)[:200]}")
            return b""
        self._ended = not found
        return found
