"""What tells aborts of a program without names apart: the reason that it gave.

A static or Rust program carries abort, raise and the way into them as nameless frames of its own. Those are the same
for each of its aborts, and would make all of them one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from diagnosis.crashes.frames import FrameLike, normalize

_ASSERTION = re.compile(r"(?:(?P<function>[^\n]{1,400}?): )?Assertion `(?P<text>[^\n]{1,400})' failed")
_LIMIT = 100
_READ = 2000


def reason_of(
    cause: str | None, message: str | None = None, exception: str | None = None, panic: str | None = None
) -> str | None:
    """A name of the reason, equal in every run, or None where a program did not end itself or gave none.

    `cause` is a cause class, `message` what glibc left, `exception` the type of an uncaught one, `panic` the
    file:line:column of a Rust panic.
    """
    message = message[:_READ] if message else None
    if cause == "panic" and panic:
        return f"panic at {panic.rsplit('/', 1)[-1].rpartition(':')[0]}"[:_LIMIT]
    if cause == "uncaught_exception" and exception:
        return f"throw {exception}"[:_LIMIT]
    if cause == "assertion" and message and (found := _ASSERTION.search(message)):
        function = normalize((found["function"] or "").rpartition(": ")[2])
        return f"assert {found['text']} in {function}"[:_LIMIT]
    if cause in ("heap_corruption", "stack_smashing") and message:
        return message.strip().strip("*: ")[:_LIMIT]
    return None


def is_nameless(frames: Sequence[FrameLike]) -> bool:
    """No frame of the program itself has a name; libraries may."""
    own = [frame for frame in frames if frame.in_app]
    return bool(own) and not any(frame.function for frame in own)
