"""A snapshot of a namespace from a live cluster: bounded, concurrent, and honest about what it could not read.

Beside the namespace's own objects it holds what they rest on: nodes, volumes, admission webhooks, the cluster's own
services. A kind that fails (forbidden, unknown to the server, an error) is named in `unseen`, and the rest is read. Of
ConfigMaps and Secrets the names are kept, and the keys of those that pods refer to; never a value. Where monitoring
servers are given, measurements and alerts are read beside the objects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import TypeVar

from diagnosis.redaction import redact_object
from diagnosis.workloads.containers import Container
from diagnosis.workloads.fields import mapping, objects, pick, text
from diagnosis.workloads.metrics import Alert, Series
from diagnosis.workloads.references import references_of
from diagnosis.workloads.scope import scope_of
from diagnosis.workloads.snapshot import LogKey, Snapshot
from errors import NotFound, ToolFailed
from incidents.models import ObjectRef
from tools.kubernetes.client import Cluster, ClusterUnreachable, KubernetesError, Object
from tools.kubernetes.kinds import AROUND, HERE, NAMESPACED, NODE_EVENTS, OF_THE_SYSTEM, SYSTEM, Reading
from tools.prometheus.measure import Monitoring

CONCURRENT_READS = 8
MAX_REFERENCED = 200
MAX_CLUSTER_ROLES = 40
MAX_LOGGED_CONTAINERS = 60
MAX_SYSTEM_LOGS = 12
"""Containers in trouble of the cluster's own pods (name servers, kube-proxy): read after the namespace's."""
LOG_BUDGET_BYTES = 8 << 20
RBAC = "rbac.authorization.k8s.io/v1"
_HELM_SECRETS = "type=helm.sh/release.v1"

T = TypeVar("T")


class _Capture:
    """The state of one capture."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.items: list[Object] = []
        self.logs: dict[LogKey, str] = {}
        self.series: list[Series] = []
        self.alerts: list[Alert] = []
        self.unseen: list[str] = []
        self.complete: set[tuple[str, str]] = set()
        self.absent: set[tuple[str, str, str]] = set()
        self.names: list[Object] = []  # known by name alone: whatever is also read in full replaces it
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

    async def list_kind(self, reading: Reading) -> None:
        namespace = self.namespace if reading.namespace == HERE else reading.namespace

        async def read() -> list[Object]:
            for version in reading.versions:
                try:
                    return await self.cluster.list_all(
                        version, reading.kind, namespace, fields=reading.fields, names_only=reading.names_only
                    )
                except KubernetesError as error:
                    if error.code != 404:
                        raise
                    last = error
            if reading.optional:
                return []
            raise last

        what = f"{reading.kind} names" if reading.names_only else reading.kind
        found = await self.guarded(f"{what} in {namespace or 'the cluster'}", read)
        if found is None:
            return
        kept = [item for item in found if not reading.only or text(item, "metadata", "name") in reading.only]
        (self.names if reading.names_only else self.items).extend(kept)
        if len(found) >= self.cluster.settings.max_objects:
            self.unseen.append(f"{reading.kind}: only the first {len(found)} were read")
        elif not reading.fields and not reading.only:
            self.complete.add((reading.kind, namespace or ""))

    async def get_one(self, kind: str, name: str, version: str = "v1", namespace: str | None = None) -> None:
        """A ConfigMap, a Secret (their values are dropped at once), or what a binding refers to."""

        async def read() -> Object | None:
            found = await self.cluster.get(version, kind, namespace, name)
            return redact_object({"apiVersion": version, "kind": kind, **found}) if found is not None else {}

        found = await self.guarded(f"{kind} {f'{namespace}/' if namespace else ''}{name}", read)
        if found:
            self.items.append(found)
        elif found is not None:
            self.absent.add((kind, namespace or "", name))
        else:
            self.complete.discard((kind, namespace or ""))  # it may be there all the same

    def known_by_name(self, referenced: Iterable[tuple[str, str]]) -> list[Object]:
        """Objects of which only the name is known; not those whose content should have been read and was not."""
        asked = {(kind, self.namespace, name) for kind, name in referenced}
        return [
            item
            for item in self.names
            if (item["kind"], text(item, "metadata", "namespace"), text(item, "metadata", "name")) not in asked
        ]

    def snapshot(self) -> Snapshot:
        return Snapshot(
            self.items,
            focus=self.namespace,
            logs=self.logs,
            observed_at=datetime.now(UTC),
            unseen=sorted(self.unseen),
            complete=self.complete,
            absent=self.absent,
            series=self.series,
            alerts=self.alerts,
        )


async def capture(
    cluster: Cluster, namespace: str, target: ObjectRef | None = None, monitoring: Monitoring | None = None
) -> Snapshot:
    """Read what the workload analyzers need of one namespace, with the logs of containers in trouble.

    `target` orders the log budget: its containers come first. Raises NotFound for a namespace that does not exist and
    ClusterUnreachable when the API server does not answer; any other failure, of `monitoring` too, is a line in the
    snapshot's `unseen`.
    """
    await _require_namespace(cluster, namespace)
    reading = _Capture(cluster, namespace)
    lists = [*NAMESPACED, *AROUND]
    lists += OF_THE_SYSTEM if namespace != SYSTEM else ()
    lists += [NODE_EVENTS] if namespace != "default" else []
    await asyncio.gather(*(reading.list_kind(wanted) for wanted in lists))
    referenced = _referenced(reading)
    reading.items += reading.known_by_name(referenced)
    await asyncio.gather(
        *(reading.get_one(kind, name, namespace=namespace) for kind, name in _bounded(reading, referenced)),
        *(reading.get_one("ClusterRole", name, RBAC) for name in _cluster_roles(reading)),
        _helm(reading),
    )
    snapshot = reading.snapshot()
    await asyncio.gather(
        _read_logs(reading, snapshot, target),
        _measure(reading, monitoring),
    )
    return reading.snapshot()


async def _measure(reading: _Capture, monitoring: Monitoring | None) -> None:
    """Of the namespace, and of the nodes that its pods run on (by name and address)."""
    if monitoring is None:
        return
    used = {
        text(item, "spec", "nodeName")
        for item in reading.items
        if item.get("kind") == "Pod" and text(item, "metadata", "namespace") == reading.namespace
    }
    names: dict[str, None] = {}
    for item in reading.items:
        if item.get("kind") == "Node" and text(item, "metadata", "name") in used:
            names[text(item, "metadata", "name")] = None
            names |= {text(entry, "address"): None for entry in objects(item, "status", "addresses")}
    measured = await monitoring.measure(reading.namespace, [name for name in names if name])
    reading.series, reading.alerts = measured.series, measured.alerts
    reading.unseen += measured.unseen


async def _require_namespace(cluster: Cluster, namespace: str) -> None:
    try:
        found = await cluster.get("v1", "Namespace", None, namespace)
    except ClusterUnreachable:
        raise
    except KubernetesError:
        return  # a role that may read inside the namespace need not be allowed to read the namespace itself
    if found is None:
        raise NotFound(f"the cluster has no namespace {namespace}")


def _referenced(reading: _Capture) -> list[tuple[str, str]]:
    """ConfigMaps and Secrets that pods, templates and service accounts name."""
    names: dict[tuple[str, str], None] = {}
    for item in reading.items:
        if text(item, "metadata", "namespace") != reading.namespace:
            continue
        if item.get("kind") == "ServiceAccount":
            secrets = objects(item, "imagePullSecrets")
            names |= {("Secret", text(secret, "name")): None for secret in secrets if text(secret, "name")}
            continue
        job = mapping(item, "spec", "jobTemplate") or item
        holder = item if item.get("kind") == "Pod" else mapping(job, "spec", "template")
        for reference in references_of(holder):
            if reference.kind in ("ConfigMap", "Secret"):
                names[(reference.kind, reference.name)] = None
    return list(names)


def _bounded(reading: _Capture, referenced: list[tuple[str, str]]) -> list[tuple[str, str]]:
    left = referenced[MAX_REFERENCED:]
    if left:
        reading.unseen.append(f"{len(left)} referenced ConfigMaps and Secrets were not read: too many")
        reading.complete -= {(kind, reading.namespace) for kind, _ in left}
    return referenced[:MAX_REFERENCED]


def _cluster_roles(reading: _Capture) -> list[str]:
    """Cluster roles that are given to accounts of the namespace."""
    groups = {"system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{reading.namespace}"}
    names: dict[str, None] = {}
    for item in reading.items:
        if item.get("kind") not in ("ClusterRoleBinding", "RoleBinding"):
            continue
        for subject in objects(item, "subjects"):
            account = subject.get("kind") == "ServiceAccount" and subject.get("namespace") == reading.namespace
            if (account or subject.get("name") in groups) and text(item, "roleRef", "kind") == "ClusterRole":
                names[text(item, "roleRef", "name")] = None
    return sorted(name for name in names if name)[:MAX_CLUSTER_ROLES]


async def _helm(reading: _Capture) -> None:
    """The releases of a namespace in which helm owns something; of their Secrets only the metadata is kept."""
    owned = any(pick(item, "metadata", "annotations", "meta.helm.sh/release-name") for item in reading.items)
    if not owned:
        return

    async def read() -> list[Object]:
        found = await reading.cluster.list_all("v1", "Secret", reading.namespace, fields=_HELM_SECRETS)
        return [{**redact_object(item), "data": {}} for item in found]

    reading.items += await reading.guarded(f"helm releases in {reading.namespace}", read) or []


def _containers_that_matter(snapshot: Snapshot, namespace: str, target: ObjectRef | None) -> list[Container]:
    """Containers of the namespace in trouble, the target's first."""
    ordered: dict[tuple[str, str], Container] = {}
    scopes = [scope_of(snapshot, target, namespace)] if target else []
    for scope in [*scopes, scope_of(snapshot, None, namespace)]:
        for container in scope.troubled:
            ordered.setdefault((container.pod_name, container.name), container)
    return list(ordered.values())


async def _read_logs(reading: _Capture, snapshot: Snapshot, target: ObjectRef | None) -> None:
    """Of the namespace's containers in trouble, then of the cluster's own."""
    found = _containers_that_matter(snapshot, reading.namespace, target)
    if len(found) > MAX_LOGGED_CONTAINERS:
        reading.unseen.append(f"logs of {len(found) - MAX_LOGGED_CONTAINERS} more containers were not read: too many")
    system = scope_of(snapshot, None, SYSTEM).troubled if reading.namespace != SYSTEM else []
    chosen = [*found[:MAX_LOGGED_CONTAINERS], *system[:MAX_SYSTEM_LOGS]]
    spent = 0

    async def read_one(container: Container, previous: bool) -> None:
        nonlocal spent
        if spent >= LOG_BUDGET_BYTES:
            reading.unseen.append(f"log of {container.pod_name}/{container.name} was not read: budget used up")
            return
        pod, name = container.pod_name, container.name

        async def read() -> str | None:
            try:
                return await reading.cluster.log(container.namespace, pod, name, previous=previous)
            except KubernetesError as error:
                if error.code == 400:  # it has not started yet, or has no instance before this one
                    return None
                raise

        which = "previous log" if previous else "log"
        content = await reading.guarded(f"{which} of {pod}/{name}", read)
        # containerd's own words when the file of a removed instance is gone
        if content is not None and not content.startswith("unable to retrieve container logs for "):
            spent += len(content)
            reading.logs[container.namespace, pod, name, previous] = content

    wanted = [
        (container, previous)
        for container in chosen
        for previous in (True, False)
        if not previous or isinstance(pick(container.status, "lastState", "terminated"), dict)
    ]
    await asyncio.gather(*(read_one(container, previous) for container, previous in wanted))
