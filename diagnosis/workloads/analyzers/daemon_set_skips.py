"""A DaemonSet that runs on no node: its selector or affinity matches none, or taints keep it off.

To leave nodes out is what selectors and taints are for: only a DaemonSet that is left without any node is told.
"""

from __future__ import annotations

from collections.abc import Iterable

from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, mapping, number, pick
from diagnosis.workloads.node_fit import Fit, fits
from diagnosis.workloads.scheduling import CONTROL_PLANE
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Fact, ObjectRef, Severity

NAME = "daemon_set_skips"
READS = ("DaemonSet", "Node")
RULED_OUT = "daemon sets: each has a node to run on"
CAUSES = {
    CauseClass.DAEMON_SET_SKIPS_NODES: Documented(
        "A DaemonSet runs nowhere: no node carries the labels that it asks for, or each has a taint that it does not "
        "tolerate.",
        "Its own status (no pod is wanted), its template, and the nodes' labels and taints.",
        "A person corrects the selector, labels nodes, or adds a toleration.",
    )
}


def find(scope: Scope) -> Iterable[Found]:
    for ref in scope.workloads:
        item = scope.snapshot.get("DaemonSet", ref.namespace, ref.name) if ref.kind == "DaemonSet" else None
        if item is None or number(item, "status", "desiredNumberScheduled") != 0:
            continue
        if number(item, "status", "observedGeneration") != number(item, "metadata", "generation"):
            continue
        pod = {"metadata": pick(item, "metadata"), "spec": _spec(item)}
        nodes = fits(scope.snapshot, pod)
        kept_off = [fit for fit in nodes if _reason(fit)]
        if nodes and len(kept_off) == len(nodes):
            yield _found(scope, ref, item, nodes)


def _spec(item: Object) -> Object:
    """The template's pod spec with the tolerations that the controller adds."""
    spec = mapping(item, "spec", "template", "spec")
    added = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists"}
        for key in (
            "not-ready", "unreachable", "disk-pressure", "memory-pressure", "pid-pressure", "unschedulable",
            "network-unavailable",
        )
    ]  # fmt: skip
    given = spec.get("tolerations")
    return {**spec, "tolerations": [*(given if isinstance(given, list) else []), *added]}


def _reason(fit: Fit) -> str:
    for kind, name in (("selector", "node_selector"), ("affinity", "node_affinity"), ("taint", "taints")):
        if fit.has(kind):
            return name
    return ""


def _found(scope: Scope, ref: ObjectRef, item: Object, nodes: list[Fit]) -> Found:
    now = scope.snapshot.observed_at
    # a node of the control plane that keeps everything off is no sign of what is meant
    meant = [fit for fit in nodes if not any(lack.what in CONTROL_PLANE for lack in fit.lacks)] or nodes
    why = _reason(meant[0])
    at = {"node_selector": "nodeSelector", "node_affinity": "affinity", "taints": "tolerations"}[why]
    claims = [Claim(f"DaemonSet {ref.name} wants no pod: no node is meant for it", [of_object(item, "/status", now)])]
    if pick(item, "spec", "template", "spec", at):
        claims.append(Claim(f"Its template says so in {at}", [of_object(item, f"/spec/template/spec/{at}", now)]))
    for fit in meant[:2]:
        shown = [of_object(fit.node, place, now) for place in dict.fromkeys(lack.at for lack in fit.lacks)]
        words = "; ".join(lack.words for lack in fit.lacks)[:300]
        claims.append(Claim(f"Node {fit.name} {words}", shown, Severity.INFO))
    wanted = mapping(item, "spec", "template", "spec", "nodeSelector")
    facts: dict[str, Fact] = {"why": why, "nodes": len(nodes), "nearest_node": meant[0].name}
    facts |= {"nearest_node_lacks": [lack.words for lack in meant[0].lacks]}
    if wanted:
        facts["node_selector"] = [f"{key}={value}" for key, value in sorted(wanted.items())]
    return Found(
        CauseClass.DAEMON_SET_SKIPS_NODES,
        ref,
        0.85,
        f"DaemonSet {ref.name} runs on none of {len(nodes)} nodes: its {at} leaves none.",
        claims,
        facts=facts,
        next_steps=[f"Correct the {at} of DaemonSet {ref.name}, or the nodes"],
    )
