"""Add a toleration, or correct the node selector, so that at least one node takes the pods.

Taints that the cluster writes itself (conditions, cordons, control planes) are never tolerated: they are symptoms, or
they keep workloads off on purpose.
"""

from __future__ import annotations

from typing import Any

from actions.catalogue.draft import Draft, patch_write, read_target, rollout_radius
from actions.catalogue.stuck_pods import stuck_pods
from actions.objects import container_names, metadata, normalise, replicas, template_of, title
from actions.patches import ABSENT, Change, pointer
from errors import Refused
from incidents.actions import ChangeScheduling, Toleration
from incidents.plan import Risk
from tools.kubernetes.client import Cluster, KubernetesError, Object

KINDS = ("Deployment", "StatefulSet", "DaemonSet")
_AT = ("spec", "template", "spec")
_RESERVED = ("node.kubernetes.io/", "node-role.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
_HARD = ("NoSchedule", "NoExecute")


async def derive(cluster: Cluster, action: ChangeScheduling) -> Draft:
    """Raises Refused when no node would take the pods afterwards, or the toleration is not for this purpose."""
    live = await read_target(cluster, action.target, KINDS)
    radius = rollout_radius(live)
    spec = template_of(live).get("spec") or {}
    nodes = await usable_nodes(cluster)
    changes: list[Change] = []
    allowed: list[str] = []
    selector = dict(spec.get("nodeSelector") or {})
    tolerations = list(spec.get("tolerations") or [])
    if action.node_selector:
        unknown = sorted(action.node_selector.keys() - selector.keys())
        if unknown:
            raise Refused(f"the node selector of {title(live)} has no key {', '.join(unknown)}")
        for key, value in sorted(action.node_selector.items()):
            if selector[key] != value:
                changes.append(Change(pointer(*_AT, "nodeSelector", key), selector[key], value))
        selector |= action.node_selector
    if action.toleration is not None:
        wanted = _toleration(action.toleration, nodes)
        if any(_tolerates(item, _taint(action.toleration)) for item in tolerations):
            raise Refused(f"{title(live)} tolerates {action.toleration.key} already")
        at = pointer(*_AT, "tolerations")
        if tolerations:
            changes.append(Change(pointer(*_AT, "tolerations", len(tolerations)), ABSENT, wanted))
        else:
            changes.append(Change(at, spec.get("tolerations", ABSENT), [wanted]))
        allowed.append(at)
        tolerations.append(wanted)
    if not changes:
        raise Refused(f"{title(live)} has this already")
    takers = [node for node in nodes if _takes(node, selector, tolerations)]
    if not takers:
        raise Refused(f"no ready node would take the pods of {title(live)} then either")
    return Draft(
        title=f"Let the pods of {title(live)} run on {len(takers)} node(s)",
        writes=[patch_write(live, [], changes), *await stuck_pods(cluster, live)],
        risk=Risk.MEDIUM,
        blast_radius=f"{radius}; they may run on {', '.join(str(metadata(node)['name']) for node in takers[:5])}",
        affected_pods=replicas(live),
        preimage=normalise(live),
        changes=changes,
        allowed=[*allowed, *(change.path for change in changes)],
        containers=container_names(template_of(live)),
    )


async def usable_nodes(cluster: Cluster) -> list[Object]:
    """Nodes that are ready and not cordoned. Raises Refused when nodes may not be read."""
    try:
        nodes = await cluster.list_all("v1", "Node")
    except KubernetesError as error:
        if error.code in (401, 403):
            raise Refused("nodes cannot be read, so it is not known which of them would take the pods") from error
        raise
    return [node for node in nodes if is_ready_node(node) and not (node.get("spec") or {}).get("unschedulable")]


def is_ready_node(node: Object) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)


def _toleration(wanted: Toleration, nodes: list[Object]) -> dict[str, Any]:
    if wanted.key.startswith(_RESERVED):
        raise Refused(f"taint {wanted.key} is the cluster's own: it is not tolerated")
    taint = _taint(wanted)
    taints = [item for node in nodes for item in (node.get("spec") or {}).get("taints") or []]
    if not any(
        (item.get("key"), item.get("value") or "", item.get("effect")) == tuple(taint.values()) for item in taints
    ):
        raise Refused(f"no ready node has taint {wanted.key}={wanted.value or ''}:{wanted.effect}")
    found = {"key": wanted.key, "operator": "Equal", "value": wanted.value, "effect": wanted.effect}
    return {key: value for key, value in found.items() if value}


def _taint(toleration: Toleration) -> dict[str, str]:
    return {"key": toleration.key, "value": toleration.value or "", "effect": toleration.effect}


def _takes(node: Object, selector: dict[str, Any], tolerations: list[dict[str, Any]]) -> bool:
    labels = metadata(node).get("labels") or {}
    hard = [item for item in (node.get("spec") or {}).get("taints") or [] if item.get("effect") in _HARD]
    return all(labels.get(key) == value for key, value in selector.items()) and all(
        any(_tolerates(item, taint) for item in tolerations) for taint in hard
    )


def _tolerates(toleration: dict[str, Any], taint: dict[str, Any]) -> bool:
    """Source: k8s.io/api core/v1 Toleration.ToleratesTaint."""
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("key") not in (None, "", taint.get("key")):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")
