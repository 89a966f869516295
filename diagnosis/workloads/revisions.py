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
from diagnosis.workloads.fields import Object, condition, decimal, mapping, newest, number, objects, pick, text, when
from incidents.models import ObjectRef

if TYPE_CHECKING:
    from diagnosis.workloads.snapshot import Snapshot

REVISION_ANNOTATION = "deployment.kubernetes.io/revision"
SETTLED = timedelta(minutes=10)
"""A container that has not restarted for this long counts as running."""
SEEN_RUNNING = timedelta(seconds=10)
"""A replaced pod must have run at least this long for its events to speak for its health."""
_STOPPING = timedelta(seconds=3)
_TROUBLE = {"BackOff", "Unhealthy", "Failed", "FailedMount", "Evicted", "FailedCreatePodSandBox"}


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
    """What the events of replaced pods say. The ReplicaSet's own events name the pods that it made and deleted."""
    ref = _ref(replica_set)
    made: list[str] = []
    deleted: dict[str, datetime | None] = {}
    for event in snapshot.events_for("ReplicaSet", ref.namespace, ref.name, text(replica_set, "metadata", "uid")):
        pod = event.message.rpartition(": ")[2].strip()
        if event.reason == "SuccessfulCreate":
            made.append(pod)
        elif event.reason == "SuccessfulDelete":
            deleted[pod] = event.last
    best: tuple[bool | None, str] = (None, otherwise)
    for pod in made:
        verdict = _pod_by_events(pod, snapshot.events_for("Pod", ref.namespace, pod), deleted.get(pod))
        if verdict is not None and verdict[0]:
            return verdict
        if verdict is not None and best[0] is None:
            best = verdict
    return best


def _pod_by_events(pod: str, events: list[Event], deleted: datetime | None) -> tuple[bool | None, str] | None:
    """Whether a replaced pod ran without trouble. Trouble before its last container started was got over; a failed
    readiness probe at its start or while it was being stopped is ordinary."""
    starts = [event for event in events if event.reason == "Started"]
    stops = [event.first for event in events if event.reason == "Killing" and "Stopping container" in event.message]
    started = newest(event.last for event in starts)
    stopped = min([time for time in [*stops, deleted] if time is not None], default=None)
    if started is None:
        return None
    for event in events:
        unready = event.message.lower().startswith("readiness probe")
        if event.reason in _TROUBLE and not unready and event.last is not None and event.last > started:
            return False, f"its pod {pod} had trouble: {event.reason}"
    if any(event.count > 1 for event in starts):
        return False, f"a container of its pod {pod} restarted"
    if stopped is None:
        return None
    since = started
    for event in events:
        if event.reason != "Unhealthy" or event.first is None or event.last is None:
            continue
        if event.first >= stopped - _STOPPING:
            continue
        if event.last >= stopped - _STOPPING:
            return None, f"its pod {pod} failed its readiness probe at times"
        since = max(since, event.last)
    ran = stopped - since
    if ran < SEEN_RUNNING:
        return None, f"its pod {pod} ran only {_duration(max(ran, timedelta(0)))} before it was replaced"
    return True, f"its pod {pod} ran {_duration(ran)} without a restart or a failed probe, until it was replaced"


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
