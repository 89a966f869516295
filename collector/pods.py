"""What the cluster says about the pods of a node: the container a core came from, its image, its workload.

Only reads. Where the cluster is not reachable, what the core's path says is all, and a later look may add to it.
"""

from __future__ import annotations

import re

from collector.places import Place
from diagnosis.workloads.containers import Container, containers_of
from diagnosis.workloads.fields import Object, mapping, text
from diagnosis.workloads.snapshot import Snapshot
from incidents.collected import Origin
from incidents.models import ObjectRef
from tools.kubernetes.client import Cluster
from tools.kubernetes.owners import workload_of

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MOST_OWNERS = 5000


class Pods:
    """Pods of one node. `node` is the node's name, as the cluster knows it."""

    def __init__(self, cluster: Cluster | None, node: str) -> None:
        self._cluster = cluster
        self._node = node
        self._owners: dict[tuple[str | None, str, str], ObjectRef] = {}

    async def on_node(self) -> list[Object]:
        """The node's pods, as the API server's cache has them. Raises ToolFailed."""
        if self._cluster is None:
            return []
        return await self._cluster.list_all("v1", "Pod", fields=f"spec.nodeName={self._node}")

    async def origin(self, place: Place) -> Origin:
        """As much as can be known about where a core came from. Raises ToolFailed when the cluster does not answer."""
        found = Origin(namespace=place.namespace, pod=place.pod, pod_uid=place.pod_uid, container=place.container)
        if self._cluster is None:
            return found
        pod = await self._cluster.get("v1", "Pod", place.namespace, place.pod)
        uid = text(pod, "metadata", "uid")
        if pod is None or (place.pod_uid and place.pod_uid != uid):
            return found.model_copy(update={"node": self._node})  # it is gone, and another has its name
        container = next((item for item in containers_of(pod) if item.name == place.container), None)
        return await self.of_container(pod, container, found.model_copy(update={"pod_uid": uid}))

    async def of_container(self, pod: Object, container: Container | None, found: Origin | None = None) -> Origin:
        """The origin of a container of a pod that was read. Raises ToolFailed when the cluster does not answer."""
        owner = await self._owner(pod)
        metadata = mapping(pod, "metadata")
        base = found or Origin(namespace=text(metadata, "namespace"), pod=text(metadata, "name"))
        told: dict[str, object] = {
            "pod_uid": text(metadata, "uid") or base.pod_uid,
            "node": text(pod, "spec", "nodeName") or self._node,
            "host_ip": text(pod, "status", "hostIP")[:64] or None,
            "owner": owner,
        }
        if container is not None:
            digest = _DIGEST.search(text(container.status, "imageID"))
            told |= {
                "container": container.name,
                "init": container.section == "initContainers",
                "image": container.image or None,
                "image_digest": digest.group() if digest else None,
                "restart_count": container.restarts,
                "last_state": _last_state(container),
            }
        return base.model_copy(update=told)

    async def _owner(self, pod: Object) -> ObjectRef:
        """The workload at the top; asked for once an owner."""
        first = Snapshot([pod]).workload_of(pod)
        if self._cluster is None:
            return first
        key = first.namespace, first.kind, first.name
        if key not in self._owners:
            if len(self._owners) >= _MOST_OWNERS:
                self._owners.clear()
            self._owners[key] = await workload_of(self._cluster, pod)
        return self._owners[key]


def _last_state(container: Container) -> str | None:
    for field in ("state", "lastState"):
        ended = mapping(container.status, field, "terminated")
        if ended:
            return f"{text(ended, 'reason') or 'Terminated'}, exit code {ended.get('exitCode')}"
    return None
