"""Pods that the kubelet evicted: the node ran short, or the pod used more storage than it may."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.events import Event
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import Object, condition, newest, objects, text, when
from diagnosis.workloads.scope import RECENT, Scope
from incidents.models import CauseClass, Fact

NAME = "evicted"
READS = ("Pod",)
RULED_OUT = "eviction: no pod was evicted"
CAUSES = {
    CauseClass.EVICTED: Documented(
        "The kubelet evicted the pod: the node ran short of something, or the pod used more storage than it may.",
        "The pod's status reason Evicted with the kubelet's message, and the node's pressure conditions.",
        "Resource requests from what was observed, where the message names the resource; a node that is "
        "full needs a person.",
    ),
}

_REASONS = ("Evicted", "Preempting", "Preempted")
_RESOURCE = re.compile(r"low on resource: ([\w-]+)", re.IGNORECASE)
# pkg/kubelet/eviction/helpers.go
_VOLUME = re.compile(
    r"emptydir volume \"(?P<volume>[^\"]{1,253})\" exceeds the limit \"(?P<limit>[^\"]{1,40})\"", re.IGNORECASE
)
_CONTAINER = re.compile(
    r"container (?P<container>\S{1,253}) exceeded its local ephemeral storage limit \"(?P<limit>[^\"]{1,40})\"",
    re.IGNORECASE,
)
_POD = re.compile(
    r"ephemeral local storage usage exceeds the total limit of containers (?P<limit>\d[\w.]{0,38}\w)", re.IGNORECASE
)
_OWN_STORAGE = re.compile(
    r"exceeds the (?:total )?limit|exceeded its local ephemeral storage limit"
    r"|ephemeral local storage usage|emptydir",
    re.IGNORECASE,
)


def find(scope: Scope) -> Iterable[Found]:
    for pod in scope.pods:
        if text(pod, "status", "reason") not in _REASONS and _told(scope, pod) is None:
            continue
        owner = scope.snapshot.workload_of(pod)
        ended = _ended(scope, pod)
        old = ended is not None and scope.snapshot.observed_at - ended > RECENT
        if old and owner.kind != "Pod" and not scope.unready_workload(owner):
            continue  # replaced long ago; the record of it stays until somebody deletes it
        yield _found(scope, pod)


def _found(scope: Scope, pod: Object) -> Found:
    now, name = scope.snapshot.observed_at, text(pod, "metadata", "name")
    reason, message, told = text(pod, "status", "reason"), text(pod, "status", "message"), _told(scope, pod)
    claims = []
    if reason in _REASONS:
        evidence = [of_object(pod, "/status/message" if message else "/status/reason", now)]
        claims.append(Claim(f"Pod {name} was evicted ({reason}){f': {quoted(message)}' if message else ''}", evidence))
    if told is not None:
        claims.append(Claim(f"The kubelet says {quoted(told.message)}", [of_event(told, now)]))
        if reason not in _REASONS:
            reason, message = told.reason, told.message
    node = text(pod, "spec", "nodeName")
    item = scope.snapshot.get("Node", None, node)
    pressures = [kind for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")
                 if item is not None and condition(item, kind).get("status") == "True"]  # fmt: skip
    if item is not None and pressures:
        shown = of_object(item, "/status/conditions", now)
        claims.append(Claim(f"Node {node} reports {', '.join(pressures)}", [shown]))
    match = _RESOURCE.search(message)
    facts: dict[str, Fact] = {"node": node or None, "resource": match[1] if match else None, "pod": name}
    if _OWN_STORAGE.search(message):
        why = "it used more local storage than its limit"
        own = _VOLUME.search(message) or _CONTAINER.search(message) or _POD.search(message)
        facts |= {"resource": "ephemeral-storage", **(own.groupdict() if own else {})}
        if own is not None:
            which = facts.get("volume") or facts.get("container")
            why = f"{which or 'it'} used more local storage than its limit of {facts['limit']}"
        step = "Find out what the pod writes; raise its storage limit or give it a volume"
    else:
        why = f"its node was low on {match[1]}" if match else message.strip(" .") or reason
        step = (
            f"Look at what uses up {match[1] if match else 'resources'} on node {node}; give the pod requests that fit"
        )
    owner = scope.snapshot.workload_of(pod)
    return Found(
        CauseClass.EVICTED,
        owner,
        0.93,
        f"{'Pod' if owner.kind == 'Pod' else f'A pod of {owner.kind}'} {owner.name} was evicted: {why}.",
        claims,
        facts=facts,
        place=name,
        next_steps=[step],
    )


def _told(scope: Scope, pod: Object) -> Event | None:
    """The kubelet's event about it, which comes before the pod's status turns."""
    events = [event for event in scope.pod_events(pod) if event.reason == "Evicted"]
    return events[-1] if events else None


def _ended(scope: Scope, pod: Object) -> datetime | None:
    times = [
        when(status, "state", "terminated", "finishedAt") for status in objects(pod, "status", "containerStatuses")
    ]
    times += [event.last for event in scope.pod_events(pod) if event.reason == "Evicted"]
    return newest(times) or when(pod, "status", "startTime")
