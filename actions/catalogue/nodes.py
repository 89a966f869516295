"""Cordon a node, or let it take pods again. Pods that run there stay; nothing is drained."""

from __future__ import annotations

from actions.catalogue.draft import Draft, patch_write, read_target
from actions.catalogue.scheduling import is_ready_node, usable_nodes
from actions.objects import normalise, title, uid
from actions.patches import ABSENT, Change
from errors import Refused
from incidents.actions import CordonNode
from incidents.plan import Risk
from tools.kubernetes.client import Cluster, Object

_PRESSURES = ("DiskPressure", "MemoryPressure", "PIDPressure", "NetworkUnavailable")


async def derive(cluster: Cluster, action: CordonNode) -> Draft:
    """Raises Refused when it is so already, when no other node would be left, or when the node is not well."""
    live = await read_target(cluster, action.target, ("Node",))
    spec = live.get("spec") or {}
    now = bool(spec.get("unschedulable"))
    if now == action.unschedulable:
        raise Refused(f"{title(live)} is {'cordoned' if now else 'not cordoned'} already")
    if action.unschedulable:
        if not [node for node in await usable_nodes(cluster) if uid(node) != uid(live)]:
            raise Refused(f"{title(live)} is the last node that takes pods")
        change = Change("/spec/unschedulable", spec.get("unschedulable", ABSENT), True)
        radius = "new pods go to other nodes; pods that run on it stay"
    else:
        trouble = troubles(live)
        if trouble:
            raise Refused(f"{title(live)} is not well ({', '.join(trouble)}): it should stay cordoned")
        change = Change("/spec/unschedulable", True, ABSENT)
        radius = "new pods may go to it; why it was cordoned is not in the cluster"
    return Draft(
        title=f"{'Cordon' if action.unschedulable else 'Uncordon'} {title(live)}",
        writes=[patch_write(live, [], [change])],
        risk=Risk.LOW if action.unschedulable else Risk.MEDIUM,
        blast_radius=radius,
        affected_pods=0,
        preimage=normalise(live),
        changes=[change],
        allowed=[change.path],
    )


def troubles(node: Object) -> list[str]:
    """What a node's conditions complain of."""
    conditions = (node.get("status") or {}).get("conditions") or []
    found = [
        str(item["type"]) for item in conditions if item.get("type") in _PRESSURES and item.get("status") == "True"
    ]
    return found if is_ready_node(node) else ["not ready", *found]
