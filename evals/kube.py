"""The cluster as the injector and the state checks use it: plain objects, and nothing of Paramedic's judgement."""

from __future__ import annotations

import json
from typing import Any

from tools.kubernetes.client import Cluster, KubernetesError

Object = dict[str, Any]

VERSIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"), ("apps/v1",)),
    "Job": ("batch/v1",),
    "CronJob": ("batch/v1", "batch/v1beta1"),
    "HorizontalPodAutoscaler": ("autoscaling/v1",),
    "PodDisruptionBudget": ("policy/v1", "policy/v1beta1"),
    "Ingress": ("networking.k8s.io/v1", "networking.k8s.io/v1beta1"),
    "NetworkPolicy": ("networking.k8s.io/v1",),
    "StorageClass": ("storage.k8s.io/v1",),
    **dict.fromkeys(("Role", "RoleBinding"), ("rbac.authorization.k8s.io/v1",)),
    "Lease": ("coordination.k8s.io/v1",),
    "ValidatingWebhookConfiguration": ("admissionregistration.k8s.io/v1",),
}
CLUSTER_KINDS = {"Namespace", "Node", "PersistentVolume", "StorageClass", "ValidatingWebhookConfiguration"}


class Kube:
    """Objects of one namespace (and of the cluster) by kind and name."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    async def path(self, kind: str, name: str | None = None) -> str:
        """The URL path in the first API version that the server has."""
        versions = VERSIONS.get(kind, ("v1",))
        for version in versions:
            try:
                return await self.cluster.path(version, kind, None if kind in CLUSTER_KINDS else self.namespace, name)
            except KubernetesError as error:
                if error.code != 404 or version == versions[-1]:
                    raise
        raise AssertionError("unreachable")

    async def create(self, item: Object) -> Object:
        path = await self.path(item["kind"])
        version = path.split("/apis/")[1].split("/namespaces/")[0] if path.startswith("/apis/") else "v1"
        version = "/".join(version.split("/")[:2])
        return await self.cluster.request("POST", path, body=json.dumps({**item, "apiVersion": version}).encode())

    async def find(self, kind: str, name: str) -> Object | None:
        try:
            return await self.cluster.request("GET", await self.path(kind, name))
        except KubernetesError as error:
            if error.code == 404:
                return None
            raise

    async def all(self, kind: str) -> list[Object]:
        """All objects of a kind in the namespace; none where the server does not know the kind."""
        try:
            found = await self.cluster.request("GET", await self.path(kind))
        except KubernetesError as error:
            if error.code == 404:
                return []
            raise
        return [{"kind": kind, **item} for item in found.get("items") or []]

    async def patch(self, kind: str, name: str, ops: list[Object]) -> Object:
        body = json.dumps(ops).encode()
        return await self.cluster.request(
            "PATCH", await self.path(kind, name), body=body, content_type="application/json-patch+json"
        )

    async def set_status(self, kind: str, name: str, status: Object) -> None:
        path = f"{await self.path(kind, name)}/status"
        body = json.dumps({"status": status}).encode()
        await self.cluster.request("PATCH", path, body=body, content_type="application/merge-patch+json")

    async def delete(self, kind: str, name: str, *, grace: int | None = None) -> None:
        """Delete; what is gone already is fine."""
        query = {} if grace is None else {"gracePeriodSeconds": str(grace)}
        try:
            await self.cluster.request("DELETE", await self.path(kind, name), query=query)
        except KubernetesError as error:
            if error.code != 404:
                raise

    async def container_statuses(self, name: str) -> list[Object]:
        """Status of every container of this name, in pods that are not being deleted."""
        found = []
        for pod in await self.all("Pod"):
            if pod["metadata"].get("deletionTimestamp"):
                continue
            status = pod.get("status") or {}
            for item in [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]:
                if item.get("name") == name:
                    found.append(item)
        return found
