"""The workload of each pod, as kube-state-metrics tells it."""

from __future__ import annotations

from datetime import datetime, timedelta

from incidents.models import ObjectRef
from tools.prometheus.client import Prometheus
from tools.prometheus.rca.catalogue import Matcher
from tools.prometheus.rca.discover import vector
from tools.prometheus.rca.windows import written
from tools.prometheus.selectors import quoted, selector

_OF = (
    ("kube_replicaset_owner", "replicaset", "ReplicaSet"),
    ("kube_job_owner", "job_name", "Job"),
)


async def owners_of(
    server: Prometheus, namespace: str | None, length: timedelta, end: datetime
) -> dict[tuple[str, str], ObjectRef]:
    """(namespace, pod) to the workload at the top of its owners, of pods that were there within the range, gone ones
    too. Empty without kube-state-metrics. Raises ToolFailed."""
    scope: list[Matcher] = [("namespace", "=", quoted(namespace))] if namespace else []
    by = "namespace, owner_kind, owner_name"

    async def asked(metric: str, name: str) -> list[dict[str, str]]:
        over = f"last_over_time({selector(metric, *scope)}[{written(length.total_seconds())}])"
        return [labels for labels, _ in vector(await server.instant(f"max by ({by}, {name}) ({over})", end))]

    above: dict[tuple[str, str, str], ObjectRef] = {}
    for metric, name, kind in _OF:
        for labels in await asked(metric, name):
            if labels.get("owner_kind", "<none>") not in ("", "<none>"):
                above[labels.get("namespace", ""), kind, labels.get(name, "")] = _owner(labels)
    found = {}
    for labels in await asked("kube_pod_owner", "pod"):
        place = labels.get("namespace", "")
        if labels.get("owner_kind", "<none>") in ("", "<none>"):
            owner = ObjectRef(kind="Pod", namespace=place or None, name=labels.get("pod", ""))
        else:
            owner = _owner(labels)
            owner = above.get((place, owner.kind, owner.name), owner)
        found[place, labels.get("pod", "")] = owner
    return found


def _owner(labels: dict[str, str]) -> ObjectRef:
    return ObjectRef(
        kind=labels["owner_kind"], namespace=labels.get("namespace") or None, name=labels.get("owner_name", "")
    )
