"""How things stood before a write: what verification compares with. Kept in the journal, read after a restart."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from actions.objects import metadata, replicas, title, uid
from incidents.plan import HelmWrite, Plan
from tools.kubernetes.client import Cluster, Object

WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")


@dataclass(frozen=True)
class Baseline:
    neighbours: dict[str, int] = field(default_factory=dict)
    """Ready pods of each other workload of the namespace that had all it wanted, by `Kind ns/name`."""
    restarts: dict[str, int] = field(default_factory=dict)
    """Restart count by `pod uid/container`, of every pod there was."""

    def encode(self) -> str:
        return json.dumps({"neighbours": self.neighbours, "restarts": self.restarts}, sort_keys=True)

    @classmethod
    def decode(cls, text: object) -> Baseline:
        found: dict[str, Any] = json.loads(str(text))
        return cls(neighbours=found["neighbours"], restarts=found["restarts"])


async def baseline_of(cluster: Cluster, plan: Plan) -> Baseline:
    """The namespace of the plan's target, now."""
    namespace = plan.writes[0].namespace
    neighbours = {
        name: ready
        for name, (wanted, ready) in (await readiness(cluster, namespace, plan)).items()
        if wanted > 0 and ready >= wanted
    }
    restarts = {
        f"{uid(pod)}/{status['name']}": int(status.get("restartCount") or 0)
        for pod in await cluster.list_all("v1", "Pod", namespace)
        for status in container_statuses(pod)
    }
    return Baseline(neighbours, restarts)


async def worse_neighbours(cluster: Cluster, plan: Plan, baseline: Baseline) -> list[str]:
    """Workloads that were ready before, and now have fewer ready pods than then and than they want."""
    now = await readiness(cluster, plan.writes[0].namespace, plan)
    return [
        name for name, before in baseline.neighbours.items() if name in now and now[name][1] < min(before, now[name][0])
    ]


async def readiness(cluster: Cluster, namespace: str, plan: Plan) -> dict[str, tuple[int, int]]:
    """(wanted, ready) pods of every workload of the namespace that the plan does not touch itself."""
    found: dict[str, tuple[int, int]] = {}
    for kind in WORKLOADS:
        for item in await cluster.list_all("apps/v1", kind, namespace):
            if not _touched(item, plan):
                found[title(item)] = replicas(item), ready_pods(item)
    return found


def ready_pods(workload: Object) -> int:
    status = workload.get("status") or {}
    return int(status.get("numberReady" if workload.get("kind") == "DaemonSet" else "readyReplicas") or 0)


def container_statuses(pod: Object) -> list[dict[str, Any]]:
    """Of all containers of a pod, init containers too."""
    status = pod.get("status") or {}
    return [item for group in ("initContainerStatuses", "containerStatuses") for item in status.get(group) or []]


def _touched(workload: Object, plan: Plan) -> bool:
    first = plan.writes[0]
    if isinstance(first, HelmWrite):
        annotations = metadata(workload).get("annotations") or {}
        return bool(annotations.get("meta.helm.sh/release-name") == first.release)
    return (workload["kind"], metadata(workload)["name"]) == (first.kind, first.name)
