"""Which variable held a value, and from which frame it was handed in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from diagnosis.crashes.frames import normalize
from incidents.crash_report import Frame, Variable

_QUALIFIED = re.compile(r"(?:\s*(?:const|volatile|restrict|__restrict))+$")
_POINTER = re.compile(r"^(?:\([^()]*(?:\([^()]*\))?[^()]*\) ?)?(0x[0-9a-f]{1,16})\b")
_INNERMOST = 4
_DEEPEST = 16
"""Frames up which a value is followed."""


class Held(NamedTuple):
    """A variable of a frame that has the value."""

    frame: Frame
    variable: Variable
    is_argument: bool


def pointer_of(variable: Variable) -> int | None:
    """The value of a pointer, as gdb prints it; None for what is no pointer or not known."""
    found = _POINTER.match(variable.value or "")
    if found is None or (variable.type is not None and not _is_pointer(variable.type)):
        return None
    return int(found[1], 16)


def holding(frames: Sequence[Frame], value: int) -> list[Held]:
    """Pointers equal to `value` in the innermost frame whose variables are known; arguments first.

    Functions of libraries have none: then it is their caller's. An inlined frame is searched with what it is in.
    """
    for frame in frames[:_INNERMOST]:
        found = [each for each in variables_of(frame) if pointer_of(each.variable) == value]
        if found or (not frame.inlined and (frame.args or frame.locals)):
            return found
    return []


def variables_of(frame: Frame) -> list[Held]:
    """Arguments, then locals. Of an argument that was given twice, now and at entry (gdb's `x@entry`), the first."""
    found: dict[str, Held] = {}
    for variables, is_argument in ((frame.args, True), (frame.locals, False)):
        for variable in variables:
            name = variable.name.removesuffix("@entry")
            known = found.get(name)
            if known is None or _POINTER.match(known.variable.value or "") is None:
                found[name] = Held(frame, variable.model_copy(update={"name": name}), is_argument)
    return list(found.values())


def origin(frames: Sequence[Frame], held: Held) -> tuple[int, str | None]:
    """The frame that handed the value in, and in words how; the frame itself when it was a local variable there.

    A caller counts only while the callee's variable is an argument. In the caller it goes on from a variable with the
    same value (and, for null, the same type: many things are null).
    """
    value = pointer_of(held.variable)
    steps = [frame for frame in frames if frame.frame > held.frame.frame][:_DEEPEST]
    at, current = held.frame.frame, held
    told = [f"`{held.variable.name}` in {_name(held.frame)}"]
    for frame in steps:
        if not current.is_argument or value is None:
            break
        if frame.function is None or frame.function.startswith("<signal handler"):
            break
        at = frame.frame
        candidates = [
            each
            for each in variables_of(frame)
            if pointer_of(each.variable) == value and (value or _same_type(each.variable, current.variable))
        ]
        if not candidates:
            told.append(f"handed in by {_name(frame)}")
            break
        current = next((each for each in candidates if each.variable.name == current.variable.name), candidates[0])
        told.append(f"from `{current.variable.name}` in {_name(frame)}")
    return at, ", ".join(told) if len(told) > 1 else None


def integer_of(variable: Variable) -> int | None:
    found = re.fullmatch(r"-?\d{1,20}", (variable.value or "").strip())
    return int(found[0]) if found else None


def array_length(variable: Variable) -> int | None:
    """Elements of a character array."""
    found = re.fullmatch(r"(?:const |unsigned |signed )*char ?\[(\d{1,9})\]", variable.type or "")
    return int(found[1]) if found else None


def _is_pointer(kind: str) -> bool:
    kind = _QUALIFIED.sub("", kind.strip())
    return kind.endswith(("*", "&")) or "(*)" in kind


def _same_type(one: Variable, other: Variable) -> bool:
    return one.type is not None and one.type == other.type


def _name(frame: Frame) -> str:
    line = f":{frame.line}" if frame.line else ""
    return f"{normalize(frame.function or '??')}{line} (frame {frame.frame})"
