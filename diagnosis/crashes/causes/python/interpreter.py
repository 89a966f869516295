"""The interpreter of a process: which module it is, where its state lies, and which version it is of."""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from diagnosis.crashes.causes.python.layouts import Layout, layout_of
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import PT_LOAD, ElfFile, FileBytes
from diagnosis.crashes.modules import MappedModule, Modules
from diagnosis.crashes.sections import SHT_NOBITS, sections_of
from errors import UnusableCore

_STATE, _CODE_TYPE, _VERSION = "_PyRuntime", "PyCode_Type", "Py_Version"
_NAME = re.compile(r"^(?:lib)?python3\.(?P<minor>\d{1,2})(?!\d)")
_MAX_CANDIDATES = 8
_MAX_NAMES = 32 << 20
_MAX_TABLE = 48 << 20


@dataclass(frozen=True)
class Interpreter:
    """`state` is the address of `_PyRuntime`, `code_type` of `PyCode_Type` where that is known."""

    version: str
    layout: Layout
    state: int
    code_type: int | None


def interpreter_of(core: CoreFile, modules: Modules, files: Mapping[str, Path]) -> Interpreter | str | None:
    """The process's CPython; a sentence when its stack cannot be read; None when it has none.

    `files` are verified local files by path in the core: symbols are looked for in the executable and in modules
    whose name tells of Python.
    """
    reason: str | None = None
    for module in _candidates(modules):
        named = _NAME.match(module.name)
        local = files.get(module.path)
        if local is None:
            if named and reason is None:
                reason = f"{module.name[:100]!a} is not at hand"
            continue
        found = _symbols(local, module, {_STATE, _CODE_TYPE, _VERSION})
        state = found.get(_STATE)
        if state is None:
            if named and reason is None and not module.is_main:
                reason = f"{module.name[:100]!a} has no symbol {_STATE} (Python 3.8 to 3.13 have)"
            continue
        if core.header.machine != "x86_64":
            return f"Python on {core.header.machine} is not supported (x86-64 is)"
        version = _version(core, found.get(_VERSION), named)
        if version is None:
            return f"{module.name[:100]!a} does not tell its version"
        minor, shown = version
        layout = layout_of(minor, core.memory, state)
        return layout if isinstance(layout, str) else Interpreter(shown, layout, state, found.get(_CODE_TYPE))
    return reason


def _candidates(modules: Modules) -> Iterator[MappedModule]:
    found = [module for module in modules.all if module.is_main or "python" in module.name.lower()]
    # of extensions, `_foo.cpython-311-x86_64-linux-gnu.so`, there may be hundreds
    return iter([module for module in found if ".cpython-" not in module.name][:_MAX_CANDIDATES])


def _version(core: CoreFile, at: int | None, named: re.Match[str] | None) -> tuple[int, str] | None:
    """(minor, text): by PY_VERSION_HEX in the constant `Py_Version` (since 3.11), else by the file's name."""
    value = core.memory.pointer(at) if at is not None else None
    if value is not None and value >> 24 == 3:
        return value >> 16 & 255, f"3.{value >> 16 & 255}.{value >> 8 & 255}"
    return (int(named["minor"]), f"3.{named['minor']}") if named else None


def _symbols(local: Path, module: MappedModule, wanted: Collection[str]) -> dict[str, int]:
    """Addresses in the process of the symbols of these names. Names are searched first: most programs have none."""
    try:
        with FileBytes(local) as file:
            elf = ElfFile(file)
            sections = sections_of(elf)
            bias = module.base - next((s.vaddr - s.offset for s in elf.segments if s.type == PT_LOAD), 0)
            for table, names in ((".dynsym", ".dynstr"), (".symtab", ".strtab")):
                section, text = sections.get(table), sections.get(names)
                if section is None or text is None or SHT_NOBITS in (section.type, text.type):
                    continue
                places = _places(file.read(text.offset, min(text.size, _MAX_NAMES)), wanted)
                if _STATE not in places.values():
                    continue
                rows = struct.Struct(elf.header.order + ("IBBHQQ" if elf.header.bits == 64 else "IIIBBH"))
                data = file.read(section.offset, min(section.size, _MAX_TABLE))
                value_at = 4 if elf.header.bits == 64 else 1
                return {
                    places[row[0]]: row[value_at] + bias
                    for row in rows.iter_unpack(data[: len(data) - len(data) % rows.size])
                    if row[0] in places and row[value_at]
                }
    except (UnusableCore, struct.error):
        pass
    return {}


def _places(strings: bytes, wanted: Collection[str]) -> dict[int, str]:
    """Offsets of the names; also those that are the end of a longer one, which the linker shares."""
    found: dict[int, str] = {}
    for name in wanted:
        sought = name.encode() + b"\0"
        at = strings.find(sought)
        while at >= 0 and len(found) < 1000:
            found[at] = name
            at = strings.find(sought, at + 1)
    return found
