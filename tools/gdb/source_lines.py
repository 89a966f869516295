"""Source lines that debug information names. It may name any file: only sources below given folders are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tools.gdb.resolve import in_root

_SOURCE_BYTES = 4 << 20
_SOURCE_SUFFIXES = {".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".hxx", ".inl", ".rs", ".go", ".s", ".S"}


def excerpt(file: str, line: int, roots: Sequence[Path]) -> str | None:
    """Lines around `line`, which is marked; None when there is no such source inside `roots`. Blocking."""
    if Path(file).suffix not in _SOURCE_SUFFIXES:
        return None
    for root in roots:
        found = in_root(root, file)
        if found is not None and found.stat().st_size <= _SOURCE_BYTES:
            lines = found.read_text("utf-8", "replace").splitlines()
            first = max(0, line - 8)
            shown = enumerate(lines[first : line + 7], first + 1)
            return "\n".join(f"{'=>' if at == line else '  '} {at:5} {text[:300]}" for at, text in shown)
    return None
