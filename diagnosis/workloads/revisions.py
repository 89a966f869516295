"""Earlier revisions of a workload, and what can be said of their health from what is still there.

A revision is never called healthy because it is old. `was_ready` is True only on evidence: pods of it that are ready
and stable now, or events that show a pod of it start, run and be replaced without trouble. Otherwise it is None
("its health was not observed"), or False where its pods were seen failing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from diagnosis.workloads.events import Event
from diagnosis.workloads.fields import Object, condition, decimal, mapping, number, objects, pick, text, when
from incidents.models import ObjectRef

if TYPE_CHECKING:
    from diagnosis.workloads.snapshot import Snapshot

REVISION_ANNOTATION = "deployment.kubernetes.io/revision"
SETTLED = timedelta(minutes=10)
"""A container that has not restarted for this long counts as running."""
SEEN_RUNNING = timedelta(seconds=10)
"""A replaced pod must have run at least this long for its events to speak for its health."""
_TROUBLE = {"BackOff", "Unhealthy", "Failed", "FailedMount", "FailedScheduling", "Evicted", "FailedCreatePodSandBox"}


@dataclass(frozen=True)
class Revision:
    """One revision. `template` is its pod template (redacted); `source` the object it was read from."""

    number: int
    template: Object
    created_at: datetime | None
    was_ready: bool | None
    reason: str
    current: bool = False
    pods: list[str] = field(default_factory=list)
    source: ObjectRef | None = None


def revisions_of(snapshot: Snapshot, ref: ObjectRef) -> list[Revision]:
    """Revisions of a Deployment (from ReplicaSets), StatefulSet or DaemonSet (from ControllerRevisions), by number."""
    workload = snapshot.get(ref.kind, ref.namespace, ref.name)
    if workload is None:
        return []
    if ref.kind == "Deployment":
        found = _of_replica_sets(snapshot, workload)
    elif ref.kind in ("StatefulSet", "DaemonSet"):
        found = _of_controller_revisions(snapshot, workload, ref.kind)
    else:
        return []
    return sorted(found, key=lambda revision: revision.number)


def _of_replica_sets(snapshot: Snapshot, deployment: Object) -> list[Revision]:
    sets = [
        (value, item)
        for item in snapshot.owned_by(deployment, "ReplicaSet")
        if (value := decimal(text(item, "metadata", "annotations", REVISION_ANNOTATION))) is not None
    ]
    current = max((revision for revision, _ in sets), default=0)
    found = []
    for revision, item in sets:
        pods = snapshot.owned_by(item, "Pod")
        was_ready, reason = _health_now(pods, number(item, "status", "readyReplicas"), snapshot)
        if was_ready is None:
            was_ready, reason = _health_by_events(snapshot, item, reason)
        if was_ready is None and revision != current:
            was_ready, reason = _available_before(deployment, sets, revision) or (None, reason)
        found.append(
            Revision(
                number=revision,
                template=_without_hash(mapping(item, "spec", "template")),
                created_at=when(item, "metadata", "creationTimestamp"),
                was_ready=was_ready,
                reason=reason,
                current=revision == current,
                pods=[text(pod, "metadata", "name") for pod in pods],
                source=_ref(item),
            )
        )
    return found


def _of_controller_revisions(snapshot: Snapshot, workload: Object, kind: str) -> list[Revision]:
    """The pod's label `controller-revision-hash` is set by the controller itself, so it is part of the API."""
    items = [
        (value, item)
        for item in snapshot.owned_by(workload, "ControllerRevision")
        if (value := number(item, "revision")) is not None
    ]
    newest = max((value for value, _ in items), default=0)
    found = []
    for value, item in items:
        name = text(item, "metadata", "name")
        marks = {name, text(item, "metadata", "labels", "controller-revision-hash")} - {""}
        pods = [
            pod
            for pod in snapshot.owned_by(workload, "Pod")
            if text(pod, "metadata", "labels", "controller-revision-hash") in marks
        ]
        was_ready, reason = _health_now(pods, None, snapshot)
        found.append(
            Revision(
                number=value,
                template=mapping(item, "data", "spec", "template"),
                created_at=when(item, "metadata", "creationTimestamp"),
                was_ready=was_ready,
                reason=reason,
                current=name == text(workload, "status", "updateRevision")
                if kind == "StatefulSet"
                else value == newest,
                pods=[text(pod, "metadata", "name") for pod in pods],
                source=_ref(item),
            )
        )
    return found


def _health_now(pods: list[Object], ready_replicas: int | None, snapshot: Snapshot) -> tuple[bool | None, str]:
    """Ready is not enough: a crash-looping container without a readiness probe is ready between two crashes."""
    pods = [pod for pod in pods if not text(pod, "metadata", "deletionTimestamp")]
    steady = [text(pod, "metadata", "name") for pod in pods if _steady(pod, snapshot.observed_at)]
    if steady:
        return True, f"{len(steady)} of its pods run ready without restarts now ({steady[0]})"
    if pods:
        if all(_starting(pod, snapshot.observed_at) for pod in pods):
            return None, "its pods have only just started"
        return False, f"none of its {len(pods)} pods runs ready without restarts"
    if ready_replicas and not snapshot.looked_at("Pod"):
        return None, f"{ready_replicas} of its pods are ready now, but whether they restart was not seen"
    return None, "it has no pods now and its health was not observed"


def _steady(pod: Object, now: datetime) -> bool:
    statuses = objects(pod, "status", "containerStatuses")
    if condition(pod, "Ready").get("status") != "True" or not statuses:
        return False
    return all(pick(status, "ready") is True and not _restarted_lately(status, now) for status in statuses)


def _restarted_lately(status: Object, now: datetime) -> bool:
    if not number(status, "restartCount"):
        return False
    ended = when(status, "lastState", "terminated", "finishedAt")
    return ended is None or now - ended < SETTLED


def _starting(pod: Object, now: datetime) -> bool:
    created = when(pod, "metadata", "creationTimestamp")
    restarts = any(number(status, "restartCount") for status in objects(pod, "status", "containerStatuses"))
    return created is not None and now - created < SEEN_RUNNING and not restarts


def _health_by_events(snapshot: Snapshot, replica_set: Object, otherwise: str) -> tuple[bool | None, str]:
    """What the events of replaced pods say. The ReplicaSet's own `SuccessfulCreate` events name its pods."""
    set_ref = _ref(replica_set)
    created = [
        event.message.rpartition(": ")[2].strip()
        for event in snapshot.events_for(
            "ReplicaSet", set_ref.namespace, set_ref.name, text(replica_set, "metadata", "uid")
        )
        if event.reason == "SuccessfulCreate"
    ]
    best: tuple[bool | None, str] = (None, otherwise)
    for pod in created:
        events = snapshot.events_for("Pod", set_ref.namespace, pod)
        trouble = next((event for event in events if event.reason in _TROUBLE and event.warning), None)
        ran = _ran_for(events)
        if trouble is not None:
            best = False, f"its pod {pod} had trouble: {trouble.reason}"
        elif ran is not None and ran >= SEEN_RUNNING:
            return True, (
                f"its pod {pod} ran {_duration(ran)} without a restart or a failed probe in its events, until it was "
                "replaced"
            )
        elif ran is not None and best[0] is None:
            best = None, f"its pod {pod} ran only {_duration(ran)} before it was replaced"
    return best


def _ran_for(events: list[Event]) -> timedelta | None:
    """From the last container's start to the stop by its controller, when each container started exactly once."""
    starts = [event for event in events if event.reason == "Started"]
    stops = [event for event in events if event.reason == "Killing" and "Stopping container" in event.message]
    if not starts or not stops or any(event.count > 1 for event in starts):
        return None
    started = max((event.last for event in starts if event.last), default=None)
    stopped = min((event.first for event in stops if event.first), default=None)
    return stopped - started if started and stopped else None


def _available_before(deployment: Object, sets: list[tuple[int, Object]], revision: int) -> tuple[bool, str] | None:
    """The deployment's Available condition, when it has held since well before this revision was replaced.

    It says nothing of revisions before that one: they were gone by then.
    """
    available = condition(deployment, "Available")
    since = when(available, "lastTransitionTime")
    later = sorted((value, when(item, "metadata", "creationTimestamp")) for value, item in sets if value > revision)
    replaced = later[0][1] if later else None
    begun = next((when(item, "metadata", "creationTimestamp") for value, item in sets if value == revision), None)
    if available.get("status") != "True" or not since or not replaced or not begun or begun > replaced:
        return None
    held = replaced - max(since, begun)
    if held < SEEN_RUNNING:
        return None
    return True, (
        f"the deployment has been available without a break since {since:%Y-%m-%d %H:%M:%S}, "
        f"{_duration(held)} before this revision was replaced"
    )


def _without_hash(template: Object) -> Object:
    """The template as the Deployment had it: the controller adds a label to each ReplicaSet's."""
    metadata = mapping(template, "metadata")
    labels = {key: value for key, value in mapping(metadata, "labels").items() if key != "pod-template-hash"}
    return {**template, "metadata": {**metadata, "labels": labels}}


def _ref(item: Object) -> ObjectRef:
    kind = text(item, "kind")
    return ObjectRef(
        kind=kind, namespace=text(item, "metadata", "namespace") or None, name=text(item, "metadata", "name")
    )


def _duration(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
