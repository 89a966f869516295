"""Bounded reading of ELF files that may be hostile: every offset is checked, every count is capped.

Layouts are from elf(5). Only what crash analysis needs is read: the header, program headers and notes.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from errors import UnusableCore

ET_EXEC, ET_DYN, ET_CORE = 2, 3, 4
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE = 1, 2, 3, 4
PF_X, PF_W, PF_R = 1, 2, 4
PN_XNUM = 0xFFFF
NT_GNU_BUILD_ID = 3

MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64", 21: "ppc64", 22: "s390x", 8: "mips"}

MAX_SEGMENTS = 200_000  # the kernel's default vm.max_map_count is 65,530
MAX_NOTE_BYTES = 256 << 20
MAX_NOTES = 500_000
AFTER_NOTES = 36
"""Bytes behind a PT_NOTE: Go's linker counts only its own note to it, and GNU's with the build-id comes after."""


class FileBytes:
    """Random access to a regular file by `pread`: a file that shrinks meanwhile gives short reads, never a SIGBUS."""

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises UnusableCore when it is missing, not a regular file or not readable."""
        self.path = path
        try:
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                raise UnusableCore(f"{_shown(path)} is a directory, not a file")
            if not stat.S_ISREG(mode):
                raise UnusableCore(f"{_shown(path)} is not a regular file")
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise UnusableCore(f"{_shown(path)} does not exist") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a possible file name"
            raise UnusableCore(f"{_shown(path)} cannot be read: {reason}") from None
        status = os.fstat(self._fd)
        self.size = status.st_size
        self.allocated = min(status.st_blocks * 512, status.st_size)
        self.modified = status.st_mtime

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`; fewer, or none, past the end."""
        if offset < 0 or count <= 0 or offset >= self.size:
            return b""
        count = min(count, self.size - offset)
        try:
            return os.pread(self._fd, count, offset)
        except OSError:  # an I/O error of the disk or network file system reads like a hole at the end
            return b""

    def next_data(self, offset: int) -> int:
        """The first byte at or after `offset` that is not in a hole of a sparse file; the size when there is none."""
        if offset >= self.size:  # past what the system can even be asked for, in hostile headers
            return self.size
        try:
            return os.lseek(self._fd, offset, os.SEEK_DATA)
        except OSError as error:
            return self.size if error.errno == errno.ENXIO else offset

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> FileBytes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Segment:
    """A program header. Addresses and sizes in bytes."""

    type: int
    flags: int
    offset: int
    vaddr: int
    filesz: int
    memsz: int

    @property
    def end(self) -> int:
        return self.vaddr + self.memsz

    @property
    def writable(self) -> bool:
        return bool(self.flags & PF_W)

    @property
    def executable(self) -> bool:
        return bool(self.flags & PF_X)


@dataclass(frozen=True)
class Note:
    owner: bytes
    type: int
    data: bytes
    offset: int
    """Of `data` in the file, or in the bytes that were parsed."""


@dataclass(frozen=True)
class Header:
    """The ELF header; `order` is struct's byte-order character."""

    bits: int
    order: str
    type: int
    machine: str
    entry: int
    phoff: int
    phentsize: int
    phnum: int
    shoff: int

    @property
    def word(self) -> int:
        return self.bits // 8


def parse_header(data: bytes) -> Header | None:
    """The header in the first 64 bytes of an ELF file or mapping, or None when these bytes are no ELF header."""
    if len(data) < 52 or data[:4] != b"\x7fELF" or data[4] not in (1, 2) or data[5] not in (1, 2):
        return None
    bits = 64 if data[4] == 2 else 32
    order = "<" if data[5] == 1 else ">"
    if bits == 64 and len(data) < 64:
        return None
    layout = order + ("HHIQQQIHHH" if bits == 64 else "HHIIIIIHHH")
    kind, machine, _, entry, phoff, shoff, _, _, phentsize, phnum = struct.unpack_from(layout, data, 16)
    return Header(bits, order, kind, MACHINES.get(machine, f"machine-{machine}"), entry, phoff, phentsize, phnum, shoff)


def parse_segments(header: Header, table: bytes) -> list[Segment]:
    """Program headers in `table`, the bytes at `header.phoff`; entries that are cut off are left out."""
    layout = header.order + ("IIQQQQQQ" if header.bits == 64 else "IIIIIIII")
    size = struct.calcsize(layout)
    if header.phentsize < size:
        return []
    segments = []
    for at in range(0, len(table) - size + 1, header.phentsize):
        values = struct.unpack_from(layout, table, at)
        if header.bits == 64:
            kind, flags, offset, vaddr, _, filesz, memsz, _ = values
        else:
            kind, offset, vaddr, _, filesz, memsz, flags, _ = values
        segments.append(Segment(kind, flags, offset, vaddr, filesz, memsz))
    return segments


def parse_notes(data: bytes, order: str, base: int = 0) -> Iterator[Note]:
    """Notes in `data`; stops at the first that does not fit. `base` is added to the offsets."""
    at = 0
    for _ in range(MAX_NOTES):
        if at + 12 > len(data):
            return
        name_size, data_size, kind = struct.unpack_from(order + "III", data, at)
        name_at = at + 12
        data_at = name_at + ((name_size + 3) & ~3)
        if name_size > 4096 or data_at + data_size > len(data):
            return
        yield Note(
            data[name_at : name_at + name_size].rstrip(b"\0"), kind, data[data_at : data_at + data_size], base + data_at
        )
        at = data_at + ((data_size + 3) & ~3)


def build_id_in(notes: bytes, order: str) -> str | None:
    """The GNU build-id among `notes`, as hexadecimal digits."""
    for note in parse_notes(notes, order):
        if note.owner == b"GNU" and note.type == NT_GNU_BUILD_ID and 4 <= len(note.data) <= 64:
            return note.data.hex()
    return None


class ElfFile:
    """The header and program headers of an ELF file on disk."""

    def __init__(self, file: FileBytes) -> None:
        """Read from `file`. Raises UnusableCore when it is not ELF or has no readable program headers."""
        self.file = file
        header = parse_header(file.read(0, 64))
        if header is None:
            raise UnusableCore(f"{_shown(file.path)} is no ELF file, or is cut off in its header ({file.size} bytes)")
        self.header = header
        count = header.phnum
        if count == PN_XNUM:  # elf(5): the real number is in sh_info of section 0
            at = header.shoff + (44 if header.bits == 64 else 28)
            field = file.read(at, 4)
            count = struct.unpack(header.order + "I", field)[0] if len(field) == 4 else 0
        if count > MAX_SEGMENTS:
            raise UnusableCore(
                f"{_shown(file.path)} claims {count} program headers; more than {MAX_SEGMENTS} are not read"
            )
        self.table = file.read(header.phoff, count * header.phentsize)
        self.segments = parse_segments(header, self.table)

    def build_id(self) -> str | None:
        for segment in self.segments:
            if segment.type == PT_NOTE:
                notes = self.file.read(segment.offset, min(segment.filesz, 1 << 20) + AFTER_NOTES)
                if found := build_id_in(notes, self.header.order):
                    return found
        return None


def _shown(path: Path) -> str:
    """A file name that may be hostile, fit for one line of text."""
    return ascii(str(path))[:300]
