"""Function names of addresses, from the symbol tables of verified local files: what there is without a debugger.

Names are those of the linker, demangled; a debugger shows them better where it runs.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from diagnosis.crashes.demangle import demangle
from diagnosis.crashes.elf import PT_LOAD, ElfFile, FileBytes
from diagnosis.crashes.modules import MappedModule, Modules
from diagnosis.crashes.sections import SHT_NOBITS, sections_of
from errors import UnusableCore

_MAX_TABLE = 96 << 20
_FUNCTION_TYPES = (2, 10)  # STT_FUNC, STT_GNU_IFUNC


@dataclass(frozen=True)
class NamedAddress:
    """A function, and how many bytes into it the address lies."""

    function: str
    offset: int


def functions_at(addresses: Iterable[int], modules: Modules, files: Mapping[str, Path]) -> dict[int, NamedAddress]:
    """Names of those `addresses` that lie in a function of a module in `files` (path in the core to local file)."""
    by_module: dict[str, list[int]] = {}
    for address in sorted(set(addresses)):
        module = modules.at(address)
        if module is not None and module.path in files:
            by_module.setdefault(module.path, []).append(address)
    found: dict[int, NamedAddress] = {}
    for path, wanted in by_module.items():
        try:
            with FileBytes(files[path]) as file:
                found |= _in_file(ElfFile(file), modules.by_path[path], wanted)
        except (UnusableCore, struct.error):
            continue
    return found


def _in_file(elf: ElfFile, module: MappedModule, wanted: list[int]) -> dict[int, NamedAddress]:
    first = next((s.vaddr - s.offset for s in elf.segments if s.type == PT_LOAD), 0)
    bias = module.base - first
    targets = [address - bias for address in wanted]  # in the file's own addresses, sorted
    sections = sections_of(elf)
    best: dict[int, tuple[int, int, int]] = {}  # target: size, value, name
    strings = (0, 0)
    for table, names in ((".symtab", ".strtab"), (".dynsym", ".dynstr")):
        section, text = sections.get(table), sections.get(names)
        if section is None or text is None or section.type == SHT_NOBITS:
            continue
        strings = (text.offset, text.size)
        wide = elf.header.bits == 64
        layout = struct.Struct(elf.header.order + ("IBBHQQ" if wide else "IIIBBH"))
        data = elf.file.read(section.offset, min(section.size, _MAX_TABLE))
        for entry in layout.iter_unpack(data[: len(data) - len(data) % layout.size]):
            name, info, value, size = (
                (entry[0], entry[1], entry[4], entry[5]) if wide else (entry[0], entry[3], entry[1], entry[2])
            )
            if info & 15 not in _FUNCTION_TYPES or not size:
                continue
            low = bisect_left(targets, value)
            if low == len(targets) or targets[low] >= value + size:
                continue
            for target in targets[low : bisect_right(targets, value + size - 1)]:
                if target not in best or size < best[target][0]:
                    best[target] = (size, value, name)
        if best:
            break
    found = {}
    for address, target in zip(wanted, targets, strict=True):
        if target in best:
            _, value, name = best[target]
            raw = elf.file.read(strings[0] + name, min(512, max(0, strings[1] - name))).partition(b"\0")[0]
            if raw:
                found[address] = NamedAddress(demangle(raw.decode("utf-8", "replace")), target - value)
    return found
