"""A crash's signature: equal for the same bug in every run, whatever the addresses.

After siggen (signal and normalised frames joined by ` | `) and satyr (the way into abort and the start of the thread
are dropped, recursion is merged).
"""

from __future__ import annotations

from collections.abc import Sequence

from diagnosis.crashes.frames import label, relevant
from incidents.crash_report import Frame
from incidents.models import CauseClass

_FRAMES = 5
_LIMIT = 255
_MAX_PERIOD = 16


def signature(signal: str, frames: Sequence[Frame], cause: CauseClass) -> str:
    """Such as `SIGSEGV | App::handle | main`. Frames that cannot be named are left out."""
    if cause is CauseClass.EXTERNAL_SIGNAL:
        return f"{signal} | sent from outside"  # where it was running then is chance
    names = [name for frame in relevant(frames) if (name := label(frame))]
    if cause is CauseClass.STACK_OVERFLOW and (cycle := _cycle(names)):
        return _joined([signal, "stack overflow", *cycle])
    return _joined([signal, *_merged(names)[:_FRAMES]])


def recursion(frames: Sequence[Frame]) -> list[str]:
    """Names of the functions that call each other without end, or an empty list."""
    return _cycle([name for frame in relevant(frames) if (name := label(frame))])


def _cycle(names: list[str]) -> list[str]:
    """The shortest repeating block of `names`, rotated to a fixed order.

    Which function of the block ran out of stack is chance, and so is a leaf it had called: the last third of the list
    decides, the rotation starts at the alphabetically first.
    """
    tail = names[len(names) // 3 :]
    for period in range(1, _MAX_PERIOD + 1):
        if len(tail) < 3 * period:
            return []
        if all(tail[i] == tail[i + period] for i in range(len(tail) - period)):
            block = tail[:period]
            return min(block[i:] + block[:i] for i in range(period))
    return []


def _merged(names: list[str]) -> list[str]:
    """`names` without direct and indirect repetition: a block that follows itself is kept once."""
    result: list[str] = []
    for name in names[:200]:
        result.append(name)
        for period in range(1, _MAX_PERIOD + 1):
            if len(result) >= 2 * period and result[-period:] == result[-2 * period : -period]:
                del result[-period:]
                break
    return result


def _joined(parts: list[str]) -> str:
    text = " | ".join(parts)
    return text if len(text) <= _LIMIT else text[: _LIMIT - 1] + "…"
