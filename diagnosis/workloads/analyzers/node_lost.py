"""Pods whose node is gone or does not answer: nothing is wrong with the workload."""

from __future__ import annotations

from collections.abc import Iterable

from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_absence, of_event, of_object
from diagnosis.workloads.fields import Object, condition, objects, text
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Evidence

NAME = "node_lost"
READS = ("Pod", "Node")
RULED_OUT = "nodes: every node that runs a pod of it is ready"
CAUSES = {
    CauseClass.NODE_LOST: Documented(
        "The node that runs the pods is gone or does not answer; nothing is wrong with the workload.",
        "The node's Ready condition and its lease, or the node's absence, and the pods' place on it.",
        "None from here: a person repairs or removes the node; the controllers then replace the pods.",
    ),
}

_REASONS = {"NodeLost", "NodeShutdown", "Shutdown", "Terminated"}
_EVENTS = {"NodeNotReady", "TaintManagerEviction", "NodeControllerEviction"}


def find(scope: Scope) -> Iterable[Found]:
    for pod in scope.pods:
        node = text(pod, "spec", "nodeName")
        if node and text(pod, "status", "phase") not in ("Succeeded",):
            why, evidence = _node_state(scope, node)
            reason = text(pod, "status", "reason")
            if evidence or reason in _REASONS:
                yield _found(scope, pod, node, why or f"the pod's status is {reason}", evidence)


def _node_state(scope: Scope, node: str) -> tuple[str, list[Evidence]]:
    now = scope.snapshot.observed_at
    item = scope.snapshot.get("Node", None, node)
    if item is None:
        if scope.snapshot.lacks("Node", None, node):
            here = [text(other, "metadata", "name") for other in scope.snapshot.all("Node")]
            return f"node {node} is not in the cluster any more", [of_absence("Node", "", node, here, now)]
        return "", []
    ready = condition(item, "Ready")
    if ready.get("status") in ("Unknown", "False"):
        index = next(i for i, c in enumerate(objects(item, "status", "conditions")) if c.get("type") == "Ready")
        said = text(ready, "message") or text(ready, "reason")
        return f"node {node} is not ready ({said})", [of_object(item, f"/status/conditions/{index}", now)]
    return "", []


def _found(scope: Scope, pod: Object, node: str, why: str, evidence: list[Evidence]) -> Found:
    now, name = scope.snapshot.observed_at, text(pod, "metadata", "name")
    claims = [Claim(why[0].upper() + why[1:], evidence or [of_object(pod, "/status/reason", now)])]
    claims.append(Claim(f"Pod {name} is on node {node}", [of_object(pod, "/spec/nodeName", now)]))
    events = [event for event in scope.pod_events(pod) if event.reason in _EVENTS]
    if events:
        claims.append(Claim(f"The node controller says {quoted(events[-1].message)}", [of_event(events[-1], now)]))
    owner = scope.snapshot.workload_of(pod)
    return Found(
        CauseClass.NODE_LOST,
        owner,
        0.93 if evidence else 0.8,
        f"A pod of {owner.kind} {owner.name} is lost with its node: {why}.",
        claims,
        facts={"node": node, "pod": name},
        place=name,
        next_steps=[f"Look at node {node}: kubelet, network, machine; the workload itself shows no fault"],
    )
