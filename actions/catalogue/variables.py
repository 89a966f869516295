"""Correct an address in a literal environment variable: only to a Service that exists, and to a port that it offers."""

from __future__ import annotations

import re

from actions.catalogue.draft import Draft, patch_write, read_target, rollout_radius
from actions.catalogue.stuck_pods import stuck_pods
from actions.objects import find_container, metadata, normalise, replicas, title
from actions.patches import Change, pointer
from errors import Refused
from incidents.actions import ChangeVariable
from incidents.plan import Risk
from tools.kubernetes.client import Cluster

KINDS = ("Deployment", "StatefulSet", "DaemonSet")
_HOST = re.compile(r"(?P<name>[a-z0-9-]+)(?:\.(?P<space>[a-z0-9-]+)(?:\.svc(?:\.[a-z0-9.-]+)?)?)?")


async def derive(cluster: Cluster, action: ChangeVariable) -> Draft:
    """Raises Refused when the variable is not literal, the part is not there once, or no such Service exists."""
    live = await read_target(cluster, action.target, KINDS)
    radius = rollout_radius(live)
    place = find_container(live, action.container)
    if place is None:
        raise Refused(f"{title(live)} has no container {action.container!r}")
    group, index, container = place
    found = [number for number, item in enumerate(container.get("env") or []) if item.get("name") == action.variable]
    if len(found) != 1 or not isinstance(container["env"][found[0]].get("value"), str):
        raise Refused(f"container {action.container!r} has no literal variable {action.variable}")
    value = str(container["env"][found[0]]["value"])
    if value.count(action.old) != 1:
        raise Refused(f"variable {action.variable} does not have {action.old} in it once")
    await _require_service(cluster, action, str(metadata(live)["namespace"]))
    at = ("spec", "template", "spec", group, index)
    change = Change(pointer(*at, "env", found[0], "value"), value, value.replace(action.old, action.new, 1))
    guards = [
        Change(pointer(*at, "name"), action.container, action.container),
        Change(pointer(*at, "env", found[0], "name"), action.variable, action.variable),
    ]
    return Draft(
        title=f"Say {action.new} instead of {action.old} in {action.variable} of {action.container} in {title(live)}",
        writes=[patch_write(live, guards, [change]), *await stuck_pods(cluster, live)],
        risk=Risk.MEDIUM,
        blast_radius=f"{radius}; they then talk to {action.host}{f':{action.port}' if action.port else ''}",
        affected_pods=replicas(live),
        preimage=normalise(live),
        changes=[change],
        guards=guards,
        allowed=[change.path],
        containers=[action.container],
    )


async def _require_service(cluster: Cluster, action: ChangeVariable, namespace: str) -> None:
    address = re.fullmatch(rf"(?:[a-z]+://)?{re.escape(action.host)}(?::(\d+))?", action.new)
    port = address[1] if address else action.new  # else it is a variable that holds the port alone
    if address is None and not action.new.isdigit():
        raise Refused(f"{action.new} does not lead to {action.host}")
    if port is not None and port != str(action.port):
        raise Refused(f"{action.new} does not lead to port {action.port}")
    match = _HOST.fullmatch(action.host)
    space = match["space"] or namespace if match else namespace
    service = await cluster.get("v1", "Service", space, match["name"]) if match else None
    if service is None:
        raise Refused(f"there is no Service {action.host}")
    spec = service.get("spec") or {}
    offered = [item.get("port") for item in spec.get("ports") or []]
    if action.port is not None and spec.get("clusterIP") != "None" and action.port not in offered:
        raise Refused(f"Service {action.host} offers {', '.join(map(str, offered)) or 'no port'}, not {action.port}")
