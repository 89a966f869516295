"""Names of a crash that are hashes: of its functions, and of its addresses inside files.

satyr's duphash (sr_gdb_thread/sr_core_thread, get_duphash) is the SHA-1 of "Thread" and a line for each of the first
frames. It writes build-id and offset where it can; here there are two, so that each is comparable with itself: one of
function names, which survives a new build, and one of build-ids and offsets, which needs no symbols.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

from diagnosis.crashes.groups.repeats import cycle, merged, rotated

FRAMES = 16
_LEAST = 2
"""Frames; half of them must lie in known files. apport asks for three and four fifths, but of places without builds."""
_DEEP = 64


class Located(Protocol):
    """What is read of a frame."""

    @property
    def function(self) -> str | None: ...
    @property
    def in_app(self) -> bool | None: ...
    @property
    def build_id(self) -> str | None: ...
    @property
    def module_offset(self) -> str | None: ...
    @property
    def offset(self) -> str | None: ...


def duphash(names: Sequence[str]) -> str | None:
    """SHA-1 of normalised function names, innermost first; None when there is none."""
    return _sha1(f"  {name}" for name in names[:FRAMES]) if names else None


def address_signature(frames: Sequence[Located]) -> str | None:
    """SHA-1 of `build-id+offset` of the innermost frames, neutral to where files were mapped and to recursion depth.

    Of inlined frames only one is counted. None when there is but one frame, or when more than half lie in no file
    with a build-id: such a hash would join crashes that have little in common.
    """
    if not any(frame.build_id for frame in frames[: 2 * FRAMES]):
        return None
    places: list[str] = []
    last: Located | None = None
    for frame in frames[: _bottom(frames)]:
        inlined = last is not None and frame.offset == last.offset and frame.function != last.function
        last = frame
        if inlined and frame.offset is not None:
            continue
        known = frame.build_id and frame.module_offset
        places.append(f"{frame.build_id}+{frame.module_offset}" if known else "?")
    return address_hash(places)


def _bottom(frames: Sequence[Located]) -> int:
    """Where the start of the program begins: the entry point in the executable, called through the C library.

    Walks end at `main` where that has a name; where it has none, they must not look longer for it.
    """
    end = len(frames)
    if end and frames[-1].in_app and frames[-1].function is None:
        start = end - 1
        while start and frames[start - 1].in_app is False:
            start -= 1
        if 0 < start < end - 1:
            return start
    return end


def address_hash(places: list[str]) -> str | None:
    """The same of `build-id+offset` texts, `?` for an address outside every known file."""
    block = cycle(places) if len(places) >= _DEEP else []
    top = [f"again {place}" for place in rotated(block)] if block else merged(places)[:FRAMES]
    seen = places[:FRAMES]
    if len(seen) < _LEAST or 2 * seen.count("?") > len(seen):
        return None
    return _sha1(top)


def _sha1(lines: Iterable[str]) -> str:
    text = "\n".join(("Thread", *lines)) + "\n"
    return hashlib.sha1(text.encode("utf-8", "backslashreplace"), usedforsecurity=False).hexdigest()
