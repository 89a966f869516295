"""Names that were observed: words in texts, numbers in their notations, and what a core's stack names."""

from __future__ import annotations

import re
from collections.abc import Collection

from incidents.crash_report import CrashReport, Frame


class Stack:
    """What a crash report says about code: functions, files, lines, and the names of variables and types."""

    def __init__(self, crash: CrashReport) -> None:
        frames = [frame for thread in crash.threads for frame in thread.frames]
        functions = [item.function for item in crash.disassembly if item.function]
        functions += [frame.function for frame in frames if frame.function]
        self._functions = {form for name in functions for form in _function_forms(name)}
        self._lines = {(_base(frame.file), frame.line) for frame in frames if frame.file}
        modules = [frame.module for frame in frames if frame.module] + [item.filename for item in crash.modules]
        self._files = {file for file, _ in self._lines} | {_base(module) for module in modules}
        info = crash.crash_info
        # the C library's own words about the place: "prog: file.c:12: int f(void): Assertion `x' failed."
        self._said = " ".join(part for part in (info.assertion, info.abort_message, crash.crash_line) if part)
        self._symbols = " ".join([*functions, *(name for frame in frames for name in _variables(frame))])

    def names(self, name: str) -> bool:
        """Whether a function, variable or type of the stack has this name."""
        return holds(self._symbols, name) or holds(self._said, name)

    def fault(
        self,
        file_lines: Collection[tuple[str, int]],
        files: Collection[str],
        functions: Collection[str],
        places: Collection[str],
    ) -> str | None:
        """Which of these names the stack does not know, in a few words; None when it knows them all."""
        for file, line in file_lines:
            if (file, line) not in self._lines and f"{file}:{line}" not in self._said:
                return f"{file}:{line} is not in the stack"
        for file in files:
            if file not in self._files and not holds(self._said, file):
                return f"the file {file!r} is not in the stack"
        for name in functions:
            # the stack's names may be shortened by the claim, not the claim's by the check: Evil::add is not Cart::add
            if not self._functions.intersection(_function_forms(name)[:1]) and not self.names(name):
                return f"the function {name!r} is not in the stack"
        for name in places:
            if not self.names(name):
                return f"{name!r} is not in the stack"
        return None


def holds(text: str, word: str) -> bool:
    """Whether `word` stands in `text` as a word of its own, not inside a longer name or number.

    A unit may follow a number (256Mi); more digits, or a point and digits, may not.
    """
    number = word[-1:].isdigit()
    at = text.find(word)
    while at >= 0:
        before, after = text[max(at - 2, 0) : at], text[at + len(word) : at + len(word) + 2]
        inside = word[:1].isalnum() and (before[-1:].isalnum() or before.endswith("_"))
        longer = after[:1].isdigit() if number else (after[:1].isalnum() or after.startswith("_"))
        if number and word[0].isdigit():
            inside = inside or (before.endswith(".") and before[:1].isdigit())
            longer = longer or (after.startswith(".") and after[1:].isdigit())
        if not inside and not longer:
            return True
        at = text.find(word, at + 1)
    return False


def number_forms(number: str) -> set[str]:
    """The ways to write a number: decimal, hexadecimal, and an exit code for a signal (128 + n) or the reverse."""
    forms = {number}
    if number.lower().startswith("0x"):
        value = int(number, 16)
        return forms | {number.lower(), hex(value), str(value), f"0x{value:016x}"}
    if number.isdigit() and len(number) <= 20:
        value = int(number)
        forms.add(hex(value))
        if 0 < value <= 64:
            forms.add(str(value + 128))
        elif 128 < value <= 192:
            forms.add(str(value - 128))
    return forms


def _function_forms(name: str) -> list[str]:
    """The ways to name a function: without arguments and template parameters, with or without its scopes."""
    bare = re.sub(r"\(.*$", "", name.strip())
    bare = re.sub(r"<[^<>]*>", "", re.sub(r"<[^<>]*>", "", bare)).strip()
    parts = bare.split("::")
    return ["::".join(parts[index:]) for index in range(len(parts)) if parts[index]]


def _variables(frame: Frame) -> list[str]:
    return [part for item in [*frame.args, *frame.locals] for part in (item.name, item.type) if part]


def _base(path: str) -> str:
    return path.rsplit("/", 1)[-1]
