"""Where pods may run: tolerations, node selectors, nodes that should or should not take pods."""

from __future__ import annotations

from agents.remedies.remedy import WORKLOADS, Offers, Remedy, bare, because, pairs, words
from incidents.actions import ChangeScheduling, CordonNode, Toleration
from incidents.models import Cause, CauseClass, ObjectRef


def _tolerate(cause: Cause) -> list[Remedy]:
    key, effect = words(cause, "taint_key"), words(cause, "taint_effect")
    if key is None or effect not in ("NoSchedule", "NoExecute", "PreferNoSchedule"):
        return []
    toleration = Toleration.model_validate({"key": key, "value": words(cause, "taint_value"), "effect": effect})
    return [
        Remedy(
            f"Let {cause.object.name} tolerate taint {key} of node {words(cause, 'node') or '(any)'}",
            f"{cause.summary} A taint keeps pods off on purpose: approve it only if this one is meant to run there.",
            action=ChangeScheduling(target=bare(cause.object), toleration=toleration),
        )
    ]


def _select(cause: Cause) -> list[Remedy]:
    suggested, now = pairs(cause, "suggested_node_selector"), pairs(cause, "node_selector")
    change = {key: value for key, value in suggested.items() if key in now and now[key] != value}
    if not change or cause.object.kind not in WORKLOADS:
        return []
    said = ", ".join(f"{key}={value}" for key, value in sorted(change.items()))
    action = ChangeScheduling(target=bare(cause.object), node_selector=change)
    return [Remedy(f"Let {cause.object.name} select nodes with {said}", because(cause), action=action)]


def _uncordon(cause: Cause) -> list[Remedy]:
    node = _node(cause)
    if node is None:
        return []
    return [
        Remedy(
            f"Let node {node.name} take pods again",
            f"{cause.summary} Who cordoned it, and why, is not in the cluster: approve it only if that is over.",
            action=CordonNode(target=node, unschedulable=False),
        )
    ]


def _cordon(cause: Cause) -> list[Remedy]:
    """It repairs nothing: it keeps new pods off a bad node until people have looked at it."""
    node = _node(cause)
    if node is None:
        return []
    return [
        Remedy(
            f"Keep new pods off node {node.name}",
            f"{cause.summary} A cordon repairs nothing; it keeps new pods off until the node was looked at.",
            action=CordonNode(target=node, unschedulable=True),
        )
    ]


def _node(cause: Cause) -> ObjectRef | None:
    name = cause.object.name if cause.object.kind == "Node" else words(cause, "node")
    return ObjectRef(kind="Node", name=name) if name else None


OFFERS: dict[CauseClass, Offers] = {
    CauseClass.UNTOLERATED_TAINT: _tolerate,
    CauseClass.NODE_SELECTOR_MISMATCH: _select,
    CauseClass.NODE_CORDONED: _uncordon,
    # other troubles of nodes: the node controller's own taints keep new pods off already
    CauseClass.KUBE_PROXY_DOWN: _cordon,
    CauseClass.NETWORK_DEGRADED: _cordon,
}
