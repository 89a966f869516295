"""Kubernetes events about the subjects: what is routine is left out, what says the same is one entry, counted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial

from diagnosis.workloads.contract import quoted
from diagnosis.workloads.events import Event
from diagnosis.workloads.evidence import of_event
from diagnosis.workloads.fields import newest, text, when
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.snapshot import ref_of
from diagnosis.workloads.templates import masked
from diagnosis.workloads.timeline.entry import BOOT, CLOSE, Entry, line, named
from diagnosis.workloads.timeline.rollouts import autoscaled
from diagnosis.workloads.timeline.subjects import Subjects, gone_pods
from incidents.models import Evidence, MomentKind, ObjectRef

_ROUTINE = frozenset(
    {
        "Scheduled", "Pulling", "Pulled", "Created", "Started", "SuccessfulCreate", "SuccessfulDelete",
        "SuccessfulAttachVolume", "SuccessfulMountVolume", "ExternalProvisioning", "Provisioning",
        "ProvisioningSucceeded", "WaitForFirstConsumer", "ScalingReplicaSet", "Completed", "SawCompletedJob",
        "RegisteredNode", "NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID",
        "NodeAllocatableEnforced", "LeaderElection", "NoPods", "AddedInterface", "Synced", "Sync",
    }
)  # fmt: skip
"""Reasons of Normal events that tell of nothing but the ordinary course, or are told by another source."""
_OF_A_START = timedelta(seconds=60)
"""Probes that fail so soon after a container started, and no longer, belong to its start."""
_BEFORE_A_START = frozenset({"FailedScheduling", "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"})
"""Of a pod that started afterwards, these were got over."""
_OF_NAME = re.compile(r"…(?:-[a-z0-9]{5}\b|-[0-9]+\b)")  # pods that are named after what makes them
_CITED = 2


def event_entries(scope: Scope, subjects: Subjects) -> Iterator[Entry]:
    """Entries from the events of a scope's subjects."""
    snapshot, now = scope.snapshot, scope.snapshot.observed_at
    alike: dict[tuple[ObjectRef, str, str], list[tuple[Event, bool]]] = {}

    def add(about: ObjectRef, event: Event, shows_trouble: bool) -> None:
        if event.first is None or _routine(event):
            return
        place = about.model_copy(update={"container": event.container}) if event.container else about
        said = masked(_OF_NAME.sub("…", event.message.replace(event.name, "…")) if event.name else event.message)
        bad = event.warning or event.reason == "Killing"  # what is left of the latter are kills by a probe
        alike.setdefault((place, event.reason, said), []).append((event, shows_trouble and bad))

    of_pods = [(workload, scope.pod_events(pod)) for workload, pod in subjects.pods]
    for workload, events in (*of_pods, *gone_pods(snapshot, subjects)):
        started = [event for event in events if event.reason == "Started" and event.first is not None]
        for event in events:
            add(workload, event, not _of_the_start(event, started))
    for workload, item in (*subjects.own.items(), *subjects.made):
        ref = ref_of(item)
        if ref.kind == "Pod":
            continue
        for event in snapshot.events_for(ref.kind, ref.namespace, ref.name, text(item, "metadata", "uid")):
            add(workload, event, True)
    for ref, item in subjects.leaned_on.items():
        for event in snapshot.events_for(ref.kind, ref.namespace, ref.name, text(item, "metadata", "uid")):
            if (entry := autoscaled(event, now, ref)) is not None:
                yield entry
            else:
                add(ref, event, False)
    for (place, reason, _), found in alike.items():
        yield _entry(place, reason, found, now, MomentKind.EVENT)


def node_event_entries(scope: Scope, subjects: Subjects) -> Iterator[Entry]:
    """Entries from the events of nodes: they lie in `default` or carry no namespace, and their uid is the name."""
    alike: dict[tuple[ObjectRef, str, str], list[tuple[Event, bool]]] = {}
    for node in subjects.nodes:
        ref, made = ref_of(node), when(node, "metadata", "creationTimestamp")
        for namespace in ("default", ""):
            for event in scope.snapshot.events_for("Node", namespace, ref.name):
                boot = made is not None and event.last is not None and event.last - made <= BOOT
                if event.first is not None and not boot and not _routine(event):
                    alike.setdefault((ref, event.reason, masked(event.message)), []).append((event, False))
    for (place, reason, _), found in alike.items():
        yield _entry(place, reason, found, scope.snapshot.observed_at, MomentKind.NODE)


def _routine(event: Event) -> bool:
    if event.warning:
        return False
    return event.reason in _ROUTINE or (event.reason == "Killing" and "probe" not in event.message)


def _of_the_start(event: Event, started: list[Event]) -> bool:
    """Whether what an event warns of belongs to the ordinary start of its pod, or was over when it started."""
    if event.first is None or event.last is None:
        return False
    if event.reason in _BEFORE_A_START:
        return any(start.first is not None and start.first >= event.last - CLOSE for start in started)
    unready = event.reason == "Unhealthy" and not event.message.startswith("Liveness")
    if not unready or event.last - event.first >= _OF_A_START:
        return False
    begun = [start.first for start in started if start.container == event.container and start.first is not None]
    return any(timedelta(0) <= event.last - time <= _OF_A_START for time in begun)


def _entry(place: ObjectRef, reason: str, found: list[tuple[Event, bool]], now: datetime, kind: MomentKind) -> Entry:
    events = sorted((event for event, _ in found), key=lambda event: (event.first or now, event.name, event.message))
    first, last = events[0], max(events, key=lambda event: (event.last or now, event.name))
    names = list(dict.fromkeys(event.name for event in events))
    who = f"{last.kind} {last.name}" if len(names) == 1 else f"{len(names)} {last.kind}s ({named(names)})"
    inside = f" container {last.container}" if last.container else ""
    said = f"{who}{inside}: {reason or 'event'} {quoted(last.message, 200)}"
    end = newest(event.last for event in events)
    at = first.first or now
    return Entry(
        at,
        kind,
        place,
        line(said),
        partial(_cited, [last] if first is last else [first, last][:_CITED], now),
        until=end if end and end > at else None,
        count=sum(event.count for event in events),
        failing=any(failing for _, failing in found),
    )


def _cited(events: list[Event], now: datetime) -> list[Evidence]:
    return [of_event(event, now) for event in events]
