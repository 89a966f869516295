"""Separate debug information of the files that belong to a core, each proved before gdb sees it.

A debug file is taken by its build-id (`.build-id/ab/cdef.debug` below a debug directory), which must be the module's
own, or by the name and checksum in .gnu_debuglink. What dwz moved into a shared file is found by the build-id in
.gnu_debugaltlink. (gdb manual, "Separate Debug Files".)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diagnosis.crashes.elf import ElfFile, FileBytes
from diagnosis.crashes.sections import (
    KnownNames,
    Section,
    alternate_build_id,
    build_id_of,
    crc32_of,
    debug_link,
    sections_of,
    symbols_in,
)
from errors import UnusableCore

MAX_DEBUG_BYTES = 4 << 30
"""A debug file that is larger is not used: gdb would map it whole."""

_MAX_CRC_BYTES = 512 << 20


@dataclass
class DebugFiles:
    """`by_build_id` are the debug files and what they share; `links` are those of files without a build-id."""

    by_build_id: dict[str, Path] = field(default_factory=dict)
    links: dict[str, Path] = field(default_factory=dict)
    known: dict[str, KnownNames] = field(default_factory=dict)
    soft_errors: list[str] = field(default_factory=list)

    def find(
        self, path: str, local: Path, file: FileBytes, folders: Sequence[Path], fetched: Path | None = None
    ) -> None:
        """Find the debug file of the module at `path`, of which `local` is the opened file. Blocking.

        `folders` are debug directories, the most telling first; `fetched` is the one of them that holds downloads.
        """
        try:
            elf = ElfFile(file)
        except UnusableCore:
            return
        sections = sections_of(elf)
        own, build_id = symbols_in(sections), elf.build_id()
        self.known[path] = KnownNames(own, "image" if own != "none" else "none")
        if own == "dwarf":
            self._alternate(file, sections, folders)
            return
        if build_id is not None:
            for folder in folders:
                found = folder / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
                if self._take(path, found, build_id, None, folders, folder == fetched):
                    self.by_build_id[build_id] = found
                    return
        link = debug_link(file, sections, elf.header.order)
        for candidate in _linked(link.name, path, local, folders) if link else ():
            if link and self._take(path, candidate, build_id, link.crc, folders, False):
                if build_id is not None:
                    self.by_build_id[build_id] = candidate
                else:
                    self.links[path] = candidate
                return

    def layout(self, executable: Path | None) -> dict[str, Path]:
        """The debug directory that gdb is given: paths inside it to the files that were proved.

        gdb finds a file without a build-id by the folder of the module's file below the debug directory.
        """
        laid: dict[str, Path] = {}
        for build_id, local in self.by_build_id.items():
            laid[f".build-id/{build_id[:2]}/{build_id[2:]}.debug"] = local
        for path, local in self.links.items():
            folders = [path.rpartition("/")[0], "case", str(executable.parent) if executable else ""]
            for folder in folders:
                name = f"{folder}/{local.name}".lstrip("/")
                if ".." not in name.split("/"):
                    laid.setdefault(name, local)
        return laid

    def _take(
        self, path: str, candidate: Path, build_id: str | None, crc: int | None, folders: Sequence[Path], fetched: bool
    ) -> bool:
        """Is `candidate` the debug file of the module? With `crc` None its build-id alone decides."""
        if not candidate.is_file():
            return False
        shown = ascii(str(candidate)[:300])
        try:
            with FileBytes(candidate) as file:
                if file.size > MAX_DEBUG_BYTES:
                    self.soft_errors.append(f"{shown} is larger than a debug file that is used")
                    return False
                elf = ElfFile(file)
                sections = sections_of(elf)
                found = build_id_of(elf, sections)
                proved = found == build_id if found and build_id else crc is not None and _has_crc(file, crc)
                if not proved:
                    self.soft_errors.append(f"{shown} is the debug information of another build: not used")
                    return False
                symbols = symbols_in(sections)
                if symbols == "none":
                    return False
                self.known[path] = KnownNames(symbols, "debuginfod" if fetched else "debug-dir")
                self._alternate(file, sections, folders)
        except UnusableCore:
            self.soft_errors.append(f"{shown} is no usable debug file: not used")
            return False
        return True

    def _alternate(self, file: FileBytes, sections: dict[str, Section], folders: Sequence[Path]) -> None:
        """Find what `file` shares with other debug files; without it some of its names are missing."""
        wanted = alternate_build_id(file, sections)
        if wanted is None or wanted in self.by_build_id:
            return
        for folder in folders:
            candidate = folder / ".build-id" / wanted[:2] / f"{wanted[2:]}.debug"
            if not candidate.is_file():
                continue
            try:
                with FileBytes(candidate) as shared:
                    elf = ElfFile(shared)
                    if build_id_of(elf, sections_of(elf)) == wanted:
                        self.by_build_id[wanted] = candidate
                        return
            except UnusableCore:
                pass
        self.soft_errors.append(f"{file.path.name!a} shares names with a file that is not at hand ({wanted})")


def _linked(name: str, path: str, local: Path, folders: Sequence[Path]) -> Iterator[Path]:
    """Where gdb looks for a file of .gnu_debuglink: beside, in .debug, and below each debug directory."""
    yield local.parent / name
    yield local.parent / ".debug" / name
    inside = path.rpartition("/")[0].lstrip("/")
    if ".." not in inside.split("/"):
        for folder in folders:
            yield folder / inside / name


def _has_crc(file: FileBytes, crc: int) -> bool:
    return file.size <= _MAX_CRC_BYTES and crc32_of(file) == crc
