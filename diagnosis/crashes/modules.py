"""Files that were mapped, with the build-id that the core itself holds of each.

The kernel dumps the first page of every mapped ELF file (coredump_filter bit 4), so the identity of a library is in
the core even when the library is not at hand. A file on this machine counts as that library only by its build-id:
the same path says nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import (
    AFTER_NOTES,
    PT_DYNAMIC,
    PT_LOAD,
    PT_NOTE,
    ElfFile,
    build_id_in,
    parse_header,
    parse_segments,
)
from diagnosis.crashes.notes import AT_ENTRY, MappedFile

Match = Literal["exact", "mismatch", "absent", "unchecked"]
"""exact: build-ids are equal; mismatch: another file; absent: no local file; unchecked: nothing to compare by."""

MAX_MODULES = 4096
_PAGE = 4096
_DYNAMIC_BYTES = 1 << 16
_DT_DEBUG = 21  # the loader writes into it


@dataclass(frozen=True)
class MappedModule:
    """A mapped ELF file. `program_headers` are its raw bytes as far as the core holds them."""

    path: str
    base: int
    end: int
    build_id: str | None
    program_headers: bytes
    is_main: bool
    mappings: tuple[MappedFile, ...]

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


class Modules:
    """The modules of one core, and which of them an address lies in."""

    def __init__(self, core: CoreFile) -> None:
        main = core.main_path()
        by_path: dict[str, list[MappedFile]] = {}
        for mapped in core.files:
            by_path.setdefault(mapped.path, []).append(mapped)
        self.all: list[MappedModule] = []
        for path, mappings in by_path.items():
            if len(self.all) >= MAX_MODULES:
                break
            module = _module(core, path, _loaded(core, mappings), path == main)
            if module is not None:
                self.all.append(module)
        self.all.sort(key=lambda module: (not module.is_main, module.base))
        self.by_path = {module.path: module for module in self.all}
        self.matches: dict[str, Match] = {}
        """By path, once local files were looked for; a module that is not in it has none."""
        self._core = core

    @property
    def main(self) -> MappedModule | None:
        return self.all[0] if self.all and self.all[0].is_main else None

    def at(self, address: int) -> MappedModule | None:
        mapped = self._core.mapped_at(address)
        module = self.by_path.get(mapped.path) if mapped else None
        return module if module is not None and module.base <= address < module.end else None


def compare(module: MappedModule, file: ElfFile) -> Match:
    """Is `file` the file that was mapped? Build-ids decide; without them equal program headers leave it unchecked."""
    if module.build_id:
        return "exact" if module.build_id == file.build_id() else "mismatch"
    if module.program_headers and module.program_headers != file.table[: len(module.program_headers)]:
        return "mismatch"
    return "unchecked"


def same_dynamic_section(core: CoreFile, module: MappedModule, file: ElfFile) -> bool | None:
    """Does the dynamic section in the core's memory come from `file`? None when a cut-off core cannot tell.

    For modules whose first page is not in the core. The loader writes to the section, so it is dumped: sizes, counts
    and offsets stay as they are in the file, addresses are moved by where the module lies (glibc, elf/dl-load.c).
    """
    segment = next((segment for segment in file.segments if segment.type == PT_DYNAMIC), None)
    first = next((segment for segment in file.segments if segment.type == PT_LOAD), None)
    if segment is None or first is None or file.header.word != core.header.word:
        return None
    moved = module.base - (first.vaddr - first.offset)
    length = min(segment.filesz, _DYNAMIC_BYTES)
    there, here = core.memory.read(segment.vaddr + moved, length), file.file.read(segment.offset, length)
    if core.memory.file_offset(segment.vaddr + moved) is None or len(there) != len(here):
        return None if core.missing_bytes else False
    layout = core.header.order + ("QQ" if core.header.word == 8 else "II")
    whole = len(here) - len(here) % struct.calcsize(layout)
    limit = 1 << (8 * core.header.word)
    pairs = zip(struct.iter_unpack(layout, there[:whole]), struct.iter_unpack(layout, here[:whole]), strict=True)
    for (tag, value), (known_tag, known) in pairs:
        if tag != known_tag or (tag != _DT_DEBUG and value not in (known, (known + moved) % limit)):
            return False
        if tag == 0:
            return True
    return True


def _loaded(core: CoreFile, mappings: list[MappedFile]) -> tuple[MappedFile, ...]:
    """The mappings that run, of a file that is mapped more than once: Rust's panics read the program's own file."""
    images: list[list[MappedFile]] = []
    for mapped in mappings:
        if not images or mapped.file_offset == 0:
            images.append([])
        images[-1].append(mapped)
    entry = core.auxv.get(AT_ENTRY, 0)

    def runs(mapped: MappedFile) -> bool:
        segment = core.memory.segment(mapped.start)
        return mapped.start <= entry < mapped.end or (segment is not None and segment.executable)

    return tuple(next((image for image in images if any(runs(mapped) for mapped in image)), images[0]))


def _module(core: CoreFile, path: str, mappings: tuple[MappedFile, ...], is_main: bool) -> MappedModule | None:
    """The module at `path`, or None for a mapped file that is no program code (a font, a database)."""
    base = mappings[0].start
    end = max(mapped.end for mapped in mappings)
    page = core.memory.read(base, _PAGE) if mappings[0].file_offset == 0 else b""
    header = parse_header(page)
    if header is None:
        runs = any((s := core.memory.segment(mapped.start)) is not None and s.executable for mapped in mappings)
        return MappedModule(path, base, end, None, b"", is_main, mappings) if runs or is_main else None
    table = page[header.phoff : header.phoff + header.phnum * header.phentsize]
    segments = parse_segments(header, table)
    first = next((segment.vaddr - segment.offset for segment in segments if segment.type == PT_LOAD), 0)
    build_id = None
    for segment in segments:
        if segment.type == PT_NOTE and build_id is None:
            notes = core.memory.read(base + segment.vaddr - first, min(segment.filesz, 1 << 16) + AFTER_NOTES)
            build_id = build_id_in(notes, header.order)
    return MappedModule(path, base, end, build_id, table, is_main, mappings)
