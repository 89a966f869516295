"""Trouble of the last hour that is over: what failed, until when, and what shows that it is well since."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from diagnosis.workloads.contract import Claim, quoted
from diagnosis.workloads.events import Event
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import condition, text, when
from diagnosis.workloads.scope import RECENT, Scope
from incidents.models import Evidence, ObjectRef, Severity

_QUIET = timedelta(minutes=2)  # an event that was seen later is not over
_LASTING = timedelta(seconds=60)
_REPEATED = 3
_AT_ONCE = {"BackOff", "Evicted", "NodeNotReady", "OOMKilling", "FailedCreate", "FailedAttachVolume", "SystemOOM"}
"""Reasons that one event of is trouble; others (a probe, a mount, the scheduler) also come with an ordinary start."""
_TOLD = 5


def recovered(scope: Scope) -> list[tuple[ObjectRef, Claim]]:
    """What was wrong in the last hour within a scope that has no trouble now; the newest first, at most a few."""
    told: dict[tuple[ObjectRef, str], tuple[datetime, Claim]] = {}
    for at, about, kind, claim in (*_containers(scope), *_events(scope)):
        key = (about, kind)
        if key not in told or told[key][0] < at:
            told[key] = (at, claim)
    newest = sorted(told.items(), key=lambda entry: (-entry[1][0].timestamp(), str(entry[0])))
    return [(about, claim) for (about, _), (_, claim) in newest[:_TOLD]]


def _containers(scope: Scope) -> Iterator[tuple[datetime, ObjectRef, str, Claim]]:
    now = scope.snapshot.observed_at
    for container in scope.containers:
        ending = scope.recovered(container)
        if ending is None or ending.finished is None:
            continue
        evidence = [
            of_object(container.pod, ending.at, now),
            of_object(container.pod, f"{container.status_at}/state/running/startedAt", now),
        ]
        since = when(container.status, "state", "running", "startedAt") or ending.finished
        said = (
            f"Container {container.name} of pod {container.pod_name} ended at {ending.finished:%H:%M:%S} "
            f"({ending.why}); it runs since {since:%H:%M:%S} and is ready"
        )
        yield ending.finished, scope.snapshot.workload_of(container.pod), "ended", _claim(said, evidence)


def _events(scope: Scope) -> Iterator[tuple[datetime, ObjectRef, str, Claim]]:
    snapshot = scope.snapshot
    now = snapshot.observed_at
    pods = {(text(pod, "metadata", "namespace"), text(pod, "metadata", "name")): pod for pod in scope.pods}
    inside = {(ref.kind, ref.namespace or "", ref.name): ref for ref in scope.workloads}
    for event in snapshot.events():
        if (
            not event.warning
            or event.last is None
            or not _QUIET <= now - event.last <= RECENT
            or not _is_trouble(event)
        ):
            continue
        pod = pods.get((event.namespace, event.name)) if event.kind == "Pod" else None
        if pod is not None:
            about = snapshot.workload_of(pod)
            if _belongs_to_its_start(event, when(condition(pod, "Ready"), "lastTransitionTime")):
                continue
        elif (event.kind, event.namespace, event.name) in inside:
            about = inside[event.kind, event.namespace, event.name]
        elif event.kind in ("Pod", "ReplicaSet", "Job") and scope.covers(event.namespace) and event.namespace:
            about = ObjectRef(kind=event.kind, namespace=event.namespace, name=event.name)  # gone since
        else:
            continue
        item = snapshot.get(about.kind, about.namespace, about.name)
        evidence = [of_event(event, now), *([of_object(item, "/status", now)] if item and item.get("status") else [])]
        state = "and it is as it should be now" if item else "and it is gone"
        times = f" ({event.count} times)" if event.count > 1 else ""
        what = f"{event.kind} {event.name}: {quoted(event.message, 200)}{times}"
        said = f"Until {event.last:%H:%M:%S}, {what}; not since, {state}"
        yield event.last, about, event.reason, _claim(said, evidence)


def _is_trouble(event: Event) -> bool:
    lasted = event.last - event.first if event.first and event.last else timedelta(0)
    return event.reason in _AT_ONCE or (event.count >= _REPEATED and lasted >= _LASTING)


def _belongs_to_its_start(event: Event, ready: datetime | None) -> bool:
    """Whether it ended when the pod became ready for the first time, within an ordinary start."""
    lasted = event.last - event.first if event.first and event.last else timedelta(0)
    return event.reason == "Unhealthy" and lasted < _LASTING and ready is not None


def _claim(said: str, evidence: list[Evidence]) -> Claim:
    return Claim(said, evidence, Severity.INFO)
