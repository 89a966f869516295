"""Whether an object without pods of its own is as the write left it, and does what that was for.

A Service is good when ready addresses with its ports are behind it (what the endpoints controller wrote, so what
kube-proxy uses). A CronJob and a Node are good when they are told so: what comes of it is not waited for.
"""

from __future__ import annotations

from actions.health import Health
from actions.objects import metadata, title
from tools.kubernetes.client import Cluster, Object

SWITCHES = ("Service", "CronJob", "Node")


async def look_at_switch(cluster: Cluster, live: Object) -> Health:
    """One look. Raises the tools' errors."""
    spec, name = live.get("spec") or {}, title(live)
    if live["kind"] == "CronJob":
        return Health(settled=not spec.get("suspend"), detail=f"{name} runs by schedule {spec.get('schedule')} again")
    if live["kind"] == "Node":
        return Health(
            settled=True, detail=f"{name} {'takes no new pods' if spec.get('unschedulable') else 'takes pods'}"
        )
    meta = metadata(live)
    found = await cluster.get("v1", "Endpoints", str(meta["namespace"]), str(meta["name"]))
    subsets = [item for item in (found or {}).get("subsets") or [] if item.get("addresses")]
    addresses = sum(len(item["addresses"]) for item in subsets)
    if not addresses:
        return Health(settled=False, detail=f"{name} has no ready endpoint")
    ports = [item for part in subsets for item in part.get("ports") or []]
    behind = {(item.get("name") or "", item.get("protocol") or "TCP") for item in ports}
    numbers = {item.get("port") for item in ports}
    for port in spec.get("ports") or []:
        goal = port.get("targetPort", port.get("port"))
        known = (port.get("name") or "", port.get("protocol") or "TCP") in behind
        if not known or (isinstance(goal, int) and goal not in numbers):
            return Health(settled=False, detail=f"no ready endpoint of {name} has port {goal}")
    return Health(settled=True, detail=f"{name} leads to {addresses} ready endpoint(s)", pods=addresses)
