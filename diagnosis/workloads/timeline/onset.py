"""With what the trouble began, and what changed right before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from diagnosis.workloads.scope import RECENT, SETTLED
from diagnosis.workloads.snapshot import bare
from diagnosis.workloads.timeline.entry import CLOSE, Entry
from incidents.models import Moment, MomentKind, ObjectRef

GAP = 2 * SETTLED
"""Trouble that was quiet for longer was another trouble: the kubelet forgets a back-off after half of it."""

_CHANGES = (MomentKind.ROLLOUT, MomentKind.CHANGE, MomentKind.SCALING, MomentKind.ACTION)


def onset_of(entries: Sequence[Entry], suffering: frozenset[ObjectRef]) -> Entry | None:
    """Of entries in order, the one that the present trouble of the `suffering` objects began with: the first of those
    that follow each other without a longer quiet. None when nothing that has a time shows it."""
    shown = [entry for entry in entries if entry.failing and bare(entry.object) in suffering]
    begun: datetime | None = None
    for entry in sorted(shown, key=lambda entry: entry.until or entry.at, reverse=True):
        if begun is not None and (entry.until or entry.at) < begun - GAP:
            break
        begun = entry.at if begun is None else min(begun, entry.at)
    return next((entry for entry in shown if entry.at == begun), None)


def changed_before(moments: Sequence[Moment]) -> tuple[Moment, Moment] | None:
    """(the last change within the hour before the onset, the onset), or None when either is not known."""
    onset = next((moment for moment in moments if moment.onset), None)
    if onset is None:
        return None
    before = [
        moment
        for moment in moments
        if moment.kind in _CHANGES and moment.count == 1 and onset.at - RECENT <= moment.at <= onset.at + CLOSE
    ]
    last = max(before, key=lambda moment: (moment.at, -_CHANGES.index(moment.kind), moment.text), default=None)
    return (last, onset) if last is not None else None


def around_onset(moments: Sequence[Moment], limit: int) -> Sequence[Moment]:
    """At most `limit` of a timeline: those around its onset, two thirds of them before; without one, the newest."""
    at = next((index for index, moment in enumerate(moments) if moment.onset), len(moments))
    start = max(0, min(at - limit * 2 // 3, len(moments) - limit))
    return moments[start : start + limit]


def began(moments: Sequence[Moment]) -> str | None:
    """One sentence: how long after the last change the trouble was first seen. None when either is not known."""
    found = changed_before(moments)
    if found is None:
        return None
    change, onset = found
    return f"First seen {duration(onset.at - change.at)} after this: {change.text}"


def duration(span: timedelta) -> str:
    """Whole seconds, or minutes where they are more than two. A negative one, of two clocks, is none."""
    seconds = max(0, int(span.total_seconds()))
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
