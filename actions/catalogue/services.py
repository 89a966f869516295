"""Change what a Service selects, or what one of its ports leads to: only to ready pods and to ports that they have."""

from __future__ import annotations

from typing import Any

from actions.catalogue.draft import Draft, patch_write, read_target
from actions.health import is_ready
from actions.objects import metadata, normalise, title
from actions.patches import ABSENT, Change, pointer
from errors import Refused
from incidents.actions import ChangeService
from incidents.plan import Risk
from tools.kubernetes.client import Cluster, Object

_HANDLERS = ("httpGet", "tcpSocket", "grpc")
_Port = tuple[int | str, str]


async def derive(cluster: Cluster, action: ChangeService) -> Draft:
    """Raises Refused when no ready pod would be behind the Service, or none has the port."""
    live = await read_target(cluster, action.target, ("Service",))
    spec = live.get("spec") or {}
    if spec.get("type") == "ExternalName":
        raise Refused(f"{title(live)} is an ExternalName: it selects no pods")
    selector = action.selector if action.selector is not None else spec.get("selector") or {}
    if not selector:
        raise Refused(f"{title(live)} has no selector: somebody keeps its endpoints by hand")
    pods = await _ready_pods(cluster, str(metadata(live)["namespace"]), selector)
    if not pods:
        raise Refused(f"no ready pod carries the labels {_words(selector)}")
    changes = []
    if action.selector is not None and action.selector != spec.get("selector"):
        changes.append(Change("/spec/selector", spec.get("selector", ABSENT), action.selector))
    changes += _port_changes(live, action, pods)
    if not changes:
        raise Refused(f"{title(live)} has this already")
    now, then = len(await _ready_pods(cluster, str(metadata(live)["namespace"]), spec.get("selector") or {})), len(pods)
    return Draft(
        title=f"Let {title(live)} lead to {_goal(action, selector)}",
        writes=[patch_write(live, [], changes)],
        risk=Risk.MEDIUM,
        blast_radius=f"all clients of {title(live)}; ready pods behind it: {now} now, {then} then; no pod is restarted",
        affected_pods=0,
        preimage=normalise(live),
        changes=changes,
        allowed=[change.path for change in changes],
    )


def _port_changes(live: Object, action: ChangeService, pods: list[Object]) -> list[Change]:
    if action.target_port is None and action.protocol is None:
        return []
    ports = (live.get("spec") or {}).get("ports") or []
    places = [index for index, item in enumerate(ports) if action.port in (None, item.get("port"))]
    if len(places) != 1:
        raise Refused(f"{title(live)} has {len(places)} port(s) {action.port or ''}: it is not clear which is meant")
    index, port = places[0], ports[places[0]]
    goal = action.target_port if action.target_port is not None else port.get("targetPort", port.get("port"))
    goal = int(goal) if isinstance(goal, str) and goal.isdigit() else goal
    protocol = action.protocol or str(port.get("protocol") or "TCP")
    if not all((goal, protocol) in open_ports(pod) for pod in pods):
        raise Refused(
            f"not every ready pod behind {title(live)} has {protocol} port {goal}, by its containers or probes"
        )
    wanted = {"targetPort": goal, "protocol": protocol}
    return [
        Change(pointer("spec", "ports", index, key), port.get(key, ABSENT), value)
        for key, value in wanted.items()
        if port.get(key) != value
    ]


def open_ports(pod: Object) -> set[_Port]:
    """(number or name, protocol) of what the containers declare, and what the probes of a ready pod reach."""
    found: set[_Port] = set()
    for container in (pod.get("spec") or {}).get("containers") or []:
        named: dict[str, Any] = {}
        for item in container.get("ports") or []:
            protocol = str(item.get("protocol") or "TCP")
            found.add((item["containerPort"], protocol))
            if item.get("name"):
                named[item["name"]] = item["containerPort"]
                found.add((item["name"], protocol))
        handlers = [container.get("readinessProbe") or {}]
        for port in (probe[kind].get("port") for probe in handlers for kind in _HANDLERS if probe.get(kind)):
            if isinstance(port, int) or port in named:
                found.add((named.get(port, port), "TCP"))
    return found


async def _ready_pods(cluster: Cluster, namespace: str, selector: dict[str, Any]) -> list[Object]:
    if not selector:
        return []
    labels = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    pods = await cluster.list_all("v1", "Pod", namespace, labels=labels)
    running = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]
    return [pod for pod in running if is_ready(pod) and not metadata(pod).get("deletionTimestamp")]


def _goal(action: ChangeService, selector: dict[str, Any]) -> str:
    parts = [f"the pods with {_words(selector)}"] if action.selector is not None else []
    if action.target_port is not None or action.protocol is not None:
        parts.append(f"{action.protocol or ''} port {action.target_port or ''} of its pods".strip().replace("  ", " "))
    return " and ".join(parts)


def _words(selector: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(selector.items()))
