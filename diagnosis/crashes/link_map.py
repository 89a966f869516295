"""The dynamic linker's list of loaded objects, read from the core.

The names in it (`/lib/x86_64-linux-gnu/libstdc++.so.6`) are those that a debugger asks for; NT_FILE has the names
behind the symbolic links (`/usr/lib/x86_64-linux-gnu/libstdc++.so.6.0.30`). Structures: `r_debug` and `link_map` of
<link.h>, reached by DT_DEBUG of the executable's dynamic section; musl has the same.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

from diagnosis.crashes import notes as n
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import PT_DYNAMIC, parse_segments
from diagnosis.crashes.modules import Modules

_PT_PHDR = 6
_AT_PHNUM = 5
_DT_DEBUG = 21
_MAX_OBJECTS = 4096
_MAX_DYNAMIC = 512
_MAX_NAMESPACES = 64


def loaded_names(core: CoreFile, modules: Modules) -> dict[str, str]:
    """Names by which the dynamic linker knows modules, to the path of the module in NT_FILE. Empty for static ones."""
    memory, word = core.memory, core.header.word
    names: dict[str, str] = {}
    for current in _objects(core, _debugger_structure(core)):
        name_at, section = memory.pointer(current + word), memory.pointer(current + 2 * word)
        module = modules.at(section) if section else None
        name = memory.c_string(name_at, 4096) if name_at else None
        if module is not None and name:
            names[name.decode("utf-8", "surrogateescape")] = module.path
    return names


def link_map_places(core: CoreFile) -> Iterator[tuple[int, int]]:
    """Address ranges that a debugger reads to find the loaded objects, of every namespace (dlmopen)."""
    memory, word = core.memory, core.header.word
    seen: set[int] = set()
    structure = _debugger_structure(core)
    while structure and structure not in seen and len(seen) < _MAX_NAMESPACES:
        seen.add(structure)
        yield structure, structure + 6 * word
        for current in _objects(core, structure):
            yield current, current + 6 * word
            if name_at := memory.pointer(current + word):
                name = memory.c_string(name_at, 4096)
                yield name_at, name_at + (len(name) if name is not None else 0) + 1
        version = memory.read(structure, 4)
        extended = len(version) == 4 and struct.unpack(memory.order + "I", version)[0] >= 2
        structure = memory.pointer(structure + 5 * word) if extended else None  # r_debug_extended.r_next, glibc 2.35


def _debugger_structure(core: CoreFile) -> int | None:
    """Address of `r_debug`."""
    dynamic = _dynamic_section(core)
    return _debug_pointer(core, dynamic) if dynamic else None


def _objects(core: CoreFile, structure: int | None) -> Iterator[int]:
    """Addresses of the `link_map` nodes behind an `r_debug`."""
    word = core.header.word
    current = core.memory.pointer(structure + word) if structure else None  # r_debug: int version (padded), link_map *
    seen: set[int] = set()
    while current and current not in seen and len(seen) < _MAX_OBJECTS:
        seen.add(current)
        yield current
        current = core.memory.pointer(current + 3 * word)


def _dynamic_section(core: CoreFile) -> int | None:
    """Address of the executable's dynamic section, from its program headers in memory (AT_PHDR)."""
    at = core.auxv.get(n.AT_PHDR)
    if not at:
        return None
    size = 56 if core.header.bits == 64 else 32
    count = min(core.auxv.get(_AT_PHNUM, 0), 256)
    header = replace(core.header, phentsize=size, phnum=count)
    segments = parse_segments(header, core.memory.read(at, size * count))
    own = next((segment.vaddr for segment in segments if segment.type == _PT_PHDR), None)
    dynamic = next((segment.vaddr for segment in segments if segment.type == PT_DYNAMIC), None)
    if dynamic is None or own is None:
        return None
    return at - own + dynamic


def _debug_pointer(core: CoreFile, dynamic: int) -> int | None:
    word = core.header.word
    for index in range(_MAX_DYNAMIC):
        tag = core.memory.pointer(dynamic + 2 * word * index)
        if not tag:
            return None
        if tag == _DT_DEBUG:
            return core.memory.pointer(dynamic + 2 * word * index + word)
    return None
