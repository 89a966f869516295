"""A Linux ELF core: its notes, its memory and the modules that were mapped. Pure reading, no debugger."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from diagnosis.crashes import notes as n
from diagnosis.crashes.elf import ET_CORE, MAX_NOTE_BYTES, PT_LOAD, PT_NOTE, ElfFile, FileBytes, Segment, parse_notes
from diagnosis.crashes.formats import packed_with, what_is
from diagnosis.crashes.origin import OWNER, Origin, read_origin
from errors import UnusableCore


@dataclass(frozen=True)
class _Backing:
    start: int
    end: int
    file_offset: int
    file: FileBytes


@dataclass
class Memory:
    """The address space at the crash: what the core holds, and read-only pages of verified local files behind it."""

    file: FileBytes
    order: str
    word: int
    segments: list[Segment]
    """The mappings of the process. Those of a reduced core have no place in the file; `pieces` have."""
    _backing: list[_Backing] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.segments.sort(key=lambda segment: segment.vaddr)
        self._starts = [segment.vaddr for segment in self.segments]
        self.pieces, self._piece_starts = self.segments, self._starts

    def place_in(self, mappings: Sequence[Segment]) -> None:
        """Of a reduced core: what the file holds are pieces of `mappings`."""
        self.segments = sorted(mappings, key=lambda segment: segment.vaddr)
        self._starts = [segment.vaddr for segment in self.segments]

    def segment(self, address: int) -> Segment | None:
        """The mapping that holds `address`, dumped or not."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and self.segments[index].vaddr <= address < self.segments[index].end:
            return self.segments[index]
        return None

    def next_segment(self, address: int) -> Segment | None:
        """The first mapping that starts above `address`."""
        index = bisect_right(self._starts, address)
        return self.segments[index] if index < len(self.segments) else None

    def file_offset(self, address: int) -> int | None:
        """Where in the core file the byte at `address` is."""
        piece = self._piece(address)
        return piece.offset + address - piece.vaddr if piece is not None else None

    def _piece(self, address: int) -> Segment | None:
        """The part of the file that holds the byte at `address`."""
        index = bisect_right(self._piece_starts, address) - 1
        if index >= 0 and address - self.pieces[index].vaddr < self.pieces[index].filesz:
            return self.pieces[index]
        return None

    def back(self, mapped: n.MappedFile, file: FileBytes) -> None:
        """Let pages that the kernel did not dump be read from `file`, known to be the very file that was mapped."""
        self._backing.append(_Backing(mapped.start, mapped.end, mapped.file_offset, file))

    def file_behind(self, address: int) -> FileBytes | None:
        """The verified local file that is mapped at `address`, or None."""
        return next((backing.file for backing in self._backing if backing.start <= address < backing.end), None)

    def read(self, address: int, count: int) -> bytes:
        """Up to `count` bytes; fewer at the end of a mapping or of a truncated core."""
        piece = self._piece(address)
        if piece is not None:
            at = address - piece.vaddr
            return self.file.read(piece.offset + at, min(count, piece.filesz - at))
        segment = self.segment(address)
        # a page that was left out, and a changed one that is missing, must not be made up from a file
        if segment is not None and (segment.writable or address - segment.vaddr < segment.filesz):
            return b""
        for backing in self._backing:
            if backing.start <= address < backing.end:
                room = min(count, backing.end - address)
                return backing.file.read(backing.file_offset + address - backing.start, room)
        return b""

    def pointer(self, address: int) -> int | None:
        data = self.read(address, self.word)
        if len(data) < self.word:
            return None
        return int(struct.unpack(self.order + ("Q" if self.word == 8 else "I"), data)[0])

    def words(self, data: bytes) -> tuple[int, ...]:
        """`data` as words of the machine; what is left of the last is dropped."""
        count = len(data) // self.word
        return struct.unpack_from(f"{self.order}{count}{'Q' if self.word == 8 else 'I'}", data)

    def c_string(self, address: int, limit: int = 1000) -> bytes | None:
        """The zero-terminated string at `address`; None when unreadable or longer than `limit`."""
        data = self.read(address, limit + 1)
        text, end, _ = data.partition(b"\0")
        return text if end else None

    def writable(self) -> Iterator[Segment]:
        """Dumped writable memory, smallest first: what is looked for is rarely in the big heap."""
        found = [piece for piece in self.pieces if piece.writable and piece.filesz]
        return iter(sorted(found, key=lambda segment: segment.filesz))


class CoreFile:
    """An opened core. Threads are in the kernel's order: the one that crashed is first."""

    def __init__(self, path: Path) -> None:
        """Read notes and the map of memory.

        Raises UnusableCore with what is wrong: missing, empty, compressed, not ELF, not a core, notes cut off.
        """
        self.file = FileBytes(path)
        try:
            self._read(path)
        except BaseException:
            self.file.close()
            raise

    def _read(self, path: Path) -> None:
        shown = ascii(str(path))[:300]
        start = self.file.read(0, 512)
        if self.file.size == 0:
            raise UnusableCore(f"{shown} is empty (0 bytes): the core was never written; check ulimit -c and the disk")
        if name := packed_with(start):
            raise UnusableCore(f"{shown} is compressed with {name}: decompress it first")
        if start[:4] != b"\x7fELF":
            raise UnusableCore(f"{shown} is not a core dump: it is {what_is(start)}")
        elf = ElfFile(self.file)
        self.header = elf.header
        if elf.header.type != ET_CORE:
            raise UnusableCore(
                f"{shown} is {what_is(start)}, not a core dump: name the core that it left, and this as its executable"
            )
        extent = max((s.offset + s.filesz for s in elf.segments), default=0)
        self.missing_bytes = max(0, extent - self.file.size)
        if not elf.segments:
            raise UnusableCore(f"{shown} is cut off within its first headers ({self.file.size} bytes)")
        loads = [s for s in elf.segments if s.type == PT_LOAD]
        self.memory = Memory(self.file, elf.header.order, elf.header.word, loads)
        self.threads: list[n.ThreadStatus] = []
        self.signal: n.SignalInfo | None = None
        self.process: n.ProcessInfo | None = None
        self.files: list[n.MappedFile] = []
        self.files_offset = 0
        self.auxv: dict[int, int] = {}
        self.note_error: str | None = None
        self.origin: Origin | None = None  # of a core that was reduced
        self.reraised: int | None = None  # the last signal, when `signal` is the fault before it; see handled.py
        self.interrupted = False  # a handler that was called for no fault ended the program; see handled.py
        for segment in elf.segments:
            if segment.type == PT_NOTE:
                self._read_notes(segment)
        if not self.threads:
            missing = f"; {self.missing_bytes} bytes are missing" if self.missing_bytes else ""
            raise UnusableCore(f"{shown} holds no thread (NT_PRSTATUS): its notes are cut off or damaged{missing}")
        if self.origin is not None:
            self.memory.place_in(self.origin.mappings)
            self.missing_bytes += self.origin.missing_bytes
        self.files.sort(key=lambda mapped: mapped.start)
        self._file_starts = [mapped.start for mapped in self.files]

    def _read_notes(self, segment: Segment) -> None:
        header = self.header
        data = self.file.read(segment.offset, min(segment.filesz, MAX_NOTE_BYTES))
        if len(data) < segment.filesz:
            self.note_error = f"notes are cut off: {len(data)} of {segment.filesz} bytes are there"
        for note in parse_notes(data, header.order, segment.offset):
            if self.origin is None and note.owner == OWNER:
                self.origin = read_origin(note, header.order)
            if note.owner != b"CORE":
                continue
            if note.type == n.NT_PRSTATUS and len(self.threads) < n.MAX_THREADS:
                if status := n.thread_status(note, header):
                    self.threads.append(status)
            elif note.type == n.NT_SIGINFO and self.signal is None:
                self.signal = n.signal_info(note, header)
            elif note.type == n.NT_PRPSINFO and self.process is None:
                self.process = n.process_info(note, header)
            elif note.type == n.NT_FILE and not self.files:
                self.files, self.files_offset = n.mapped_files(note, header), note.offset
            elif note.type == n.NT_AUXV and not self.auxv:
                self.auxv = n.auxiliary_vector(note, header)

    @property
    def crashed(self) -> n.ThreadStatus:
        return self.threads[0]

    @property
    def signo(self) -> int:
        return self.signal.signo if self.signal else self.crashed.signal

    def mapped_at(self, address: int) -> n.MappedFile | None:
        index = bisect_right(self._file_starts, address) - 1
        if index >= 0 and address < self.files[index].end:
            return self.files[index]
        return None

    def may_hold_code(self, address: int) -> bool:
        """In an executable mapping. Cores that a debugger wrote leave such mappings of files out: NT_FILE has them."""
        segment = self.memory.segment(address)
        return segment.executable if segment is not None else self.mapped_at(address) is not None

    def main_path(self) -> str | None:
        """Path of the executable: the file that holds the program headers or the entry point (AT_PHDR, AT_ENTRY)."""
        for key in (n.AT_PHDR, n.AT_ENTRY):
            if mapped := self.mapped_at(self.auxv.get(key, 0)):
                return mapped.path
        if (name_at := self.auxv.get(n.AT_EXECFN)) and (name := self.memory.c_string(name_at, 4096)):
            return name.decode("utf-8", "surrogateescape")
        return None

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> CoreFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
