"""Which workload a pod belongs to, asked of the cluster where the pod alone does not say."""

from __future__ import annotations

from diagnosis.workloads.fields import Object
from diagnosis.workloads.snapshot import Snapshot
from incidents.models import ObjectRef
from tools.kubernetes.client import Cluster

_BETWEEN = {"ReplicaSet": "apps/v1", "Job": "batch/v1"}
"""What stands between a pod and the workload that people know."""


async def workload_of(cluster: Cluster, pod: Object) -> ObjectRef:
    """The workload at the top: the Deployment, not its ReplicaSet. Raises ToolFailed."""
    first = Snapshot([pod]).workload_of(pod)
    if first.kind not in _BETWEEN:
        return first
    owner = await cluster.get(_BETWEEN[first.kind], first.kind, first.namespace, first.name)
    return first if owner is None else Snapshot([pod, {**owner, "kind": first.kind}]).workload_of(pod)
