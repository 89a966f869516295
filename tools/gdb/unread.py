"""Libraries whose symbols gdb reads only when an answer needs them.

Before its first answer gdb reads, and demangles, every symbol of every library; most are of libraries that no thread
was in. Those are left out at first. When an answer has an address in one of them, or is one that gdb cannot give
without knowing all symbols, they are read and the same is asked again: the answers are those of a gdb that read all.
What lies in memory and on disk is read either way; only names wait. Debug information never waits: types are in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.modules import MappedModule, Modules
from diagnosis.crashes.unwind.walk import Walk
from tools.gdb.opened import OpenedCore

LIST = "-file-list-shared-libraries"
WAIT = "-gdb-set auto-solib-add off"

_LEAST_BYTES = 512 << 10
"""Of a library's file; a smaller one is read in less time than it takes to leave it out."""
_FRAMES = 256
"""Innermost frames of a stack that are looked at; for what the others need is read when it shows."""
_NAMES = 64
"""In one command."""
_ADDRESS = re.compile(rb"0x([0-9a-f]{4,16})")
_ANY_SYMBOL = re.compile(rb"Missing ELF symbol|static \w[^=\n]{0,200}= <optimized out>|std::error_c|error_category")
"""Static members and external variables are looked up by their names, an error's category by its vtable."""
_NO_WORD = re.compile(r"[^A-Za-z0-9/_-]")


class Unread:
    """The libraries left out of one session."""

    def __init__(self, modules: Iterable[MappedModule]) -> None:
        self._waiting = list(modules)
        self._names: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def others(self, listed: Mapping[str, Any], modules: Modules) -> list[str]:
        """The commands that read all but these, by gdb's answer to `LIST`."""
        waiting = {module.path for module in self._waiting}
        now: list[str] = []
        for item in _items(listed, "shared-libraries"):
            name, ranges = str(item.get("host-name", "")), _items(item, "ranges")
            starts = [int(str(each.get("from", "0")), 0) for each in ranges]
            module = modules.at(starts[0]) if starts else None
            (self._names if module is not None and module.path in waiting else now).append(name)
        return _commands(now)

    def needed_by(self, lines: Iterable[bytes]) -> list[str]:
        """The commands that read the rest when one of gdb's lines needs it: then none waits any more."""
        if not any(self._needs(line) for line in lines):
            return []
        self._waiting = []
        return _commands(self._names)

    def _needs(self, line: bytes) -> bool:
        if _ANY_SYMBOL.search(line):
            return True
        low, high = min(module.base for module in self._waiting), max(module.end for module in self._waiting)
        for found in _ADDRESS.finditer(line):
            address = int(found[1], 16)
            if low <= address < high and any(module.base <= address < module.end for module in self._waiting):
                return True
        return False


def unread(opened: OpenedCore, walk: Walk | None) -> Unread:
    """Libraries of size without debug information in which no thread's stack is. None where stacks are not known."""
    if walk is None or not walk.complete or any(status.tid not in walk.stacks for status in opened.core.threads):
        return Unread(())
    resolved = opened.resolved
    large = [
        module
        for module in opened.modules.all
        if not module.is_main
        and module.path in resolved.files
        and (names := resolved.debug.known.get(module.path)) is not None
        and names.symbols != "dwarf"
        and resolved.files[module.path].stat().st_size >= _LEAST_BYTES
    ]
    if not large:
        return Unread(())
    standing = _standing(opened.core, opened.modules, walk)
    return Unread(module for module in large if module.path not in standing)


def _standing(core: CoreFile, modules: Modules, walk: Walk) -> set[str]:
    addresses = {pc for status in core.threads for pc in walk.stacks[status.tid].pcs[:_FRAMES]}
    return {module.path for pc in addresses if (module := modules.at(pc)) is not None}


def _commands(names: list[str]) -> list[str]:
    """gdb takes a pattern; what is no letter or digit of a name is any character of it, and no text of the core's."""
    patterns = [_NO_WORD.sub(".", name) for name in names if name]
    return [
        '-interpreter-exec console "sharedlibrary '
        + r"\\|".join(f"^{name}$" for name in patterns[at : at + _NAMES])
        + '"'
        for at in range(0, len(patterns), _NAMES)
    ]


def _items(answer: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = answer.get(name)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
