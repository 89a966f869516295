"""Go: which of the runtime's ways to end a program was taken, told by the functions on the crashed goroutine's stack.

With GOTRACEBACK=crash the runtime ends itself by SIGABRT whatever happened (runtime, "Environment Variables"); the
signal says nothing then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from diagnosis.crashes.groups.repeats import cycle
from diagnosis.crashes.unwind.symbols import NamedAddress
from incidents.crash_frames import Frame
from incidents.models import CauseClass

_PANICS = {
    "runtime.panicmem": (CauseClass.NULL_DEREFERENCE, "invalid memory address or nil pointer dereference"),
    "runtime.panicmemAddr": (CauseClass.NULL_DEREFERENCE, "invalid memory address or nil pointer dereference"),
    "runtime.panicdivide": (CauseClass.ARITHMETIC, "integer divide by zero"),
    "runtime.panicoverflow": (CauseClass.ARITHMETIC, "integer overflow"),
    "runtime.panicfloat": (CauseClass.ARITHMETIC, "floating point error"),
    "runtime.goPanicIndex": (CauseClass.PANIC, "index out of range"),
    "runtime.goPanicIndexU": (CauseClass.PANIC, "index out of range"),
    "runtime.panicBounds": (CauseClass.PANIC, "index or slice bounds out of range"),
    "runtime.panicBounds64": (CauseClass.PANIC, "index or slice bounds out of range"),
    "runtime.panicdottypeE": (CauseClass.PANIC, "a type assertion failed"),
    "runtime.panicdottypeI": (CauseClass.PANIC, "a type assertion failed"),
    "runtime.panicnil": (CauseClass.PANIC, "panic called with nil"),
    "runtime.panicshift": (CauseClass.PANIC, "negative shift amount"),
    "runtime.chansend": (CauseClass.PANIC, "send on a closed channel"),
    "runtime.closechan": (CauseClass.PANIC, "close of a nil or closed channel"),
    "runtime.mapassign": (CauseClass.PANIC, "assignment to an entry of a nil map"),
    "runtime.mapassign_faststr": (CauseClass.PANIC, "assignment to an entry of a nil map"),
    "runtime.newstack": (CauseClass.STACK_OVERFLOW, "the goroutine's stack exceeds its limit"),
    "runtime.morestack": (CauseClass.STACK_OVERFLOW, "the goroutine's stack exceeds its limit"),
    "runtime.checkdead": (CauseClass.ABORT, "all goroutines are asleep: deadlock"),
    "runtime.mapaccess1": (CauseClass.ABORT, "concurrent map read and map write"),
}
_FATAL_TEXTS = {
    "stack overflow": CauseClass.STACK_OVERFLOW,
    "fault": CauseClass.WILD_POINTER,  # an address that no nil pointer leads to (runtime, sigpanic)
}
_FATAL = ("runtime.throw", "runtime.fatal", "runtime.fatalthrow")
_SLICE = "runtime.goPanicSlice"
_SEARCHED = 40
_RUNAWAY = 64
"""A stack that only repeats itself is one without end from this many frames on."""


@dataclass
class Goroutines:
    """`frames` are the crashed goroutine's, innermost first; `groups` are (place, count) of all goroutines.

    `panic` is the panic's value and `fatal` the text of a fatal error, as the runtime prints them; `told_at` is where
    they were read in the core's memory. `handler_context` is where the kernel saved the registers of what a fault
    interrupted: of the frame after HANDLER_FRAME. `text` is the stack as `source` shows it: delve, or Go's own tables.
    `names` are functions of other threads, by an address in each.
    """

    frames: list[Frame] = field(default_factory=list)
    count: int | None = None
    groups: list[tuple[str, int]] = field(default_factory=list)
    panic: str | None = None
    text: str = ""
    fatal: str | None = None
    names: dict[int, NamedAddress] = field(default_factory=dict)
    told_at: int | None = None
    handler_context: int | None = None
    source: Literal["delve", "tables"] = "delve"


@dataclass(frozen=True)
class GoEnd:
    """Why the runtime ended the program; `fatal` where it could not have been recovered from."""

    cause: CauseClass
    because: str
    fatal: bool


def go_end(frames: Sequence[Frame], fatal_text: str | None = None) -> GoEnd | None:
    """The way that was taken, or None when the stack does not show one; `fatal_text` is that of a fatal error."""
    if fatal_text in _FATAL_TEXTS:
        return GoEnd(_FATAL_TEXTS[fatal_text], fatal_text, True)
    names = [frame.function or "" for frame in frames[:_SEARCHED]]
    fatal = any(name in _FATAL for name in names)
    for name in names:
        if name.startswith(_SLICE):
            return GoEnd(CauseClass.PANIC, "slice bounds out of range", False)
        if name in _PANICS and (name != "runtime.mapaccess1" or fatal):
            cause, because = _PANICS[name]
            if fatal and cause is CauseClass.PANIC:
                continue  # the same function gave up for another reason, such as two writers of a map
            return GoEnd(cause, fatal_text or because, fatal or cause in (CauseClass.STACK_OVERFLOW, CauseClass.ABORT))
    if fatal:
        return GoEnd(CauseClass.ABORT, fatal_text or "a fatal error of the runtime", True)
    if "runtime.gopanic" in names:
        return GoEnd(CauseClass.PANIC, "the program called panic", False)
    if len(frames) >= _RUNAWAY and (block := cycle([frame.function or "" for frame in frames])):
        # the runtime gives up on a stack of its own, which the goroutine's does not show
        because = f"the goroutine's stack is nothing but {' | '.join(block[:4])}: it exceeds its limit"
        return GoEnd(CauseClass.STACK_OVERFLOW, because, True)
    return None
