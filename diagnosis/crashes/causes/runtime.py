"""`runtime` of a crash report: what was recovered, by language."""

from __future__ import annotations

import re

from diagnosis.crashes.causes.go import Goroutines, go_end
from diagnosis.crashes.causes.rust import RustPanic
from diagnosis.crashes.memory_causes import MemoryText, ThrownObject
from incidents.crash_verdicts import CxxRuntime, GlibcRuntime, GoRuntime, Runtime, RustRuntime

_HEAP = re.compile(r"free\(\)|malloc|realloc|munmap_chunk|double free|corrupted|tcache|invalid (?:pointer|size|chunk)")


def runtime_of(
    message: MemoryText | None, thrown: ThrownObject | None, rust: RustPanic | None, go: Goroutines | None
) -> Runtime | None:
    """Nothing was recovered: None."""
    found = Runtime(
        glibc=_glibc(message.text) if message else None,
        cxx=CxxRuntime(exception_type=_text(thrown.type), what=_text(thrown.what), source="memory_scan")
        if thrown
        else None,
        rust=RustRuntime(panic_message=rust.message, location=rust.location) if rust else None,
        go=_go(go) if go else None,
    )
    return found if any(part is not None for part in (found.glibc, found.cxx, found.rust, found.go)) else None


def _glibc(text: str) -> GlibcRuntime:
    smashed = "stack smashing detected" in text
    fortified = "detected ***" in text and not smashed
    assertion = "Assertion `" in text
    return GlibcRuntime(
        abort_message=text,
        heap_corruption=text if _HEAP.search(text) and not assertion and not fortified else None,
        fortify=text if fortified else None,
        stack_smashing=smashed,
    )


def _go(go: Goroutines) -> GoRuntime:
    end = go_end(go.frames)
    text = go.panic or (end.because if end else None)
    fatal = end is not None and end.fatal
    return GoRuntime(goroutines=go.count, panic=None if fatal else text, fatal=text if fatal else None)


def _text(value: str | None) -> str | None:
    return None if value is None else value.encode("utf-8", "replace").decode("utf-8")
