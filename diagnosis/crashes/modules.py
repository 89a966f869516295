"""Files that were mapped, with the build-id that the core itself holds of each.

The kernel dumps the first page of every mapped ELF file (coredump_filter bit 4), so the identity of a library is in
the core even when the library is not at hand. A file on this machine counts as that library only by its build-id:
the same path says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import PT_LOAD, PT_NOTE, ElfFile, build_id_in, parse_header, parse_segments
from diagnosis.crashes.notes import MappedFile

Match = Literal["exact", "mismatch", "absent", "unchecked"]
"""exact: build-ids are equal; mismatch: another file; absent: no local file; unchecked: nothing to compare by."""

MAX_MODULES = 4096
_PAGE = 4096


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
            module = _module(core, path, tuple(mappings), path == main)
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
        return self.by_path.get(mapped.path) if mapped else None


def compare(module: MappedModule, file: ElfFile) -> Match:
    """Is `file` the file that was mapped? Build-ids decide; without them equal program headers leave it unchecked."""
    if module.build_id:
        return "exact" if module.build_id == file.build_id() else "mismatch"
    if module.program_headers and module.program_headers != file.table[: len(module.program_headers)]:
        return "mismatch"
    return "unchecked"


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
            notes = core.memory.read(base + segment.vaddr - first, min(segment.filesz, 1 << 16))
            build_id = build_id_in(notes, header.order)
    return MappedModule(path, base, end, build_id, table, is_main, mappings)
