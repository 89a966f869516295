"""A stack as groups see it: normalised names, equal for the same crash whatever the addresses, depth and inlining.

After satyr (sr_normalize: the way into abort and the start of the thread are dropped, repetition is merged) and CASR
(libcasr, stacktrace.rs: frames of the language's own library are filtered, the first one left is the crash line).
Frames are told by function, not by line: lines and addresses move with every build.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from diagnosis.crashes.frames import FrameLike, is_allocator, is_exit, label, normalize, place, relevant_named
from diagnosis.crashes.groups.reason import is_nameless
from diagnosis.crashes.groups.repeats import cycle, merged, rotated

VERSION = 1
"""Of the rules in this package. Names and groups of two versions do not compare."""
DEPTH = 30
"""Names that are compared. Weights fall by 4 % a frame (CASR): what is deeper hardly counts."""
TOP = 5
"""Names from the crash frame that make two crashes the same without a further look (apport, exploitable: 5)."""
TOP_PLACES = 14
"""The same where the names are but places in files: the way into abort is among them."""
NEAR = 3
"""Frames by which inlining may move the crash frame."""

_READ = 400
_DEEP = 64
"""A stack of this many frames that does nothing but repeat ran out of stack."""
_LIBRARY = (
    "std::", "__gnu_cxx::", "__cxxabiv1::", "operator new", "operator delete", "runtime.",
    "core::ops::", "core::ptr::", "core::slice::", "core::str::", "core::iter::", "core::num::", "core::cell::",
    "core::fmt::", "core::hint::", "core::panic::", "core::intrinsics::",
    "alloc::vec::", "alloc::string::", "alloc::boxed::", "alloc::sync::", "alloc::rc::",
    "alloc::raw_vec::", "alloc::alloc::",
)  # fmt: skip
_ROUTINES = """
    memcpy memmove memset memchr memcmp strlen strcpy strncpy strcmp strncmp strchr strrchr strcat wcslen rawmemchr
    strdup strtol strtok strstr strnlen memmem printf vprintf vfprintf snprintf vsnprintf sprintf vsprintf puts fputs
    fwrite fread __vfprintf_internal __vsnprintf_internal __vsprintf_internal qsort bsearch"""
_STRINGS = frozenset(_ROUTINES.split())
_PLACE = "+0x"
_GENERIC = frozenset({"main", "recursion"})
_VERSIONED = re.compile(r"(?:\.so)(?:[.\d]*)$")
_BUILD = re.compile(r"(?:[-_.](?:v?\d[\d.]*|o[0-3sgz]|debug|dbg|release|stripped|static|pie|opt))+$", re.IGNORECASE)
_KINDS = {"SIGSEGV": "memory", "SIGBUS": "memory", "11": "memory", "7": "memory", "6": "SIGABRT", "4": "SIGILL"}


@dataclass(frozen=True)
class NormalStack:
    """`names` innermost first, at most DEPTH; `anchor` is the index of the crash frame.

    `kind` is that of the signal: crashes of different kinds are never of one group. `program` is the file of the crash
    frame. Both are empty where they are not known.
    """

    names: tuple[str, ...]
    anchor: int = 0
    kind: str = ""
    program: str = ""

    @cached_property
    def key(self) -> str:
        """Equal for stacks whose crash frame and its next callers are equal. The id of the group that it founds."""
        program = "" if self.specific else self.program
        parts = (f"v{VERSION}", self.kind, program, *top_of(self.names[self.anchor :]))
        return "grp_" + hashlib.sha256("\x1f".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:16]

    @cached_property
    def specific(self) -> bool:
        """Whether the names alone tell the crash: `handle` called by `main` is in every program."""
        return len(self.names) - sum(name in _GENERIC for name in self.names) >= 2

    def may_be(self, other: NormalStack) -> bool:
        """False when the two are of different programs, and one has too few names to be known by them."""
        return (
            self.program == other.program or not (self.program and other.program) or (self.specific and other.specific)
        )

    @property
    def crash_frame(self) -> str:
        return self.names[self.anchor]

    @property
    def near(self) -> tuple[str, ...]:
        """Names in which another build of the same program may have its crash frame."""
        return self.names[: self.anchor + NEAR + 1]


def normal_stack(
    frames: Sequence[FrameLike],
    *,
    signal: str | None = None,
    program: str | None = None,
    overflow: bool = False,
    round_of: Sequence[str] = (),
    reason: str | None = None,
) -> NormalStack | None:
    """The normalised stack of `frames`, innermost first; None when no frame can be named.

    `signal` is a name or a number, `program` a path, used where the crash frame has no module. `overflow` tells that
    the stack ran out; `round_of` names the functions of one round of a recursion that was collapsed before.
    `reason` is why the program ended itself (see reason.py), the crash frame where its own frames have no names.
    """
    kept, names = named_frames(frames)
    if not kept:
        return None
    if reason is not None and is_nameless(frames):
        compact = merged(names)[: DEPTH - 1]
        return NormalStack((reason, *compact), 0, _kind(signal), _program(kept[0], program))
    if overflow or len(frames) >= _DEEP:
        block = one_round(round_of) if overflow and round_of else cycle(names)
        if block:
            return NormalStack(("recursion", *block[:DEPTH]), 0, _kind(signal), _program(kept[-1], program))
    anchor = _anchor(kept, names)
    crash = kept[anchor]
    compact = merged(names)[:DEPTH]
    at = compact.index(names[anchor]) if names[anchor] in compact else 0
    return NormalStack(tuple(compact), at, _kind(signal), _program(crash, program))


def top_of(names: Sequence[str]) -> Sequence[str]:
    """The names that make two crashes the same without a further look."""
    places = sum(_PLACE in name for name in names[:TOP])
    return names[: TOP_PLACES if places >= TOP - 1 else TOP]


def outside(program: str | None, signal: str | None) -> NormalStack:
    """The stack of a signal that another process sent: where the program was then is chance."""
    return NormalStack(("sent from outside",), 0, _kind(signal), (program or "")[:4096].rsplit("/", 1)[-1])


def one_round(functions: Sequence[str]) -> list[str]:
    """Normalised names of one round of a recursion, from a fixed start and without a repetition inside."""
    names = [normalize(name) for name in functions[:DEPTH]]
    names = [name for name in names if not name.startswith(_LIBRARY)] or names
    return cycle(names * 4) or rotated(names)


def named_frames(frames: Sequence[FrameLike]) -> tuple[list[FrameLike], list[str]]:
    """The frames that say where it happened, and their names.

    Standard library code that was compiled into the program is left out: whether it is a frame depends on inlining.
    """
    frames = frames[:_READ]
    pairs = [(frame, told) for frame, name in relevant_named(frames) if (told := name or place(frame))]
    own = [pair for pair in pairs if not (pair[0].in_app is not False and pair[1].startswith(_LIBRARY))]
    pairs = own or pairs or [(frame, name) for frame in frames if (name := label(frame))]
    return [frame for frame, _ in pairs], [name for _, name in pairs]


def _anchor(frames: Sequence[FrameLike], names: Sequence[str]) -> int:
    """Index of the crash frame: the first of the program itself, else the first that is no general library routine."""
    for index, frame in enumerate(frames):
        if frame.in_app and not names[index].startswith(_LIBRARY):
            return index
    for index, name in enumerate(names):
        if name not in _STRINGS and not name.startswith(_LIBRARY) and not is_allocator(name) and not is_exit(name):
            return index
    return 0


def _kind(signal: str | None) -> str:
    """Signals that the same bug may raise are of one kind."""
    return _KINDS.get(signal, signal)[:16] if signal else ""


def _program(frame: FrameLike, program: str | None) -> str:
    """The file's name without what differs between releases and builds of it."""
    path = (frame.module or program or "")[:4096].removesuffix(" (deleted)")
    name = _VERSIONED.sub(".so", path.rsplit("/", 1)[-1])[:80]
    return _BUILD.sub("", name) or name
