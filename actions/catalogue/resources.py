"""Set requests or limits of one container."""

from __future__ import annotations

from typing import Any

from actions.catalogue.bounds import require_within_bounds
from actions.catalogue.draft import Draft, patch_write, read_target, rollout_radius
from actions.catalogue.quantities import quantity
from actions.catalogue.stuck_pods import stuck_pods
from actions.objects import find_container, normalise, replicas, title
from actions.patches import ABSENT, Change, pointer
from errors import Refused
from incidents.plan import ChangeResources, Risk
from tools.kubernetes.client import Cluster

KINDS = ("Deployment", "StatefulSet", "DaemonSet")
_FIELDS = {
    "memory_limit": ("limits", "memory"),
    "memory_request": ("requests", "memory"),
    "cpu_limit": ("limits", "cpu"),
    "cpu_request": ("requests", "cpu"),
}


async def derive(cluster: Cluster, action: ChangeResources) -> Draft:
    """Raises Refused when a quantity is none, or a request would exceed its limit."""
    live = await read_target(cluster, action.target, KINDS)
    radius = rollout_radius(live)
    place = find_container(live, action.container)
    if place is None:
        raise Refused(f"{title(live)} has no container {action.container!r}")
    group, index, container = place
    at = ("spec", "template", "spec", group, index)
    wanted: dict[str, dict[str, str]] = {}
    for attribute, (part, resource) in _FIELDS.items():
        value = getattr(action, attribute)
        if value is not None:
            if quantity(value) <= 0:
                raise Refused(f"{attribute} must be more than nothing")
            wanted.setdefault(part, {})[resource] = value
    current = container.get("resources") or {}
    changes = _changes(current, wanted, (*at, "resources"))
    if "resources" not in container:
        changes = [Change(pointer(*at, "resources"), ABSENT, wanted)] if changes else []
    if not changes:
        raise Refused(f"container {action.container!r} has these resources already")
    _require_consistent(current, wanted)
    await require_within_bounds(cluster, live, action.container, wanted)
    guards = [Change(pointer(*at, "name"), action.container, action.container)]
    return Draft(
        title=f"Change the resources of container {action.container} in {title(live)}",
        writes=[
            patch_write(live, guards, changes),
            *await stuck_pods(cluster, live),
        ],
        risk=Risk.MEDIUM,
        blast_radius=f"{radius}; nodes must have room for them",
        affected_pods=replicas(live),
        preimage=normalise(live),
        changes=changes,
        guards=guards,
        allowed=[change.path for change in changes],
        containers=[action.container],
    )


def _changes(current: dict[str, Any], wanted: dict[str, dict[str, str]], at: tuple[str | int, ...]) -> list[Change]:
    found = []
    for part, resources in wanted.items():
        if part not in current:
            found.append(Change(pointer(*at, part), ABSENT, resources))
            continue
        for resource, value in resources.items():
            old = current[part].get(resource)
            if old is None or quantity(str(old)) != quantity(value):
                found.append(Change(pointer(*at, part, resource), ABSENT if old is None else old, value))
    return found


def _require_consistent(current: dict[str, Any], wanted: dict[str, dict[str, str]]) -> None:
    limits = (current.get("limits") or {}) | wanted.get("limits", {})
    requests = (current.get("requests") or {}) | wanted.get("requests", {})
    for resource in ("memory", "cpu"):
        if resource in limits and resource in requests:
            request, limit = str(requests[resource]), str(limits[resource])
            if quantity(request) > quantity(limit):
                raise Refused(f"the {resource} request {request} would exceed the limit {limit}")
