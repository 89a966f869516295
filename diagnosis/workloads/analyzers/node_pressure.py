"""A node short of disk, memory or process ids, and what that does: pods evicted, and pods kept away by its taint."""

from __future__ import annotations

from collections.abc import Iterable

from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import Object, condition, text
from diagnosis.workloads.node_fit import fits
from diagnosis.workloads.nodes import condition_at
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.snapshot import ref_of
from incidents.models import CauseClass, Evidence, ObjectRef

NAME = "node_pressure"
READS = ("Node", "Pod")
RULED_OUT = "node pressure: no node reports that it is short of disk, memory or process ids"

_KINDS = {
    "DiskPressure": (CauseClass.NODE_DISK_PRESSURE, "disk", ("ephemeral-storage", "inodes", "nodefs", "imagefs")),
    "MemoryPressure": (CauseClass.NODE_MEMORY_PRESSURE, "memory", ("memory",)),
    "PIDPressure": (CauseClass.NODE_PID_PRESSURE, "process ids", ("pid",)),
}
_TAINTS = {
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
}
CAUSES = {
    cause: Documented(
        f"A node is short of {what}: its kubelet evicts pods, and no new pod is placed there.",
        f"The node's condition {kind}, the evicted pods' own words, and the taint that keeps pods away.",
        "None from here: a person frees or adds what the node lacks; pods with requests that fit are placed elsewhere.",
    )
    for kind, (cause, what, _) in _KINDS.items()
}


def find(scope: Scope) -> Iterable[Found]:
    for node in scope.snapshot.all("Node"):
        for kind, (cause, what, words) in _KINDS.items():
            if condition(node, kind).get("status") == "True":
                yield from _found(scope, node, kind, cause, what, words)


def _found(
    scope: Scope, node: Object, kind: str, cause: CauseClass, what: str, words: tuple[str, ...]
) -> Iterable[Found]:
    """One cause, where it does something to the scope (pods evicted or kept away), or where all is asked about."""
    now, name = scope.snapshot.observed_at, text(node, "metadata", "name")
    said, at = condition_at(node, kind)
    hurt: dict[ObjectRef, None] = {}
    claims: list[Claim] = []
    for pod in scope.pods:
        told = _victim(scope, pod, name, kind, words)
        if told is not None:
            hurt[scope.snapshot.workload_of(pod)] = None
            claims += [told] if len(claims) < 4 else []
    asked = scope.target is not None and scope.target == ref_of(node)
    if not hurt and not asked and scope.namespaces is not None:
        return
    message = text(said, "message") or text(said, "reason")
    yield Found(
        cause,
        ref_of(node),
        0.95,
        f"Node {name} is short of {what} ({kind}).",
        [Claim(f"Node {name} reports {kind}: {quoted(message)}", [of_object(node, at, now)]), *claims],
        facts={"node": name, "condition": kind, "resource": what},
        explains=list(hurt),
        next_steps=[f"Find out what uses up {what} on node {name}, free it, then let the pods come back"],
    )


def _victim(scope: Scope, pod: Object, node: str, kind: str, words: tuple[str, ...]) -> Claim | None:
    """What the pressure did to a pod, or None."""
    now, name = scope.snapshot.observed_at, text(pod, "metadata", "name")
    message = text(pod, "status", "message")
    evicted = text(pod, "status", "reason") == "Evicted" and text(pod, "spec", "nodeName") == node
    if evicted and any(word in message.lower() for word in words):
        return Claim(f"Pod {name} was evicted: {quoted(message)}", [of_object(pod, "/status/message", now)])
    if not text(pod, "spec", "nodeName") and text(pod, "status", "phase") == "Pending":
        scheduled = condition(pod, "PodScheduled")
        events = [event for event in scope.pod_events(pod) if event.reason == "FailedScheduling"]
        evidence: list[Evidence] = [of_event(events[-1], now)] if events else []
        text_ = text(scheduled, "message") or (events[-1].message if events else "")
        if _TAINTS[kind] in text_ and _belongs(scope, pod, node):
            if text(scheduled, "message"):
                evidence = [of_object(pod, "/status/conditions", now), *evidence]
            return Claim(f"Pod {name} is kept away by the taint {_TAINTS[kind]}", evidence)
    return None


def _belongs(scope: Scope, pod: Object, node: str) -> bool:
    """Whether a pod may run on a node at all: of each node that it does not get, the scheduler tells one reason."""
    return any(fit.belongs for fit in fits(scope.snapshot, pod) if fit.name == node)
