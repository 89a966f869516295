"""What a Go program said when it ended: the value of its panic, or the text of a fatal error, from memory."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import islice, pairwise

from diagnosis.crashes.causes.golang.descriptors import Goroutine
from diagnosis.crashes.causes.golang.program import Program
from diagnosis.crashes.causes.golang.stack import Physical
from diagnosis.crashes.causes.golang.values import Value, text_at, value_of

_MAX_PANICS = 8
_ARGUMENT_WORDS = (0, 1)
"""Where `_panic.arg` is: Go 1.22 to 1.25 have a word before it, as older ones do."""
_FATAL = ("runtime.throw", "runtime.fatal")
_MAX_FATAL, _MAX_FRAME = 4, 4096
_MAX_TEXT = 300
_USED_WORDS = 4
"""Of the closure: `fatal`'s uses the innermost panic, too."""


def panic_values(program: Program, goroutine: Goroutine) -> list[Value]:
    """Values of the panics of `goroutine`, the first one first; empty when there are none, or none can be read.

    Before it prints them the runtime puts the texts of errors and Stringers in their place (runtime,
    `preprintpanics`), so that what is found is what it printed. A panic's record is on the goroutine's own stack.
    """
    types = program.layout.types
    if types is None:
        return []
    for words in _ARGUMENT_WORDS:
        found: list[Value] = []
        at = goroutine.panic
        seen: set[int] = set()
        while goroutine.holds(at) and at % 8 == 0 and at not in seen and len(found) < _MAX_PANICS:
            seen.add(at)
            record = program.read(at + 8 * words, 24)
            if len(record) < 24:
                break
            kind, data, before = struct.unpack("<3Q", record)
            value = value_of(program.read, types, kind, data)
            if value is None:
                break
            found.append(value)
            at = before
        if found:
            return found[::-1]
    return []


def fatal_text(program: Program, frames: Sequence[Physical]) -> Value | None:
    """The text with which the runtime gave up, None when the stack does not show it.

    `throw` and `fatal` hand their text to a closure on their own frame: it begins with the address of its code, the
    function that the linker calls `runtime.throw.func1`; what it uses follows, the two words of the string among it.
    """
    named = ((frame, frame.function.name) for frame in frames if frame.function is not None)
    for frame, name in islice((each for each in named if each[1] in _FATAL), _MAX_FATAL):
        if frame.end - frame.sp > _MAX_FRAME:
            continue
        data = program.read(frame.sp, frame.end - frame.sp)
        words = struct.unpack(f"<{len(data) // 8}Q", data[: len(data) // 8 * 8])
        for index, code in enumerate(words):
            function = program.function(code)
            if function is None or program.entry(function) != code or not function.name.startswith(f"{name}.func"):
                continue
            used = words[index + 1 : index + 1 + _USED_WORDS]
            for address, length in pairwise(used):
                if 0 < length <= _MAX_TEXT and (text := text_at(program.read, address, length)):
                    return Value("string", text, address)
    return None
