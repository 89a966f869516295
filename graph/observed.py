"""What runs in the cluster, as the chat and the workflow route may name it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from incidents.models import Diagnosis, ObjectRef
from tools.kubernetes.client import ClusterUnreachable, KubernetesError

if TYPE_CHECKING:
    from tools.kubernetes.client import Cluster
    from tools.prometheus.measure import Monitoring

_KINDS = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("v1", "Pod"),
)
_FRESH_SECONDS = 10.0
_log = structlog.get_logger(__name__)


class ObservedWorkloads:
    """The workloads of the cluster, read at most every ten seconds. Empty without a cluster."""

    def __init__(self, cluster: Cluster | None) -> None:
        self._cluster = cluster
        self._at = float("-inf")
        self._last: list[ObjectRef] = []
        self._lock = asyncio.Lock()

    async def all(self) -> list[ObjectRef]:
        """Deployments, StatefulSets, DaemonSets, Jobs, and pods that nothing owns.

        Raises ClusterUnreachable. Kinds that may not be read are left out.
        """
        if self._cluster is None:
            return []
        async with self._lock:
            if time.monotonic() - self._at >= _FRESH_SECONDS:
                self._last = await _read(self._cluster)
                self._at = time.monotonic()
            return self._last


async def _read(cluster: Cluster) -> list[ObjectRef]:
    found: list[ObjectRef] = []
    for api_version, kind in _KINDS:
        try:
            items = await cluster.list_all(api_version, kind)
        except ClusterUnreachable:
            raise
        except KubernetesError as error:
            _log.info("workloads of a kind are not readable", kind=kind, code=error.code)
            continue
        for item in items:
            metadata = item.get("metadata") or {}
            if kind == "Pod" and metadata.get("ownerReferences"):
                continue
            if metadata.get("name"):
                namespace = metadata.get("namespace")
                found.append(ObjectRef(kind=kind, namespace=namespace, name=str(metadata["name"])))
    return found


async def namespace_diagnosis(cluster: Cluster, namespace: str, monitoring: Monitoring | None = None) -> Diagnosis:
    """Look at a whole namespace by rules alone. Changes nothing, opens no incident.

    Raises NotFound for a namespace that does not exist, and what reading the cluster raises.
    """
    from diagnosis.workloads.diagnose import diagnose
    from tools.kubernetes.capture import capture

    snapshot = await capture(cluster, namespace, monitoring=monitoring)
    return await asyncio.to_thread(diagnose, snapshot, namespace=namespace)
