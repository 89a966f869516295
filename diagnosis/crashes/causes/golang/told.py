"""A Go program's end as evidence: who showed the stack, and where in memory its last words are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from diagnosis.crashes.causes.go import GoEnd, Goroutines
from diagnosis.crashes.core_file import Memory
from incidents.models import EvidenceKind

_SHOWN = 300


def last_words(go: Goroutines, end: GoEnd) -> str:
    """What it said, as the runtime begins it: `panic: …` or `fatal error: …`; on one line, and cut."""
    said = go.fatal if end.fatal else go.panic
    if said is None:
        return end.because
    text = " ".join("".join(char if char.isprintable() else " " for char in said).split())
    text = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return f"{'fatal error' if end.fatal else 'panic'}: {text}"


def go_evidence(go: Goroutines, memory: Memory) -> Iterator[tuple[EvidenceKind, str, str]]:
    """(kind, source, text) of each piece that says something, the stack first."""
    if go.text and go.source == "delve":
        yield EvidenceKind.GDB, "dlv core exe core: bt", go.text
    elif go.text:
        yield EvidenceKind.CORE, "core memory by the executable's .gopclntab: stack of the crashed goroutine", go.text
    if go.groups:
        places = "\n".join(f"{count} at {place}" for place, count in go.groups)
        yield EvidenceKind.GDB, "dlv core exe core: goroutines -group userloc", places
    told = go.fatal or go.panic
    if go.told_at is not None and told:
        offset = memory.file_offset(go.told_at)
        place = f"core memory at {hex(go.told_at)}, file offset {hex(offset) if offset is not None else 'unknown'}"
        yield EvidenceKind.CORE, f"{place}: {'text of the fatal error' if go.fatal else 'value of the panic'}", told


def with_words(shown: Goroutines, own: Goroutines | None) -> Goroutines:
    """What delve showed, with the last words from memory: it prints a text's header where the text is not at hand.

    The stack is delve's, unless only Go's own tables lead to the program's code, or to the fault in it.
    """
    if own is None:
        return shown
    placed = any(frame.in_app for frame in shown.frames) or not any(frame.in_app for frame in own.frames)
    placed = placed and own.handler_context is None
    return replace(
        own,
        frames=shown.frames if placed else own.frames,
        text=shown.text if placed else own.text,
        source="delve" if placed else "tables",
        count=shown.count or own.count,
        groups=shown.groups,
        panic=own.panic or shown.panic,
    )
