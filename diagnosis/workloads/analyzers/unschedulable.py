"""A pod that no node takes: the scheduler's reasons, checked against the nodes themselves.

Several reasons for several nodes: the cause is the one whose removal lets most nodes take the pod. Where no node
matches what the pod demands by labels, that is the cause, however many nodes are full or tainted beside it; where some
match, the others are left out on purpose. A pod that waits for its volume claim is explained by the claim.
"""

from __future__ import annotations

from collections.abc import Iterable

from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import Object, condition, mapping, objects, pick, text
from diagnosis.workloads.node_fit import Fit, fits, used_of, volume_terms
from diagnosis.workloads.observed_use import Advice, smaller_request
from diagnosis.workloads.references import references_of
from diagnosis.workloads.scheduling import CONTROL_PLANE, Reason, reasons_in
from diagnosis.workloads.scheduling_facts import facts_of, words_of
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Evidence, Fact, ObjectRef, Severity

NAME = "unschedulable"
READS = ("Pod", "Node")
RULED_OUT = "scheduling: every pod has a node"

_SAID = "The scheduler's words in the pod's condition or events, and the nodes' own labels, taints and room."
CAUSES = {
    CauseClass.UNSCHEDULABLE: Documented(
        "No node takes the pod, for a reason that is none of the named ones.", _SAID, "A person reads the reason."
    ),
    CauseClass.INSUFFICIENT_RESOURCES: Documented(
        "No node that the pod may run on has enough free cpu, memory, pods or extended resource.",
        _SAID,
        "Smaller requests where use was observed to be smaller; else a person adds room.",
    ),
    CauseClass.NODE_SELECTOR_MISMATCH: Documented(
        "No node carries the labels of the pod's node selector.", _SAID, "The value that schedulable nodes do carry."
    ),
    CauseClass.AFFINITY_UNSATISFIABLE: Documented(
        "No node satisfies the pod's required node affinity, pod affinity or pod anti-affinity.",
        _SAID,
        "A person decides which rule gives way.",
    ),
    CauseClass.UNTOLERATED_TAINT: Documented(
        "The nodes that would take the pod have a taint that it does not tolerate.",
        _SAID,
        "A toleration, where the taint is not a node's own sign of trouble.",
    ),
    CauseClass.NODE_CORDONED: Documented(
        "The nodes that would take the pod are cordoned.", _SAID, "Uncordon, once it is known why it was cordoned."
    ),
    CauseClass.TOPOLOGY_SPREAD_UNSATISFIABLE: Documented(
        "The pod's topology spread constraint leaves no node.",
        _SAID,
        "A person decides whether the spread may give way.",
    ),
    CauseClass.VOLUME_ZONE_CONFLICT: Documented(
        "The pod's volume lies where no node takes the pod.",
        _SAID + " The volume's node affinity.",
        "A node in the volume's zone, or a volume elsewhere: data is never moved by rule.",
    ),
    CauseClass.PORT_CONFLICT: Documented(
        "The host port that the pod asks for is taken on every node that it may run on.",
        _SAID,
        "Fewer replicas than nodes, or no host port.",
    ),
}

_CLASSES = {
    "resource": CauseClass.INSUFFICIENT_RESOURCES,
    "selector": CauseClass.NODE_SELECTOR_MISMATCH,
    "affinity": CauseClass.AFFINITY_UNSATISFIABLE,
    "pod_affinity": CauseClass.AFFINITY_UNSATISFIABLE,
    "pod_anti_affinity": CauseClass.AFFINITY_UNSATISFIABLE,
    "taint": CauseClass.UNTOLERATED_TAINT,
    "cordon": CauseClass.NODE_CORDONED,
    "spread": CauseClass.TOPOLOGY_SPREAD_UNSATISFIABLE,
    "volume_zone": CauseClass.VOLUME_ZONE_CONFLICT,
    "host_port": CauseClass.PORT_CONFLICT,
}
_NODES_CITED = 2
_ALL = 1e9  # what no node satisfies


def find(scope: Scope) -> Iterable[Found]:
    used = used_of(scope.snapshot)
    known: dict[str, list[Fit]] = {}  # pods of one controller are alike, unless they have claims of their own
    for pod in scope.pods:
        scheduled = condition(pod, "PodScheduled")
        if text(pod, "spec", "nodeName") or text(pod, "metadata", "deletionTimestamp"):
            continue
        events = [event for event in scope.pod_events(pod) if event.reason == "FailedScheduling"]
        if scheduled.get("reason") == "Unschedulable" or events:
            message = text(scheduled, "message") or (events[-1].message if events else "")
            maker = pick(pod, "metadata", "ownerReferences", 0)
            owner = text(maker, "uid") if text(maker, "kind") != "DaemonSet" else ""  # its pods are each for one node
            alike = owner if owner and not any(volume_terms(scope.snapshot, pod)) else None
            nodes = known.get(alike or "") or fits(scope.snapshot, pod, used)
            if alike:
                known[alike] = nodes
            ordered = order(pod, reasons_in(message), nodes)
            if not (ordered and ordered[0][1] == "claim" and _claim_is_known(scope, pod)):
                yield _found(scope, pod, message, ordered, nodes)


def order(pod: Object, reasons: list[Reason], nodes: list[Fit]) -> list[tuple[float, str, Reason]]:
    """(nodes that it stops, kind, reason), the one that would unblock most first."""
    weighed: list[tuple[float, str, Reason]] = []
    belonging = [fit for fit in nodes if fit.belongs]
    for reason in reasons:
        kind, weight = _kind(pod, reason, reasons, nodes), float(reason.count)
        if kind in ("selector", "affinity", "volume_zone") and nodes:
            lacking = "volume" if kind == "volume_zone" else kind
            nowhere = all(fit.has(lacking) for fit in nodes)
            known = nowhere or any(fit.has(lacking) for fit in nodes)
            weight = _ALL if nowhere else 0.01 if belonging and known and kind != "volume_zone" else weight
        elif kind == "taint":
            if nodes:
                weight = float(sum(any(lack.what == reason.what for lack in fit.lacks) for fit in belonging))
            weight = 0.0 if reason.what in CONTROL_PLANE else 0.9 * weight
        elif kind == "cordon" and nodes:
            weight = float(sum(fit.has("cordon") for fit in belonging))
        elif kind == "claim":
            weight = max(weight, sum(r.count for r in reasons if r.kind == "claim"))
        weighed.append((weight, kind, reason))
    return sorted(weighed, key=lambda entry: -entry[0])


def _kind(pod: Object, reason: Reason, reasons: list[Reason], nodes: list[Fit]) -> str:
    if reason.kind == "pod_affinity_or_anti":
        named = {other.kind for other in reasons} & {"pod_affinity", "pod_anti_affinity"}
        asks = "podAffinity" if pick(pod, "spec", "affinity", "podAffinity") else "podAntiAffinity"
        return named.pop() if len(named) == 1 else "pod_affinity" if asks == "podAffinity" else "pod_anti_affinity"
    if reason.kind != "node_match":
        return reason.kind
    selector, affinity = bool(pick(pod, "spec", "nodeSelector")), pick(pod, "spec", "affinity", "nodeAffinity")
    if selector and affinity and nodes:
        return "selector" if all(fit.has("selector") for fit in nodes) or not any(
            fit.has("affinity") for fit in nodes) else "affinity"  # fmt: skip
    return "selector" if selector or not affinity else "affinity"


def _claim_is_known(scope: Scope, pod: Object) -> bool:
    """Whether a claim of the pod is seen to be missing or not bound: another analyzer tells why."""
    namespace = text(pod, "metadata", "namespace")
    for reference in references_of(pod):
        if reference.kind == "PersistentVolumeClaim":
            claim = scope.snapshot.get("PersistentVolumeClaim", namespace, reference.name)
            if text(claim, "status", "phase") not in ("Bound", "") or scope.snapshot.lacks(
                "PersistentVolumeClaim", namespace, reference.name
            ):
                return True
    return False


def _found(
    scope: Scope, pod: Object, message: str, ordered: list[tuple[float, str, Reason]], nodes: list[Fit]
) -> Found:
    name, owner = text(pod, "metadata", "name"), scope.snapshot.workload_of(pod)
    said = f": {quoted(message, 600)}" if message else ""
    claims = [Claim(f"No node takes pod {name}{said}", _said(scope, pod))]
    kind, reason = ordered[0][1:] if ordered else ("other", Reason("other", 0, ""))
    facts: dict[str, Fact] = {"reason": kind, "scheduler_says": reason.said or message[:300]}
    facts |= facts_of(scope, pod, kind, reason, nodes)
    claims += _asked(scope, pod, kind)
    claims += _nodes(scope, nodes, facts)
    why = words_of(kind, reason, facts) if ordered else "the scheduler gives no reason"
    advice = _less(scope, pod, owner, reason.what, nodes) if kind == "resource" else None
    if advice is not None:
        facts |= advice.facts
        claims += advice.claims
    others = [other.said for _, other_kind, other in ordered[1:] if other_kind != kind]
    if others:
        claims.append(Claim(f"Other nodes: {'; '.join(others)[:300]}", _said(scope, pod), Severity.INFO))
    node = facts.get("node")
    sick = kind == "taint" and reason.what.startswith("node.kubernetes.io/")
    return Found(
        _CLASSES.get(kind, CauseClass.UNSCHEDULABLE),
        owner.model_copy(update={"container": advice.container}) if advice else owner,
        0.85 if sick else 0.95,
        f"No node takes the pods of {owner.kind} {owner.name}: {why}.",
        claims,
        facts=facts,
        place=name,
        leads_to=[ObjectRef(kind="Node", name=str(node))] if sick and node else [],
        next_steps=[_step(kind)],
    )


def _less(scope: Scope, pod: Object, owner: ObjectRef, resource: str, nodes: list[Fit]) -> Advice | None:
    """A request by measured use with which the pod fits on a node that it may run on."""
    free = [
        lack.have
        for fit in nodes
        if fit.belongs and not fit.has("taint") and not fit.has("cordon")
        for lack in fit.lacks
        if lack.what == resource and lack.have is not None and sum(other.kind == "resource" for other in fit.lacks) == 1
    ]
    return smaller_request(scope, owner, pod, resource, max(free)) if free else None


def _said(scope: Scope, pod: Object) -> list[Evidence]:
    now, found = scope.snapshot.observed_at, []
    for index, entry in enumerate(objects(pod, "status", "conditions")):
        if entry.get("type") == "PodScheduled" and text(entry, "message"):
            found.append(of_object(pod, f"/status/conditions/{index}/message", now))
    event = next((e for e in reversed(scope.pod_events(pod)) if e.reason == "FailedScheduling"), None)
    found += [of_event(event, now)] if event is not None else []
    return found or [of_object(pod, "/status/conditions", now)]


def _asked(scope: Scope, pod: Object, kind: str) -> list[Claim]:
    """What the pod asks for, in its spec."""
    now = scope.snapshot.observed_at
    if kind == "resource":
        shown = [
            of_object(pod, f"/spec/containers/{index}/resources", now)
            for index, container in enumerate(objects(pod, "spec", "containers"))
            if mapping(container, "resources")
        ]
        return [Claim("The pod's containers ask for resources", shown)] if shown else []
    at = {
        "selector": "nodeSelector", "affinity": "affinity", "pod_affinity": "affinity", "pod_anti_affinity": "affinity",
        "spread": "topologySpreadConstraints", "taint": "tolerations",
    }.get(kind)  # fmt: skip
    if at is None or not pick(pod, "spec", at):
        return []
    return [Claim(f"The pod says so in its {at}", [of_object(pod, f"/spec/{at}", now)])]


def _nodes(scope: Scope, nodes: list[Fit], facts: dict[str, Fact]) -> list[Claim]:
    """What the nearest nodes lack."""
    now, claims = scope.snapshot.observed_at, []
    for fit in [fit for fit in nodes if fit.lacks][:_NODES_CITED]:
        shown = [of_object(fit.node, at, now) for at in dict.fromkeys(lack.at for lack in fit.lacks)]
        words = "; ".join(dict.fromkeys(lack.words for lack in fit.lacks))
        claims.append(Claim(f"Node {fit.name} {words[:300]}", shown, Severity.INFO))
    if nodes:
        facts["nearest_node"] = nodes[0].name
        facts["nearest_node_lacks"] = [lack.words for lack in nodes[0].lacks]
    return claims


def _step(kind: str) -> str:
    return {
        "resource": "Ask for less, free capacity, or add nodes",
        "selector": "Correct the node selector, or label a node",
        "affinity": "Correct the node affinity, or label a node",
        "taint": "Add a toleration where that is meant, or remove the taint",
        "cordon": "Uncordon a node once it is known why it was cordoned",
        "claim": "Make the volume claim bind: look at its events and storage class",
        "volume_zone": "Find room where the volume is, or restore its data elsewhere",
        "host_port": "Do without the host port, or run at most one such pod on a node",
    }.get(kind, "Change what the pod asks of a node, or the nodes")
