"""What is not as it should be, whatever the reason. A scope without trouble is healthy; trouble no rule explains is
unknown. Symptoms live here: none of these is a cause."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, quoted
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import Object, condition, number, objects, pick, text, when
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.surroundings import surroundings
from diagnosis.workloads.trouble import Trouble
from incidents.models import ObjectRef, Severity

_DONE = ("Succeeded",)
_STUCK = timedelta(minutes=5)


def troubles(scope: Scope) -> Iterator[Trouble]:
    """Symptoms of containers, pods, workloads and what is around them, within the scope."""
    told: set[ObjectRef] = set()
    for container in scope.troubled:
        told.add(scope.snapshot.workload_of(container.pod))
        yield Trouble(scope.owner(container), _of_container(scope, container))
    for pod in scope.pods:
        if scope.superseded(pod):
            continue
        if (claim := _of_pod(scope, pod)) is not None:
            told.add(scope.snapshot.workload_of(pod))
            yield Trouble(scope.snapshot.workload_of(pod), claim)
    for ref in scope.workloads:  # of those whose pods have told, the count of ready pods says nothing more
        if ref.kind != "Pod" and ref not in told and scope.unready_workload(ref):
            yield Trouble(ref, _of_workload(scope, ref))
    yield from surroundings(scope)


def _of_container(scope: Scope, container: Container) -> Claim:
    now = scope.snapshot.observed_at
    evidence = [of_object(container.pod, container.status_at or "/status/phase", now)]
    where = f"Container {container.name} of pod {container.pod_name}"
    endings = scope.recent_endings(container)
    if endings:
        restarts = f", {container.restarts} restarts so far" if container.restarts else ""
        return Claim(f"{where} ended: {endings[0].why}{restarts}", evidence, Severity.WARNING)
    if container.waiting:
        said = f": {quoted(container.waiting_message)}" if container.waiting_message else ""
        if said:
            evidence.append(of_object(container.pod, f"{container.status_at}/state/waiting/message", now))
        return Claim(f"{where} is waiting ({container.waiting}){said}", evidence, Severity.WARNING)
    events = [event for event in scope.container_events(container) if event.warning]
    if events:
        evidence.append(of_event(events[-1], now))
        return Claim(f"{where} is not ready: {quoted(events[-1].message)}", evidence, Severity.WARNING)
    return Claim(f"{where} runs and is not ready", evidence, Severity.WARNING)


def _of_pod(scope: Scope, pod: Object) -> Claim | None:
    phase, name = text(pod, "status", "phase"), text(pod, "metadata", "name")
    now = scope.snapshot.observed_at
    if phase in _DONE:
        return None
    if text(pod, "metadata", "deletionTimestamp"):
        deadline = when(pod, "metadata", "deletionTimestamp")  # the end of its grace period
        if deadline is None or now - deadline < _STUCK:
            return None
        evidence = [of_object(pod, "/metadata/deletionTimestamp", now)]
        return Claim(f"Pod {name} should have been gone by {deadline:%Y-%m-%d %H:%M:%S} and is still there", evidence)
    if phase in ("Failed", "Unknown"):
        reason = text(pod, "status", "reason")
        return Claim(f"Pod {name} is {phase}{f' ({reason})' if reason else ''}", [of_object(pod, "/status/phase", now)])
    if phase == "Pending":
        events = [event for event in scope.pod_events(pod) if event.warning]
        if events:
            return Claim(f"Pod {name} is Pending: {quoted(events[-1].message)}", [of_event(events[-1], now)])
        return Claim(f"Pod {name} is Pending", [of_object(pod, "/status/phase", now)], Severity.WARNING)
    ready = condition(pod, "Ready")
    if ready.get("status") not in ("True", None) and not objects(pod, "status", "containerStatuses"):
        return Claim(f"Pod {name} is not ready", [of_object(pod, "/status/conditions", now)], Severity.WARNING)
    if not phase:
        return Claim(f"Pod {name} has no status", [of_object(pod, "/status", now)], Severity.WARNING)
    return None


def _of_workload(scope: Scope, ref: ObjectRef) -> Claim:
    item = scope.snapshot.get(ref.kind, ref.namespace, ref.name) or {}
    ready = number(item, "status", "readyReplicas") or number(item, "status", "numberReady") or 0
    wanted = number(item, "spec", "replicas")
    if wanted is None:
        wanted = number(item, "status", "desiredNumberScheduled")
    if ref.kind == "Job":
        said = condition(item, "Failed").get("message")
        return Claim(f"Job {ref.name} failed ({said})", [of_object(item, "/status", scope.snapshot.observed_at)])
    evidence = [of_object(item, "/status", scope.snapshot.observed_at)]
    stuck = pick(condition(item, "Progressing"), "reason") == "ProgressDeadlineExceeded"
    more = "; its rollout does not progress" if stuck else ""
    return Claim(f"{ref.kind} {ref.name} has {ready} of {wanted} pods ready{more}", evidence)
