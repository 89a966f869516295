"""Outside text for a terminal."""

from __future__ import annotations


def plain(text: str) -> str:
    """`text` without anything a terminal would obey: control characters, line breaks, direction marks."""
    return "".join(char if char.isprintable() else "�" for char in text.replace("\n", " "))
