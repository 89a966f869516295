"""The timeline of a scope: every source joined, ordered, and bounded around the onset."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from diagnosis.workloads.fields import text
from diagnosis.workloads.health import troubles
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.snapshot import Snapshot, bare
from diagnosis.workloads.timeline.around import alert_entries, condition_entries, node_entries
from diagnosis.workloads.timeline.endings import ending_entries, replaced_entries, unready_entries
from diagnosis.workloads.timeline.entry import Entry
from diagnosis.workloads.timeline.happenings import event_entries, node_event_entries
from diagnosis.workloads.timeline.onset import onset_of
from diagnosis.workloads.timeline.rollouts import helm_entries, rollout_entries, scaling_entries
from diagnosis.workloads.timeline.subjects import Subjects, subjects_of
from diagnosis.workloads.timeline.writes import changes_of
from incidents.models import Evidence, Moment, MomentKind, ObjectRef

MAX_MOMENTS = 60
_AFTER = 20
"""So many after the onset are kept at least, where there are as many."""
_SKEW = timedelta(minutes=2)
_FIRST = datetime(2000, 1, 1, tzinfo=UTC)  # earlier times are zeros of some clock


def timeline(
    snapshot: Snapshot, scope: Scope, suffering: Collection[ObjectRef] | None = None
) -> tuple[list[Moment], list[Evidence]]:
    """What happened to the scope's workloads and to what they lean on: moments in the order of time, and the evidence
    that they cite. The onset is that of the trouble of the `suffering` objects; by default of those that are in trouble
    by themselves.

    At most `MAX_MOMENTS`, those nearest to the onset (without one, the newest); of the others one entry at each end
    says how many they are. Entries that carry a time after the snapshot's are left out and named in its `unseen`.
    """
    placed = _placed(snapshot, list(_entries(snapshot, scope)))
    if suffering is None:
        suffering = {bare(item.object) for item in troubles(scope)}
    onset = onset_of(placed, frozenset(suffering))
    earlier, shown, later = _bounded(placed, onset)
    evidence: dict[str, Evidence] = {}
    moments = [_left_out(earlier, "earlier", evidence)] if earlier else []
    moments += [_moment(entry, evidence, entry is onset) for entry in shown]
    moments += [_left_out(later, "later", evidence)] if later else []
    return moments, list(evidence.values())


def _entries(snapshot: Snapshot, scope: Scope) -> Iterator[Entry]:
    subjects = subjects_of(scope)
    for ref, item in subjects.own.items():
        rollouts, told = rollout_entries(snapshot, ref, item)
        yield from rollouts
        yield from scaling_entries(snapshot, ref, item)
        yield from changes_of(item, snapshot.observed_at, told)
    for item in subjects.leaned_on.values():
        yield from changes_of(item, snapshot.observed_at)
    yield from helm_entries(snapshot, _releases(subjects))
    yield from replaced_entries(scope)
    signs = [*ending_entries(scope), *condition_entries(scope, subjects), *event_entries(scope, subjects)]
    yield from signs
    for entry in unready_entries(scope):
        if not any(sign.failing and sign.at <= entry.at and bare(sign.object) == entry.object for sign in signs):
            yield entry
    yield from node_entries(scope, subjects)
    yield from node_event_entries(scope, subjects)
    yield from alert_entries(scope, subjects)


def _releases(subjects: Subjects) -> dict[tuple[str, str], None]:
    """(namespace, name) of the helm releases that own a workload."""
    found: dict[tuple[str, str], None] = {}
    for ref, item in subjects.own.items():
        if release := text(item, "metadata", "annotations", "meta.helm.sh/release-name"):
            namespace = text(item, "metadata", "annotations", "meta.helm.sh/release-namespace") or ref.namespace or ""
            found[namespace, release] = None
    return found


def _placed(snapshot: Snapshot, entries: list[Entry]) -> list[Entry]:
    """The entries in order of time, without those whose time cannot be."""
    end = snapshot.observed_at + _SKEW
    late = sum(entry.at > end for entry in entries)
    if late:
        many = f"{late} entries of the timeline carry" if late > 1 else "1 entry of the timeline carries"
        snapshot.miss(f"{many} a time after the snapshot was taken: clocks differ")
    kept = [
        replace(entry, until=None) if entry.until and entry.until > end else entry
        for entry in entries
        if _FIRST <= entry.at <= end
    ]
    return sorted(kept, key=_order)


_ORDER = {kind: number for number, kind in enumerate(
    (MomentKind.CHANGE, MomentKind.ROLLOUT, MomentKind.SCALING, MomentKind.ACTION, MomentKind.NODE,
     MomentKind.CRASH, MomentKind.RESTART)
)}  # fmt: skip


def _order(entry: Entry) -> tuple[object, ...]:
    """By time; at the same second what changed stands before what came of it."""
    return entry.at, _ORDER.get(entry.kind, len(_ORDER)), entry.failing, str(entry.object), entry.text


def _bounded(placed: list[Entry], onset: Entry | None) -> tuple[list[Entry], list[Entry], list[Entry]]:
    """(left out before, shown, left out after)."""
    if len(placed) <= MAX_MOMENTS:
        return [], placed, []
    at = placed.index(onset) if onset is not None else len(placed)
    after = len(placed) - at
    room = max(MAX_MOMENTS - at, min(after, _AFTER))
    end = at + min(after, room)
    start = max(0, end - MAX_MOMENTS)
    return placed[:start], placed[start:end], placed[end:]


def _moment(entry: Entry, evidence: dict[str, Evidence], onset: bool) -> Moment:
    cited = entry.cite()
    evidence |= {item.id: item for item in cited}
    return Moment(
        at=entry.at,
        until=entry.until if entry.until and entry.until > entry.at else None,
        kind=entry.kind,
        object=entry.object,
        text=entry.text,
        count=entry.count,
        onset=onset,
        evidence_ids=list(dict.fromkeys(item.id for item in cited)),
    )


def _left_out(entries: list[Entry], which: str, evidence: dict[str, Evidence]) -> Moment:
    """What stands for entries that are not shown; it cites the first and the last of them."""
    cited = [*entries[0].cite(), *entries[-1].cite()]
    evidence |= {item.id: item for item in cited}
    return Moment(
        at=entries[0].at,
        until=entries[-1].at if entries[-1].at > entries[0].at else None,
        kind=MomentKind.EVENT,
        text=f"{len(entries)} {which} entries are left out",
        count=len(entries),
        evidence_ids=list(dict.fromkeys(item.id for item in cited)),
    )
