"""What a namespace is meant to be, before and after: every object's spec, by which collateral change is told.

Status, bookkeeping of the server, and what controllers write by themselves are not part of it. Values of Secrets are
compared by their hash.
"""

from __future__ import annotations

import asyncio
import hashlib
import json

from evals.kube import Kube, Object

KINDS = (
    "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Service", "ConfigMap", "Secret", "ServiceAccount",
    "PersistentVolumeClaim", "Ingress", "NetworkPolicy", "HorizontalPodAutoscaler", "PodDisruptionBudget",
    "ResourceQuota", "LimitRange", "Role", "RoleBinding",
)  # fmt: skip
_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")
_VOLATILE = (
    "deployment.kubernetes.io/", "pv.kubernetes.io/", "volume.beta.kubernetes.io/", "deprecated.daemonset.",
    "autoscaling.alpha.kubernetes.io/", "control-plane.alpha.kubernetes.io/",
)  # fmt: skip
"""Annotations that controllers write."""

State = dict[str, str]
"""KIND/NAME to the canonical text of what it is meant to be."""


async def state_of(kube: Kube, untouchable: tuple[str, ...] = ()) -> State:
    """All specs of the namespace, the nodes' specs, and the identity of the pods whose name begins so."""
    lists = await asyncio.gather(*(kube.all(kind) for kind in KINDS))
    items = [item for items in lists for item in items if not _derived(item)]
    found = {f"{item['kind']}/{item['metadata']['name']}": meant(item) for item in items}
    for node in (await kube.cluster.request("GET", "/api/v1/nodes")).get("items") or []:
        spec = node.get("spec") or {}
        kept = {"unschedulable": spec.get("unschedulable"), "taints": _own_taints(spec.get("taints") or [])}
        found[f"Node/{node['metadata']['name']}"] = json.dumps(kept, sort_keys=True)
    for pod in await kube.all("Pod"):
        if pod["metadata"]["name"].startswith(untouchable) and untouchable:
            found[f"Pod/{pod['metadata']['name']}"] = str(pod["metadata"]["uid"])
    return found


def _derived(item: Object) -> bool:
    """Whether a controller made it, from what somebody meant: a CronJob's Jobs come and go."""
    return any(owner.get("controller") for owner in (item.get("metadata") or {}).get("ownerReferences") or [])


def meant(item: Object) -> str:
    """Canonical JSON of what an object is meant to be."""
    rest = {key: value for key, value in item.items() if key not in ("status", "metadata", "apiVersion", "kind")}
    metadata = {key: value for key in _METADATA if (value := (item.get("metadata") or {}).get(key))}
    notes = metadata.get("annotations")
    if isinstance(notes, dict):
        metadata["annotations"] = {key: value for key, value in notes.items() if not key.startswith(_VOLATILE)}
    if item.get("kind") == "Secret":
        rest["data"] = hashlib.sha256(json.dumps(item.get("data"), sort_keys=True).encode()).hexdigest()
    if item.get("kind") == "PersistentVolumeClaim" and isinstance(rest.get("spec"), dict):
        rest["spec"] = {key: value for key, value in rest["spec"].items() if key != "volumeName"}
    if item.get("kind") == "ServiceAccount":
        rest.pop("secrets", None)  # its token is made when it is made
    return json.dumps({"metadata": {k: v for k, v in metadata.items() if v}, **rest}, sort_keys=True)


def changed(before: State, after: State) -> list[str]:
    """KIND/NAME of everything that is not as it was: changed, gone or new. Nodes come and go by themselves."""
    found = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    return sorted(key for key in found if not key.startswith("Node/") or (key in before and key in after))


def _own_taints(taints: list[Object]) -> list[Object]:
    """Without those that the node controller sets and takes away by itself."""
    return [taint for taint in taints if not str(taint.get("key", "")).startswith("node.kubernetes.io/")]
