"""A snapshot of a namespace from a live cluster: bounded, concurrent, and honest about what it could not read.

A kind that fails (forbidden, unknown to the server, an error) is named in `unseen` and does not fail the rest. Only the
keys of ConfigMaps and Secrets are kept, of those that pods refer to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import TypeVar

from diagnosis.redaction import redact_object
from diagnosis.workloads.containers import Container
from diagnosis.workloads.fields import mapping, objects, pick, text
from diagnosis.workloads.references import references_of
from diagnosis.workloads.scope import scope_of
from diagnosis.workloads.snapshot import LogKey, Snapshot
from errors import NotFound, ToolFailed
from incidents.models import ObjectRef
from tools.kubernetes.client import Cluster, ClusterUnreachable, KubernetesError, Object

NAMESPACED = (
    ("v1", "Pod"),
    ("v1", "Event"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "ControllerRevision"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("v1", "Service"),
    ("v1", "Endpoints"),
    ("v1", "ResourceQuota"),
    ("v1", "LimitRange"),
    ("v1", "ServiceAccount"),
    ("v1", "PersistentVolumeClaim"),
)
OLDER = {("batch/v1", "CronJob"): "batch/v1beta1"}
"""Where a kind was before the version that is asked first (CronJob: until Kubernetes 1.21)."""

CONCURRENT_READS = 8
MAX_REFERENCED = 200
MAX_LOGGED_CONTAINERS = 60
LOG_BUDGET_BYTES = 8 << 20
_HELM_SECRETS = "type=helm.sh/release.v1"

T = TypeVar("T")


class _Reading:
    """The state of one capture."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.items: list[Object] = []
        self.logs: dict[LogKey, str] = {}
        self.unseen: list[str] = []
        self.complete: set[tuple[str, str]] = set()
        self.absent: set[tuple[str, str, str]] = set()
        self._gate = asyncio.Semaphore(CONCURRENT_READS)

    async def guarded(self, what: str, read: Callable[[], Awaitable[T]]) -> T | None:
        """The result, or None with the reason in `unseen`. A cluster that does not answer at all raises later."""
        async with self._gate:
            try:
                return await read()
            except KubernetesError as error:
                why = {403: "not allowed", 404: "the server does not have it"}.get(error.code, str(error))
                self.unseen.append(f"{what} could not be read: {why}")
            except ToolFailed as error:
                self.unseen.append(f"{what} could not be read: {error}")
            return None

    async def list_kind(self, version: str, kind: str, namespace: str | None, fields: str = "") -> None:
        async def read() -> list[Object]:
            try:
                return await self.cluster.list_all(version, kind, namespace, fields=fields)
            except KubernetesError as error:
                older = OLDER.get((version, kind))
                if error.code != 404 or older is None:
                    raise
                return await self.cluster.list_all(older, kind, namespace, fields=fields)

        found = await self.guarded(f"{kind} in {namespace or 'the cluster'}", read)
        if found is None:
            return
        self.items += found
        if len(found) >= self.cluster.settings.max_objects:
            self.unseen.append(f"{kind}: only the first {len(found)} were read")
        elif not fields:
            self.complete.add((kind, namespace or ""))

    async def get_one(self, kind: str, name: str) -> None:
        """A ConfigMap or Secret; its values are dropped at once."""

        async def read() -> Object | None:
            found = await self.cluster.get("v1", kind, self.namespace, name)
            return redact_object({"apiVersion": "v1", "kind": kind, **found}) if found is not None else {}

        found = await self.guarded(f"{kind} {self.namespace}/{name}", read)
        if found:
            self.items.append(found)
        elif found is not None:
            self.absent.add((kind, self.namespace, name))

    def snapshot(self) -> Snapshot:
        return Snapshot(
            self.items,
            logs=self.logs,
            observed_at=datetime.now(UTC),
            unseen=sorted(self.unseen),
            complete=self.complete,
            absent=self.absent,
        )


async def capture(cluster: Cluster, namespace: str, target: ObjectRef | None = None) -> Snapshot:
    """Read what the workload analyzers need of one namespace, with the logs of containers in trouble.

    `target` orders the log budget: its containers come first. Raises NotFound for a namespace that does not exist and
    ClusterUnreachable when the API server does not answer; any other failure is a line in the snapshot's `unseen`.
    """
    await _require_namespace(cluster, namespace)
    reading = _Reading(cluster, namespace)
    await asyncio.gather(
        *(reading.list_kind(version, kind, namespace) for version, kind in NAMESPACED),
        reading.list_kind("v1", "Node", None),
        *([reading.list_kind("v1", "Event", "default", "involvedObject.kind=Node")] if namespace != "default" else []),
    )
    await asyncio.gather(*(reading.get_one(kind, name) for kind, name in _referenced(reading)), _helm(reading))
    snapshot = reading.snapshot()
    await _read_logs(reading, _containers_that_matter(snapshot, namespace, target))
    return reading.snapshot()


async def _require_namespace(cluster: Cluster, namespace: str) -> None:
    try:
        found = await cluster.get("v1", "Namespace", None, namespace)
    except ClusterUnreachable:
        raise
    except KubernetesError:
        return  # a role that may read inside the namespace need not be allowed to read the namespace itself
    if found is None:
        raise NotFound(f"the cluster has no namespace {namespace}")


def _referenced(reading: _Reading) -> list[tuple[str, str]]:
    """ConfigMaps and Secrets that pods, templates and service accounts name."""
    names: dict[tuple[str, str], None] = {}
    for item in reading.items:
        if item.get("kind") == "ServiceAccount":
            secrets = objects(item, "imagePullSecrets")
            names |= {("Secret", text(secret, "name")): None for secret in secrets if text(secret, "name")}
            continue
        holder = item if item.get("kind") == "Pod" else mapping(item, "spec", "template")
        for reference in references_of(holder):
            if reference.kind in ("ConfigMap", "Secret"):
                names[(reference.kind, reference.name)] = None
    found = list(names)
    if len(found) > MAX_REFERENCED:
        reading.unseen.append(
            f"{len(found) - MAX_REFERENCED} referenced ConfigMaps and Secrets were not read: too many"
        )
    return found[:MAX_REFERENCED]


async def _helm(reading: _Reading) -> None:
    """The releases of a namespace in which helm owns something; of their Secrets only the metadata is kept."""
    owned = any(pick(item, "metadata", "annotations", "meta.helm.sh/release-name") for item in reading.items)
    if not owned:
        return

    async def read() -> list[Object]:
        found = await reading.cluster.list_all("v1", "Secret", reading.namespace, fields=_HELM_SECRETS)
        return [{**redact_object(item), "data": {}} for item in found]

    reading.items += await reading.guarded(f"helm releases in {reading.namespace}", read) or []


def _containers_that_matter(snapshot: Snapshot, namespace: str, target: ObjectRef | None) -> list[Container]:
    """Containers in trouble, the target's first."""
    ordered: dict[tuple[str, str], Container] = {}
    scopes = [scope_of(snapshot, target, namespace)] if target else []
    for scope in [*scopes, scope_of(snapshot, None, namespace)]:
        for container in scope.troubled:
            ordered.setdefault((container.pod_name, container.name), container)
    return list(ordered.values())


async def _read_logs(reading: _Reading, containers: Iterable[Container]) -> None:
    chosen = list(containers)
    if len(chosen) > MAX_LOGGED_CONTAINERS:
        reading.unseen.append(f"logs of {len(chosen) - MAX_LOGGED_CONTAINERS} more containers were not read: too many")
    spent = 0

    async def read_one(container: Container, previous: bool) -> None:
        nonlocal spent
        if spent >= LOG_BUDGET_BYTES:
            reading.unseen.append(f"log of {container.pod_name}/{container.name} was not read: budget used up")
            return
        pod, name = container.pod_name, container.name

        async def read() -> str | None:
            try:
                return await reading.cluster.log(reading.namespace, pod, name, previous=previous)
            except KubernetesError as error:
                if error.code == 400:  # it has not started yet, or has no instance before this one
                    return None
                raise

        which = "previous log" if previous else "log"
        content = await reading.guarded(f"{which} of {pod}/{name}", read)
        # containerd's own words when the file of a removed instance is gone
        if content is not None and not content.startswith("unable to retrieve container logs for "):
            spent += len(content)
            reading.logs[reading.namespace, pod, name, previous] = content

    wanted = [
        (container, previous)
        for container in chosen[:MAX_LOGGED_CONTAINERS]
        for previous in (True, False)
        if not previous or isinstance(pick(container.status, "lastState", "terminated"), dict)
    ]
    await asyncio.gather(*(read_one(container, previous) for container, previous in wanted))
