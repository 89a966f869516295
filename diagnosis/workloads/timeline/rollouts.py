"""Rollouts with what changed between the templates, revisions of helm releases, and scalings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from diagnosis.workloads.contract import quoted
from diagnosis.workloads.events import Event
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import Object, decimal, text, when
from diagnosis.workloads.revisions import Revision
from diagnosis.workloads.rollout import changes
from diagnosis.workloads.snapshot import Snapshot
from diagnosis.workloads.timeline.entry import CLOSE, Entry, line
from diagnosis.workloads.timeline.writes import Write, writes_of
from incidents.models import Evidence, EvidenceKind, MomentKind, ObjectRef

_CHANGES_SHOWN = 3
_CHANGES_CITED = 12
_WRITTEN_BEFORE = timedelta(seconds=10)  # the controller needs its time to act upon a write
# "to 3 from 1" since Kubernetes 1.25, "from 1 to 3" since 1.27 (pkg/controller/deployment/sync.go)
_SCALED = re.compile(r"Scaled (up|down) replica set (\S+)(?: from (\d+))? to (\d+)(?: from (\d+))?")
_HISTORY = "deployment.kubernetes.io/revision-history"
_STEP = timedelta(seconds=10)
_RESTARTED = "kubectl.kubernetes.io/restartedAt"
# https://helm.sh/docs/topics/advanced/#storage-backends
_RELEASE = re.compile(r"sh\.helm\.release\.v1\.(.+)\.v(\d{1,9})")


@dataclass(frozen=True)
class Rollout:
    """That a revision was rolled out at `at`; `before` is the revision that it took the place of."""

    at: datetime
    revision: Revision
    before: Revision | None
    event: Event | None = None


def rollouts_of(snapshot: Snapshot, ref: ObjectRef) -> list[Rollout]:
    """The rollouts of a workload whose time is known, oldest first.

    A template that comes back keeps its ReplicaSet, which is old then: the time is that of its last scaling up.
    """
    found: list[Rollout] = []
    latest: datetime | None = None
    revisions = snapshot.revisions(ref)
    numbered = {number: revision for revision in revisions for number in _numbers(snapshot, revision)}
    for revision in revisions:
        at, event = revision.created_at, None
        before = numbered.get(max((number for number in numbered if number < revision.number), default=-1))
        if at is not None and revision.source is not None and len(_numbers(snapshot, revision)) > 1:
            event = _scaled_up(snapshot, ref, revision.source.name, max(at + CLOSE, latest or at))
            at = event.last if event else None
        if at is not None:
            found.append(Rollout(at, revision, before, event))
            latest = at
    return found


def _numbers(snapshot: Snapshot, revision: Revision) -> list[int]:
    """The number of a revision, and those that its template had before it came back."""
    source = revision.source
    item = snapshot.get(source.kind, source.namespace, source.name) if source else None
    earlier = text(item, "metadata", "annotations", _HISTORY).split(",")
    return [*(number for part in earlier if (number := decimal(part.strip())) is not None), revision.number]


def _scaled_up(snapshot: Snapshot, ref: ObjectRef, replica_set: str, after: datetime) -> Event | None:
    for event in snapshot.events_for(ref.kind, ref.namespace, ref.name):
        match = _SCALED.match(event.message)
        if event.last and event.last >= after and match and match[1] == "up" and match[2] == replica_set:
            return event
    return None


def rollout_entries(snapshot: Snapshot, ref: ObjectRef, item: Object) -> tuple[list[Entry], frozenset[datetime]]:
    """The rollouts of a workload, and the times of those writes of it that they tell of."""
    made, entries, told = when(item, "metadata", "creationTimestamp"), list[Entry](), set[datetime]()
    writes = writes_of(item)
    for rollout in rollouts_of(snapshot, ref):
        if rollout.before is None and made is not None and rollout.at <= made + CLOSE:
            continue  # with it the workload was created
        by = [write for write in writes if rollout.at - _WRITTEN_BEFORE <= write.time <= rollout.at + CLOSE]
        told |= {write.time for write in by}
        entries.append(_entry(snapshot, ref, item, rollout, by[-1] if by else None))
    return entries, frozenset(told)


def _entry(snapshot: Snapshot, ref: ObjectRef, item: Object, rollout: Rollout, write: Write | None) -> Entry:
    revision, before = rollout.revision, rollout.before
    lines = changes(before.template, revision.template) if before else []
    if lines:
        more = f"; and {len(lines) - _CHANGES_SHOWN} more changes" if len(lines) > _CHANGES_SHOWN else ""
        what = f": {'; '.join(lines[:_CHANGES_SHOWN])}{more}"
    elif before and _restart_of(before) != _restart_of(revision):
        what = ": a restart (kubectl rollout restart), nothing else changed"
    else:
        what = ": the templates are the same" if before else ""
    by = f" (written by {write.manager})" if write else ""
    said = f"Revision {revision.number} of {ref.kind} {ref.name} was rolled out{by}{what}"

    def cite() -> list[Evidence]:
        now, cited = snapshot.observed_at, list[Evidence]()
        source = revision.source and snapshot.get(revision.source.kind, revision.source.namespace, revision.source.name)
        if source:
            cited.append(of_object(source, "/metadata/creationTimestamp", now))
        if before is not None:
            names = f"{_name(before)} and {_name(revision)} in namespace {ref.namespace}"
            shown = "\n".join(lines[:_CHANGES_CITED]) or "no difference in the pod template"
            cited.append(Evidence.of(EvidenceKind.HISTORY, f"kubectl diff of the templates of {names}", shown, now))
        cited += [of_event(rollout.event, now)] if rollout.event else []
        cited += [of_object(item, write.pointer, now)] if write else []
        return cited

    return Entry(rollout.at, MomentKind.ROLLOUT, ref, line(said), cite)


def _name(revision: Revision) -> str:
    return f"{revision.source.kind} {revision.source.name}" if revision.source else f"revision {revision.number}"


def _restart_of(revision: Revision) -> str:
    return text(revision.template, "metadata", "annotations", _RESTARTED)


def helm_entries(snapshot: Snapshot, releases: dict[tuple[str, str], None]) -> Iterator[Entry]:
    """The revisions of helm releases, given as (namespace, name), from what helm stores of each."""
    for namespace in dict.fromkeys(namespace for namespace, _ in releases):
        for kind in ("Secret", "ConfigMap"):
            for item in snapshot.all(kind, namespace):
                match = _RELEASE.fullmatch(text(item, "metadata", "name"))
                if match is None or (namespace, match[1]) not in releases:
                    continue
                made, modified = when(item, "metadata", "creationTimestamp"), _modified(item)
                if made is None:
                    continue
                status = text(item, "metadata", "labels", "status")
                release = ObjectRef(kind="HelmRelease", namespace=namespace, name=match[1])
                state = f", it is {status} now" if status else ""
                said = f"Helm release {match[1]}: revision {match[2]} was made{state}"
                cite = partial(_labels_of, item, snapshot.observed_at)
                until = modified if status != "superseded" and modified and modified > made + CLOSE else None
                yield Entry(made, MomentKind.ROLLOUT, release, line(said), cite, until=until)


def _modified(item: Object) -> datetime | None:
    """When helm last changed the record of a revision: in seconds since 1970."""
    seconds = decimal(text(item, "metadata", "labels", "modifiedAt"))
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None and seconds < 253_402_300_799 else None


def _labels_of(item: Object, now: datetime) -> list[Evidence]:
    return [of_object(item, "/metadata/creationTimestamp", now), of_object(item, "/metadata/labels", now)]


def scaling_entries(snapshot: Snapshot, ref: ObjectRef, item: Object) -> Iterator[Entry]:
    """Scalings of a Deployment that are not steps of a rollout, as its controller tells them.

    Steps of a rollout are the first size of a ReplicaSet, what befalls one that is not of the current revision, and
    what happens while another one goes the other way.
    """
    events = [
        (event, match)
        for event in snapshot.events_for(ref.kind, ref.namespace, ref.name, text(item, "metadata", "uid"))
        if event.reason == "ScalingReplicaSet" and (match := _SCALED.match(event.message))
    ]
    rollouts = rollouts_of(snapshot, ref) if events else []
    for event, match in events:
        first, direction, name = event.first, match[1], match[2]
        current = [rollout for rollout in rollouts if first is not None and rollout.at <= first + CLOSE]
        if first is None or not current or not _is(current[-1].revision, name) or first <= current[-1].at + CLOSE:
            continue
        if any(step[2] != name and step[1] != direction and _together(event, other) for other, step in events):
            continue
        since = match[3] or match[5]
        said = f"{ref.kind} {ref.name} was scaled {direction}{f' from {since}' if since else ''} to {match[4]}"
        until = event.last if event.count > 1 and event.last != first else None
        cite = partial(_event_cited, event, snapshot.observed_at)
        yield Entry(first, MomentKind.SCALING, ref, line(said), cite, until=until, count=event.count)


def _together(one: Event, other: Event) -> bool:
    if one.first is None or one.last is None or other.first is None or other.last is None:
        return True
    return other.first - _STEP <= one.last and one.first <= other.last + _STEP


def _is(revision: Revision, name: str) -> bool:
    return revision.source is not None and revision.source.name == name


def _event_cited(event: Event, now: datetime) -> list[Evidence]:
    return [of_event(event, now)]


def autoscaled(event: Event, now: datetime, ref: ObjectRef) -> Entry | None:
    """What an autoscaler did (its event SuccessfulRescale)."""
    if event.reason != "SuccessfulRescale" or event.first is None:
        return None
    said = f"{ref.kind} {ref.name} scaled its target: {quoted(event.message, 200)}"
    until = event.last if event.count > 1 and event.last != event.first else None
    cite = partial(_event_cited, event, now)
    return Entry(event.first, MomentKind.SCALING, ref, line(said), cite, until=until, count=event.count)
