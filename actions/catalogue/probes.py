"""Change fields of an existing probe. A probe is never added and never removed."""

from __future__ import annotations

import re
from typing import Any

from actions.catalogue.draft import Draft, patch_write, read_target, rollout_radius
from actions.catalogue.stuck_pods import stuck_pods
from actions.objects import find_container, normalise, replicas, title
from actions.patches import ABSENT, Change, pointer
from errors import Refused
from incidents.plan import ChangeProbe, Risk
from tools.kubernetes.client import Cluster

KINDS = ("Deployment", "StatefulSet", "DaemonSet")
_TIMINGS = {
    "initial_delay_seconds": "initialDelaySeconds",
    "timeout_seconds": "timeoutSeconds",
    "period_seconds": "periodSeconds",
    "failure_threshold": "failureThreshold",
}
_PATH = re.compile(r"/[\x21-\x7e]{0,1023}")


async def derive(cluster: Cluster, action: ChangeProbe) -> Draft:
    """Raises Refused when the container, the probe or the field is not there."""
    live = await read_target(cluster, action.target, KINDS)
    radius = rollout_radius(live)
    place = find_container(live, action.container)
    if place is None or place[0] != "containers":
        raise Refused(f"{title(live)} has no container {action.container!r}")
    _, index, container = place
    field = f"{action.probe.value}Probe"
    probe = container.get(field)
    if not probe:
        raise Refused(f"container {action.container!r} of {title(live)} has no {action.probe.value} probe")
    at = ("spec", "template", "spec", "containers", index)
    changes = _handler(action, probe, container, (*at, field)) + _timings(action, probe, (*at, field))
    changes = [change for change in changes if change.old != change.new]
    if not changes:
        raise Refused(f"the {action.probe.value} probe of {action.container!r} has these values already")
    guards = [Change(pointer(*at, "name"), action.container, action.container)]
    return Draft(
        title=f"Change the {action.probe.value} probe of container {action.container} in {title(live)}",
        writes=[
            patch_write(live, guards, changes),
            *await stuck_pods(cluster, live),
        ],
        risk=Risk.LOW,
        blast_radius=radius,
        affected_pods=replicas(live),
        preimage=normalise(live),
        changes=changes,
        guards=guards,
        allowed=[change.path for change in changes],
        containers=[action.container],
    )


def _handler(
    action: ChangeProbe, probe: dict[str, Any], container: dict[str, Any], at: tuple[str | int, ...]
) -> list[Change]:
    wanted = {"port": _port(action.port, container), "path": _checked_path(action.path), "scheme": action.scheme}
    wanted = {key: value for key, value in wanted.items() if value is not None}
    if not wanted:
        return []
    kind = next((key for key in ("httpGet", "tcpSocket", "grpc") if key in probe), None)
    if kind is None:
        raise Refused(f"the probe of {action.container!r} runs a command: it has no {' or '.join(wanted)}")
    if kind != "httpGet" and set(wanted) - {"port"}:
        raise Refused(f"the probe of {action.container!r} is {kind}: it has no path or scheme")
    handler = probe[kind]
    return [Change(pointer(*at, kind, key), handler.get(key, ABSENT), value) for key, value in wanted.items()]


def _timings(action: ChangeProbe, probe: dict[str, Any], at: tuple[str | int, ...]) -> list[Change]:
    found = []
    for attribute, key in _TIMINGS.items():
        value = getattr(action, attribute)
        # the server drops initialDelaySeconds 0: absent and 0 are the same
        if value is not None and value != probe.get(key, 0):
            found.append(Change(pointer(*at, key), probe.get(key, ABSENT), value))
    return found


def _port(port: int | str | None, container: dict[str, Any]) -> int | str | None:
    if isinstance(port, str) and port.isdigit():
        port = int(port)
    if isinstance(port, int):
        if not 1 <= port <= 65535:
            raise Refused(f"{port} is no port")
        return port
    if isinstance(port, str) and port not in {item.get("name") for item in container.get("ports") or []}:
        raise Refused(f"container {container.get('name')!r} declares no port named {port!r}")
    return port


def _checked_path(path: str | None) -> str | None:
    if path is not None and not _PATH.fullmatch(path):
        raise Refused(f"{path!r} is no HTTP path")
    return path
