"""Pods that hold up the rollout of a StatefulSet.

With `podManagementPolicy: OrderedReady` (the default) the controller waits for a pod of the old revision to become
ready before it replaces any, so a corrected template alone never reaches a pod that cannot become ready
(https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback). The plan then also deletes
these pods, by uid, after the patch; the controller makes them again from the new template.
"""

from __future__ import annotations

from actions.health import is_ready
from actions.objects import controller_of, fingerprint, label_selector, metadata, uid
from incidents.plan import DeleteWrite
from tools.kubernetes.client import Cluster, Object


async def stuck_pods(cluster: Cluster, live: Object) -> list[DeleteWrite]:
    """The deletions that a new template of `live` needs; none for other kinds than such a StatefulSet."""
    spec = live.get("spec") or {}
    if live["kind"] != "StatefulSet" or spec.get("podManagementPolicy") == "Parallel":
        return []
    pods = await cluster.list_all("v1", "Pod", str(metadata(live)["namespace"]), labels=label_selector(live))
    return [
        DeleteWrite(
            api_version="v1",
            kind="Pod",
            namespace=str(metadata(pod)["namespace"]),
            name=str(metadata(pod)["name"]),
            uid=uid(pod),
            resource_version=str(metadata(pod)["resourceVersion"]),
            fingerprint=fingerprint(pod),
        )
        for pod in sorted(pods, key=lambda item: str(metadata(item)["name"]))
        if (controller_of(pod) or {}).get("uid") == uid(live)
        and not metadata(pod).get("deletionTimestamp")
        and not is_ready(pod)
    ]
