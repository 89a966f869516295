"""What the webhook asks the cluster: whether nodes would keep cores, and what a namespace allows its pods.

Each node agent writes what its node does with cores to its Node object, as annotation `paramedic.io/cores`. Which node
a pod will run on is not known at its admission: all that pods may run on count.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import PurePosixPath

from collector.node import NodeState, lost_by_limit, lost_by_pattern
from collector.webhook.inject import LABEL
from diagnosis.workloads.fields import Object, number, pick, text
from tools.kubernetes.client import Cluster

ANNOTATION = "paramedic.io/cores"
_ENFORCE = "pod-security.kubernetes.io/enforce"
_WITHOUT_FOLDERS = ("baseline", "restricted")
"""Levels of the Pod Security Standards that refuse a pod with a hostPath."""
_KEPT_SECONDS = 30.0
_MOST = 500


def told(state: NodeState, limit: int | None, *, taken: bool) -> str:
    """The annotation's value.

    `limit` is the RLIMIT_CORE that containers get, in bytes (None: unlimited or unknown); `taken`: the agent itself
    takes cores from the kernel's pipe or socket, wherever the pattern would put them.
    """
    return json.dumps({"core_pattern": state.core_pattern[:200], "limit": limit, "taken": taken}, sort_keys=True)


class Nodes:
    """Answers are kept for half a minute: admission is quick, or it is in the way."""

    def __init__(self, cluster: Cluster | None, max_pods: int | None, clock: Callable[[], float] = time.monotonic):
        self._cluster, self._max_pods, self._clock = cluster, max_pods, clock
        self._nodes: tuple[float, list[Object]] = (float("-inf"), [])
        self._counts: dict[str, tuple[float, int]] = {}
        self._levels: dict[str, tuple[float, str]] = {}

    async def warnings(self, path: str) -> list[str]:
        """Why cores of a pod with a folder at `path` would be lost, by nodes. Raises ToolFailed."""
        if self._cluster is None:
            return []
        if self._clock() - self._nodes[0] > _KEPT_SECONDS:
            self._nodes = self._clock(), await self._cluster.list_all("v1", "Node")
        usable = [node for node in self._nodes[1] if pick(node, "spec", "unschedulable") is not True]
        reasons: dict[str, list[str]] = {}
        for node in usable:
            for reason in _lost(node, path):
                reasons.setdefault(reason, []).append(text(node, "metadata", "name"))
        return [f"on {_count(names, len(usable))}: {reason}" for reason, names in sorted(reasons.items())]

    async def forbids(self, namespace: str) -> str | None:
        """Why a pod with a folder of its node would be refused in a namespace. Raises ToolFailed."""
        if self._cluster is None:
            return None
        at, level = self._levels.get(namespace, (float("-inf"), ""))
        if self._clock() - at > _KEPT_SECONDS:
            found = await self._cluster.get("v1", "Namespace", None, namespace) or {}
            if len(self._levels) >= _MOST:
                self._levels.clear()
            level = text(found, "metadata", "labels", _ENFORCE)
            self._levels[namespace] = self._clock(), level
        if level in _WITHOUT_FOLDERS:
            return f"namespace {namespace} enforces Pod Security {level}, which refuses a pod with a folder of its node"
        return None

    async def full(self, namespace: str) -> str | None:
        """Why a namespace may have no more such pods. Raises ToolFailed."""
        if self._max_pods is None or self._cluster is None:
            return None
        at, count = self._counts.get(namespace, (float("-inf"), 0))
        if self._clock() - at > _KEPT_SECONDS:
            found = await self._cluster.list_all("v1", "Pod", namespace, labels=f"{LABEL}=injected", names_only=True)
            at, count = self._clock(), len(found)
        if len(self._counts) >= _MOST:
            self._counts.clear()
        if count >= self._max_pods:
            self._counts[namespace] = at, count
            return f"namespace {namespace} has {count} pods with a folder for cores already (webhook.max_pods)"
        # those that are let in meanwhile count too, although the cluster does not show them yet
        self._counts[namespace] = at, count + 1
        return None


def _lost(node: Object, path: str) -> list[str]:
    try:
        found = json.loads(text(node, "metadata", "annotations", ANNOTATION) or "{}")
    except (ValueError, RecursionError):
        return []
    if not isinstance(found, dict) or "core_pattern" not in found or found.get("taken") is True:
        return []
    reasons = []
    state, mount = NodeState(text(found, "core_pattern")), PurePosixPath(path)
    if state.folder is not None and state.folder != mount and mount not in state.folder.parents:
        where = ascii(str(state.folder)[:80])
        reasons.append(f"cores are written to {where}, not to {path} (annotation paramedic.io/path)")
    elif reason := lost_by_pattern(state, [path]):
        reasons.append(reason)
    if reason := lost_by_limit(number(found, "limit")):
        reasons.append(reason)
    return reasons


def _count(names: list[str], all_nodes: int) -> str:
    if len(names) == all_nodes:
        return "every node"
    shown = ", ".join(sorted(names)[:3])
    return f"{len(names)} of {all_nodes} nodes ({shown}{'…' if len(names) > 3 else ''})"
