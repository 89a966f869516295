"""Sections of an ELF file that say what is known of its names, and where the rest of it is.

Layouts: elf(5); .gnu_debuglink and .gnu_debugaltlink: gdb manual, "Separate Debug Files", and DWARF's supplementary
files as dwz(1) writes them. Every count and size is capped: the file may be hostile.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Literal

from diagnosis.crashes.elf import ElfFile, FileBytes, build_id_in

Symbols = Literal["dwarf", "symtab", "none"]
"""dwarf: functions, lines and variables; symtab: names of functions; none: exported names at most."""

SHT_NOBITS = 8
_MAX_SECTIONS = 4096
_MAX_NAMES = 1 << 20
_MAX_LINK = 4096
_CHUNK = 1 << 20
_BUILD_ID_BYTES = range(4, 65)


@dataclass(frozen=True)
class Section:
    """A section header. `offset` and `size` are bytes in the file; `type` SHT_NOBITS has none there."""

    name: str
    type: int
    offset: int
    size: int


@dataclass(frozen=True)
class KnownNames:
    """What is known of one module's names, and where from: image, debug-dir, debuginfod or none."""

    symbols: Symbols
    source: str


@dataclass(frozen=True)
class DebugLink:
    """.gnu_debuglink: a plain file name, and the CRC-32 of the whole file that is meant."""

    name: str
    crc: int


def sections_of(elf: ElfFile) -> dict[str, Section]:
    """Sections by name, the first of a name; empty when there is no usable table. At most 4,096 are read."""
    header, file = elf.header, elf.file
    layout = header.order + ("IIQQQQIIQQ" if header.bits == 64 else "IIIIIIIIII")
    size = struct.calcsize(layout)
    end = 64 if header.bits == 64 else 52
    start = file.read(0, end)
    if len(start) < end or header.shoff == 0:
        return {}
    entry, count, names_index = struct.unpack_from(header.order + "HHH", start, end - 6)
    if entry < size:
        return {}
    table = file.read(header.shoff, min(count, _MAX_SECTIONS) * entry)
    rows = [struct.unpack_from(layout, table, at) for at in range(0, len(table) - size + 1, entry)]
    if names_index >= len(rows):
        return {}
    names = file.read(rows[names_index][4], min(rows[names_index][5], _MAX_NAMES))
    found: dict[str, Section] = {}
    for row in rows:
        if row[0] < len(names):
            name = names[row[0] : row[0] + 64].partition(b"\0")[0].decode("ascii", "replace")
            found.setdefault(name, Section(name, row[1], row[4], row[5]))
    return found


def symbols_in(sections: dict[str, Section]) -> Symbols:
    """What the sections of one file hold; a stripped file's empty sections do not count."""

    def holds(*names: str) -> bool:
        return any(name in sections and sections[name].type != SHT_NOBITS for name in names)

    if holds(".debug_info", ".zdebug_info"):
        return "dwarf"
    return "symtab" if holds(".symtab") else "none"


def build_id_of(elf: ElfFile, sections: dict[str, Section]) -> str | None:
    """Build-id by the note's section, else by the program headers: dwz writes files that have none of these."""
    notes = _content(elf.file, sections, ".note.gnu.build-id")
    return build_id_in(notes, elf.header.order) or elf.build_id()


def debug_link(file: FileBytes, sections: dict[str, Section], order: str) -> DebugLink | None:
    """The separate debug file that `file` names. A name with a folder in it is none."""
    data = _content(file, sections, ".gnu_debuglink")
    name, ended, _ = data.partition(b"\0")
    at = (len(name) + 4) & ~3  # the zero byte, then up to the next multiple of four
    if not ended or not _plain(name) or len(data) < at + 4:
        return None
    return DebugLink(name.decode("ascii"), struct.unpack_from(order + "I", data, at)[0])


def alternate_build_id(file: FileBytes, sections: dict[str, Section]) -> str | None:
    """Build-id of the file that holds what several debug files share (dwz), as hexadecimal digits."""
    _, ended, build_id = _content(file, sections, ".gnu_debugaltlink").partition(b"\0")
    return build_id.hex() if ended and len(build_id) in _BUILD_ID_BYTES else None


def crc32_of(file: FileBytes) -> int:
    """CRC-32 of the whole file, as .gnu_debuglink has it. Streamed."""
    crc, at = 0, 0
    while chunk := file.read(at, _CHUNK):
        crc = zlib.crc32(chunk, crc)
        at += len(chunk)
    return crc


def _content(file: FileBytes, sections: dict[str, Section], name: str) -> bytes:
    section = sections.get(name)
    if section is None or section.type == SHT_NOBITS:
        return b""
    return file.read(section.offset, min(section.size, _MAX_LINK))


def _plain(name: bytes) -> bool:
    return 0 < len(name) <= 255 and b"/" not in name and name not in (b".", b"..") and name.decode("latin-1").isascii()
