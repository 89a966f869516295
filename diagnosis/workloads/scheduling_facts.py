"""What a fixer and a reader need of a scheduling failure, for each kind of reason.."""

from __future__ import annotations

from diagnosis.workloads.fields import Object, mapping, number, objects, pick, text
from diagnosis.workloads.node_fit import Fit, requests_of, shown
from diagnosis.workloads.references import references_of
from diagnosis.workloads.scheduling import Reason
from diagnosis.workloads.scope import Scope
from incidents.models import Fact


def facts_of(scope: Scope, pod: Object, kind: str, reason: Reason, nodes: list[Fit]) -> dict[str, Fact]:
    """The facts of one reason; only what was observed."""
    belonging = [fit for fit in nodes if fit.belongs]
    if kind == "resource":
        return _resource(scope, pod, reason.what, belonging)
    if kind == "selector":
        return _selector(pod, nodes)
    if kind in ("affinity", "pod_affinity", "pod_anti_affinity"):
        return {"which": "node_affinity" if kind == "affinity" else kind}
    if kind == "taint":
        for fit in belonging or nodes:
            for lack in fit.lacks:
                if lack.kind == "taint" and lack.what == reason.what:
                    return {"taint_key": lack.what, "taint_value": lack.value, "taint_effect": lack.effect,
                            "node": fit.name}  # fmt: skip
        return {"taint_key": reason.what or None, "taint_value": reason.value}
    if kind == "cordon":
        node = next((fit.name for fit in belonging if fit.has("cordon")), None)
        return {"node": node}
    if kind == "host_port":
        taken = [port for container in objects(pod, "spec", "containers")
                 for entry in objects(container, "ports") if (port := number(entry, "hostPort"))]  # fmt: skip
        return {"host_port": taken[0] if taken else None}
    if kind in ("claim", "volume_zone"):
        return _volume(scope, pod, kind)
    return {}


def _resource(scope: Scope, pod: Object, resource: str, belonging: list[Fit]) -> dict[str, Fact]:
    facts: dict[str, Fact] = {"resource": resource}
    need = requests_of(pod).get(resource)
    if need is not None:
        facts["requested"] = shown(resource, need)
    free = [lack.have for fit in belonging for lack in fit.lacks if lack.what == resource and lack.have is not None]
    if free and ("Pod", "") in scope.snapshot.complete:
        facts["largest_node_free"] = shown(resource, max(free))
    elif free:
        facts["largest_node_free_at_most"] = shown(resource, max(free))
    return facts


def _selector(pod: Object, nodes: list[Fit]) -> dict[str, Fact]:
    wanted = mapping(pod, "spec", "nodeSelector")
    facts: dict[str, Fact] = {"node_selector": [f"{key}={value}" for key, value in sorted(wanted.items())]}
    suggested = dict(wanted)
    for key, value in wanted.items():
        open_nodes = [fit.node for fit in nodes if not fit.has("cordon") and not fit.has("taint")]
        carried = {text(node, "metadata", "labels", key) for node in open_nodes} - {""}
        if value not in carried and len(carried) == 1:
            suggested[key] = carried.pop()
        elif value not in carried:
            return facts
    if suggested != wanted:
        facts["suggested_node_selector"] = [f"{key}={value}" for key, value in sorted(suggested.items())]
    return facts


def _volume(scope: Scope, pod: Object, kind: str) -> dict[str, Fact]:
    namespace = text(pod, "metadata", "namespace")
    for reference in references_of(pod):
        if reference.kind != "PersistentVolumeClaim":
            continue
        claim = scope.snapshot.get("PersistentVolumeClaim", namespace, reference.name)
        volume = text(claim, "spec", "volumeName")
        if kind == "claim":
            return {"claim": reference.name}
        bound = scope.snapshot.get("PersistentVolume", None, volume)
        if bound is None or pick(bound, "spec", "nodeAffinity") or mapping(bound, "metadata", "labels"):
            return {"claim": reference.name, "volume": volume or None}
    return {}


def words_of(kind: str, reason: Reason, facts: dict[str, Fact]) -> str:
    """Why, in words."""
    what = reason.said.split(" node(s) ")[-1]
    words = {
        "resource": f"no node has enough free {reason.what}" if reason.what != "pods" else "no node takes more pods",
        "selector": "no node matches its node selector",
        "affinity": "no node matches its node affinity",
        "pod_affinity": "no node satisfies its pod affinity",
        "pod_anti_affinity": "its pod anti-affinity leaves no node",
        "taint": f"nodes have taint {reason.what}, which it does not tolerate",
        "cordon": "the nodes that would take it are cordoned",
        "spread": "its topology spread constraint leaves no node",
        "volume_zone": "its volume is where no node takes it",
        "host_port": f"host port {facts.get('host_port') or ''} is taken".replace("  ", " "),
        "claim": f"its volume cannot be had: {what}",
    }.get(kind, what or "the scheduler gives no reason")
    asked, most = facts.get("requested"), facts.get("largest_node_free") or facts.get("largest_node_free_at_most")
    if kind == "resource" and asked:
        words += f" (asked is {asked}{f', the most that is left is {most}' if most else ''})"
    return words
