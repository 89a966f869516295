"""Records of gdb's machine interface as dictionaries (gdb manual, "GDB/MI Output Syntax").

pygdbmi's parser takes half a second for the stacks of two hundred threads, which is as long as gdb itself takes for
them, and does not end on a list that is cut off. The tests hold this one against it.
"""

from __future__ import annotations

import re
from typing import Any

_RECORD = re.compile(r"\d*\^([a-z-]+)(?:,|$)")
_RESULT = re.compile(r',?(?:([\w-]+)=)?(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"|([\[{]))|([\]}])')
"""A string, or the begin of a list or tuple, with its name if it has one; or the end of a list or tuple."""
_ESCAPE = re.compile(r"\\(?:([0-7]{3}(?:\\[0-7]{3})*)|(.))")
_MEANT = {"a": "\a", "b": "\b", "e": "\033", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def result_record(line: str) -> tuple[str, dict[str, Any]]:
    """Class and results of one `^` record. Names inside lists are left out. Raises ValueError."""
    found = _RECORD.match(line)
    if found is None:
        raise ValueError("no result record")
    return found[1], _results(line, found.end())


def stream_text(line: str) -> str:
    """Text of a console, target or log record; empty when it is none."""
    return _unescaped(line[2:-1]) if len(line) > 2 and line[0] in "~@&" and line[1] == line[-1] == '"' else ""


def _results(line: str, end: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    into: dict[str, Any] | list[Any] = results
    outer: list[dict[str, Any] | list[Any]] = []
    for item in _RESULT.finditer(line, end):
        if item.start() != end:
            raise ValueError(f"not understood at {end}")
        end = item.end()
        name, text, opened, closed = item.groups()
        if closed:
            if not outer or (closed == "]") != isinstance(into, list):
                raise ValueError(f"closed at {end} and not opened")
            into = outer.pop()
            continue
        value: Any = _unescaped(text) if text is not None else {} if opened == "{" else []
        if isinstance(into, list):
            into.append(value)
        elif name is None:
            raise ValueError(f"no name at {end}")
        else:
            into[name] = value
        if opened:
            outer.append(into)
            into = value
    if outer or end != len(line):
        raise ValueError(f"cut off at {end}")
    return results


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_meant, text) if "\\" in text else text


def _meant(escape: re.Match[str]) -> str:
    octal, char = escape.groups()
    if octal is None:
        return _MEANT.get(char, char)
    try:  # bytes: several may be one character
        return bytes(int(part, 8) for part in octal.split("\\")).decode()
    except ValueError:
        return escape[0]
