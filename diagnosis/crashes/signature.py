"""A crash's signature: equal for the same bug in every run, whatever the addresses.

After siggen (signal and normalised frames joined by ` | `, at most 255 characters) and satyr (the way into abort and
the start of the thread are dropped, recursion is merged).
"""

from __future__ import annotations

from collections.abc import Sequence

from diagnosis.crashes.frames import FrameLike
from diagnosis.crashes.groups.reason import is_nameless
from diagnosis.crashes.groups.repeats import cycle, merged
from diagnosis.crashes.groups.stack import named_frames, one_round, top_of
from diagnosis.crashes.signals import tells_place
from incidents.crash_frames import Frame, Recursion
from incidents.models import CauseClass

_LIMIT = 255
_LIMITS = ("SIGXCPU", "SIGXFSZ")


def signature(
    signal: str,
    frames: Sequence[FrameLike],
    cause: CauseClass,
    collapsed: Recursion | None = None,
    reason: str | None = None,
) -> str:
    """Such as `SIGSEGV | App::handle | main`. Frames that cannot be named are left out.

    `collapsed` is the recursion that is no longer in `frames`, because its rounds were counted instead of listed.
    `reason` (reason.py) comes first where the program's own frames have no names.
    """
    if cause is CauseClass.EXTERNAL_SIGNAL and not tells_place(signal):
        why = "limit reached" if signal in _LIMITS else "sent from outside"
        return f"{signal} | {why}"  # where it was running then is chance
    _, names = named_frames(frames)
    if cause is CauseClass.STACK_OVERFLOW and (block := round_of(frames, collapsed)):
        return _joined([signal, "stack overflow", *block])
    if reason is not None and is_nameless(frames):
        names = [reason, *names]
    return signature_of_names(signal, names)


def signature_of_names(signal: str, names: Sequence[str]) -> str:
    """The same of names that are normalised already."""
    return _joined([signal, *top_of(merged(list(names)))])


def round_of(frames: Sequence[FrameLike], collapsed: Recursion | None) -> list[str]:
    """Names of the functions that call each other without end, or an empty list."""
    if collapsed is not None and collapsed.functions:
        return one_round(collapsed.functions)
    return cycle(named_frames(frames)[1])


def recursion(frames: Sequence[Frame]) -> list[str]:
    """The same for a stack whose rounds are all listed."""
    return round_of(frames, None)


def _joined(parts: list[str]) -> str:
    text = " | ".join(parts)
    return text if len(text) <= _LIMIT else text[: _LIMIT - 1] + "…"
