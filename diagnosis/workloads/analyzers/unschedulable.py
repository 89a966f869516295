"""A pod that no node takes: what the scheduler says, per reason and number of nodes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import Object, condition, objects, pick, text
from diagnosis.workloads.references import references_of
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Evidence, Fact

NAME = "unschedulable"
READS = ("Pod",)
RULED_OUT = "scheduling: every pod has a node"
CAUSES = {
    CauseClass.UNSCHEDULABLE: Documented(
        "The scheduler finds no node for the pod, for reasons that its words do not tell apart further.",
        "The pod's PodScheduled condition or its FailedScheduling event, quoted.",
        "That of the reason, where it is clear; otherwise a person decides between the nodes and the demands.",
    ),
}

_HEAD = re.compile(r"^\s*\d+/(\d+) nodes are available: ?")
# the scheduler's filter plugins' reasons: pkg/scheduler/framework/plugins; words differ a little between versions
_REASONS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("resources", re.compile(r"insufficient [\w./-]+|too many pods", re.I), "no node has enough free {what}"),
    ("volume", re.compile(r"persistentvolumeclaim|volume|pvc", re.I), "its volume cannot be had: {what}"),
    ("taints", re.compile(r"taint", re.I), "nodes have taints that it does not tolerate: {what}"),
    ("pod_affinity", re.compile(r"pod (?:anti-?)?affinity|anti-?affinity", re.I), "its pod affinity rules: {what}"),
    (
        "node_selector",
        re.compile(r"node selector|node affinity|node\(s\) didn't match", re.I),
        "no node matches: {what}",
    ),
    ("cordon", re.compile(r"unschedulable", re.I), "nodes are cordoned: {what}"),
    ("ports", re.compile(r"free ports", re.I), "its host port is taken: {what}"),
    ("spread", re.compile(r"topology spread", re.I), "its topology spread rules: {what}"),
)


def find(scope: Scope) -> Iterable[Found]:
    for pod in scope.pods:
        scheduled = condition(pod, "PodScheduled")
        if text(pod, "spec", "nodeName") or text(pod, "metadata", "deletionTimestamp"):
            continue
        events = [event for event in scope.pod_events(pod) if event.reason == "FailedScheduling"]
        if scheduled.get("reason") == "Unschedulable" or events:
            yield _found(scope, pod, text(scheduled, "message"), events[-1].message if events else "")


def _found(scope: Scope, pod: Object, in_condition: str, in_event: str) -> Found:
    now, snapshot = scope.snapshot.observed_at, scope.snapshot
    name, namespace = text(pod, "metadata", "name"), text(pod, "metadata", "namespace")
    message = in_condition or in_event
    evidence: list[Evidence] = []
    if in_condition:
        index = next(i for i, c in enumerate(objects(pod, "status", "conditions")) if c.get("type") == "PodScheduled")
        evidence.append(of_object(pod, f"/status/conditions/{index}/message", now))
    event = next((e for e in reversed(scope.pod_events(pod)) if e.reason == "FailedScheduling"), None)
    if event is not None:
        evidence.append(of_event(event, now))
    said = f": {quoted(message)}" if message else ""
    evidence = evidence or [of_object(pod, "/status/conditions", now)]
    claims = [Claim(f"No node takes pod {name}{said}", evidence)]
    kind, reason, why = parse(message)
    facts: dict[str, Fact] = {"reason": kind, "scheduler_says": reason or message[:300]}
    if kind == "node_selector" and pick(pod, "spec", "nodeSelector"):
        shown = of_object(pod, "/spec/nodeSelector", now)
        claims.append(Claim("The pod asks for nodes by selector", [shown]))
    if kind == "resources":
        claims += _requests(scope, pod)
    if kind == "volume":
        for reference in references_of(pod):
            claim = snapshot.get("PersistentVolumeClaim", namespace, reference.name)
            if reference.kind == "PersistentVolumeClaim" and text(claim, "status", "phase") != "Bound":
                facts["claim"] = reference.name
                state = "is " + text(claim, "status", "phase") if claim else "was not seen"
                shown = of_object(claim or pod, "/status" if claim else reference.at, now)
                claims.append(Claim(f"Its PersistentVolumeClaim {reference.name} {state}", [shown]))
    owner = snapshot.workload_of(pod)
    return Found(
        CauseClass.UNSCHEDULABLE,
        owner,
        0.95,
        f"No node takes the pods of {owner.kind} {owner.name}: {why}.",
        claims,
        facts=facts,
        place=name,
        next_steps=[_step(kind)],
    )


def parse(message: str) -> tuple[str, str, str]:
    """(kind, the scheduler's own reason, in words) of the reason that stops most nodes; a taint of control planes
    only counts when nothing else does."""
    body = _HEAD.sub("", message).split(" preemption:")[0]
    parts = [part.strip(" .") for part in re.split(r",(?![^{(]*[})])", body) if part.strip(" .")]
    found = []
    for part in parts:
        count = re.match(r"(\d+) ", part)
        for kind, pattern, words in _REASONS:
            if pattern.search(part):
                weight = int(count[1]) if count else 1
                control = "control-plane" in part or "node-role.kubernetes.io/master" in part
                what = re.sub(r"^\d+ (?:node\(s\) )?", "", part)
                what = re.sub(r"^Insufficient ", "", what, flags=re.IGNORECASE) if kind == "resources" else what
                found.append((0 if control else weight, kind, part, words.format(what=what)))
                break
    if not found:
        return "other", "", message.strip(" .")[:200] or "the scheduler gives no reason"
    _, kind, part, words = max(found, key=lambda entry: entry[0])
    return kind, part, words


def _requests(scope: Scope, pod: Object) -> list[Claim]:
    found = [
        of_object(pod, f"/spec/containers/{index}/resources", scope.snapshot.observed_at)
        for index, container in enumerate(objects(pod, "spec", "containers"))
        if pick(container, "resources", "requests")
    ]
    return [Claim("The pod's containers request resources", found)] if found else []


def _step(kind: str) -> str:
    return {
        "resources": "Ask for less, free capacity, or add nodes",
        "node_selector": "Correct the node selector or affinity, or label a node",
        "taints": "Add a toleration where that is meant, or remove the taint",
        "cordon": "Uncordon a node once it is known why it was cordoned",
        "volume": "Make the volume claim bind: look at its events and storage class",
    }.get(kind, "Change what the pod asks of a node, or the nodes")
