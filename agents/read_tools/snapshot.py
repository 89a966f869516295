"""Tools over the snapshot that the rules saw: what hangs together, of one moment, and no request to the cluster.

A model asks these to test a hypothesis: does the Service have endpoints, does what the pod refers to exist, what did
the last revision change. What was not read is told as unknown, never as absent.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from agents.read_tools.arguments import MAX_ROWS, NAME, Args, Workload, within
from agents.read_tools.rows import TEXT_CHARS, change_rows, healthy_before, pairs, pod_rows, reading, revision_row
from agents.tool_loop import Reading, ReadTool
from diagnosis.workloads.addresses import Address
from diagnosis.workloads.containers import containers_of
from diagnosis.workloads.evidence import api_path
from diagnosis.workloads.fields import Object, condition, mapping, objects, pick, text
from diagnosis.workloads.node_fit import shown, used_of
from diagnosis.workloads.references import references_of
from diagnosis.workloads.services import named_place, ports_of, selector_of, services_of
from diagnosis.workloads.snapshot import Snapshot, ref_of
from errors import NotFound
from incidents.models import EvidenceKind, Moment, ObjectRef

_PODS_SHOWN = 20


_MAY_BE_AT_FAULT = (
    "Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job", "Pod", "Service", "Ingress", "ConfigMap", "Secret",
    "PersistentVolumeClaim", "NetworkPolicy", "HorizontalPodAutoscaler", "PodDisruptionBudget", "ResourceQuota",
    "LimitRange",
)  # fmt: skip


class OfWorkload(Args):
    kind: Workload
    namespace: str
    name: str = NAME


class OfService(Args):
    namespace: str
    name: str = NAME


class OfConfig(Args):
    kind: Literal["ConfigMap"] = "ConfigMap"
    namespace: str
    name: str = NAME


class OfNode(Args):
    name: str = NAME


class OfNamespace(Args):
    namespace: str


class OfTime(Args):
    since: datetime | None = Field(default=None, description="RFC 3339; only what happened then or later")
    contains: str | None = Field(default=None, max_length=100, description="Only entries that contain this")


class _SnapshotReader:
    def __init__(self, snapshot: Snapshot, namespaces: Collection[str], timeline: Sequence[Moment]) -> None:
        self._snapshot = snapshot
        self._namespaces = frozenset(namespaces)
        self._timeline = timeline

    async def pods(self, args: OfWorkload) -> Reading:
        item, found = self._workload(args)
        rows = [line for pod in found[:_PODS_SHOWN] for line in pod_rows(pod)]
        return reading(rows, f"GET {api_path(item)} with its pods", [item, *found[:_PODS_SHOWN]])

    async def endpoints(self, args: OfService) -> Reading:
        snapshot, namespace = self._snapshot, within(self._namespaces, args.namespace)
        service = self._get("Service", namespace, args.name)
        rows = [f"Service {args.name}: type {text(service, 'spec', 'type')}, selector {pairs(selector_of(service))}"]
        rows += [f"port {port.port} to {port.target} {port.protocol} {port.name}" for port in ports_of(service)]
        pods = services_of(snapshot).pods(service)
        rows.append(f"selected pods: {len(pods)}" if snapshot.looked_at("Pod", namespace) else "pods were not read")
        for pod in pods[:_PODS_SHOWN]:
            ports = [f"{name or '-'}={number}" for item in containers_of(pod) for name, number in item.ports()]
            ready = text(condition(pod, "Ready"), "status") or "unknown"
            rows.append(f"pod {text(pod, 'metadata', 'name')} ready={ready} declares {', '.join(ports) or 'no port'}")
        rows += self._addresses(namespace, args.name)
        return reading(rows, f"GET {api_path(service)} with its endpoints and pods", [service, *pods[:_PODS_SHOWN]])

    async def references(self, args: OfWorkload) -> Reading:
        item, _ = self._workload(args)
        holder = mapping(item, "spec", "template") or mapping(item, "spec", "jobTemplate", "spec", "template") or item
        rows, seen = [], [item]
        for found in references_of(holder):
            known = self._get_or_none(found.kind, args.namespace, found.name)
            keys = set(mapping(known, "data")) if known is not None and "data" in known else None
            there = self._exists(found.kind, args.namespace, found.name)
            key = f" key {found.key}" if found.key else ""
            if found.key and keys is not None:
                key += " (is there)" if found.key in keys else " (is not there)"
            rows.append(f"{found.kind} {found.name}{key}: {there}{', optional' if found.optional else ''}")
            seen += [known] if known is not None else []
        if account := text(holder, "spec", "serviceAccountName"):
            rows.append(f"ServiceAccount {account}: {self._exists('ServiceAccount', args.namespace, account)}")
        services = services_of(self._snapshot)
        for address in services.addresses(holder):
            service = services.resolve(args.namespace, address.host)
            leads_to = self._place(args.namespace, address, service)
            rows.append(f"address {address.host}:{address.port or '?'} in {address.at}: {leads_to}")
            seen += [service] if service is not None else []
        return reading(dict.fromkeys(rows), f"GET {api_path(item)} and what it refers to", seen)

    async def revisions(self, args: OfWorkload) -> Reading:
        item, _ = self._workload(args)
        found = self._snapshot.revisions(ref_of(item))
        if not found:
            raise NotFound(f"no revisions of {args.kind} {args.name} were read")
        rows = [revision_row(revision) for revision in found[-10:]]
        if len(found) > 1:
            rows += change_rows(healthy_before(found), found[-1])
        return reading(rows, f"GET {api_path(item)} with its revisions", [item])

    async def keys(self, args: OfConfig) -> Reading:
        item = self._get("ConfigMap", within(self._namespaces, args.namespace), args.name)
        if "data" not in item and "binaryData" not in item:
            return reading(["it exists; its keys were not read"], f"GET {api_path(item)}", [item])
        return reading([*mapping(item, "data"), *mapping(item, "binaryData")], f"GET {api_path(item)} (keys)", [item])

    async def node(self, args: OfNode) -> Reading:
        item = self._get("Node", None, args.name)
        rows = [f"unschedulable: {pick(item, 'spec', 'unschedulable') is True}"]
        for found in objects(item, "status", "conditions"):
            rows.append(
                f"{text(found, 'type')}={text(found, 'status')} since {text(found, 'lastTransitionTime')}: "
                f"{text(found, 'reason')} {text(found, 'message')}"
            )
        rows += [f"taint {text(taint, 'key')}:{text(taint, 'effect')}" for taint in objects(item, "spec", "taints")]
        rows.append(f"allocatable {pairs(mapping(item, 'status', 'allocatable'))}")
        used = used_of(self._snapshot).get(args.name, {})
        rows.append("asked for by the pods that were read: " + pairs({k: shown(k, v) for k, v in used.items()}))
        lease = self._snapshot.get("Lease", "kube-node-lease", args.name)
        rows.append(f"lease renewed {text(lease, 'spec', 'renewTime') or 'unknown'}, looked at {self._now()}")
        return reading(rows, f"GET {api_path(item)} with its lease", [item])

    async def quota(self, args: OfNamespace) -> Reading:
        namespace = within(self._namespaces, args.namespace)
        quotas, ranges = (self._snapshot.all(kind, namespace) for kind in ("ResourceQuota", "LimitRange"))
        rows = [
            f"ResourceQuota {_name(item)}: {name} {mapping(item, 'status', 'used').get(name)} of {hard}"
            for item in quotas
            for name, hard in (mapping(item, "status", "hard") or mapping(item, "spec", "hard")).items()
        ]
        rows += [
            f"LimitRange {_name(item)}: {json.dumps(limit, ensure_ascii=False)}"
            for item in ranges
            for limit in objects(item, "spec", "limits")
        ]
        source = f"GET /api/v1/namespaces/{namespace}/resourcequotas and limitranges"
        for kind in ("ResourceQuota", "LimitRange"):
            if not self._snapshot.looked_at(kind, namespace):
                rows.append(f"{kind} was not read")
        return reading(rows or ["(none)"], source, [*quotas, *ranges])

    async def timeline(self, args: OfTime) -> Reading:
        since = args.since
        if since is not None and since.tzinfo is None:
            since = since.replace(tzinfo=UTC)
        rows = [
            f"{item.at:%Y-%m-%dT%H:%M:%SZ} {item.kind.value} {item.object or ''}: {item.text}"
            for item in self._timeline
            if since is None or item.at >= since
        ]
        rows = [row for row in rows if (args.contains or "") in row]
        return Reading("\n".join(rows[-MAX_ROWS:])[-TEXT_CHARS:] or "(nothing)", "the timeline", EvidenceKind.HISTORY)

    def _workload(self, args: OfWorkload) -> tuple[Object, list[Object]]:
        namespace = within(self._namespaces, args.namespace)
        item = self._get(args.kind, namespace, args.name)
        return item, self._snapshot.pods_of(ref_of(item))

    def _get(self, kind: str, namespace: str | None, name: str) -> Object:
        found = self._get_or_none(kind, namespace, name)
        if found is None:
            there = self._exists(kind, namespace, name)
            raise NotFound(f"{kind} {name} in {namespace or 'the cluster'}: {there}")
        return found

    def _get_or_none(self, kind: str, namespace: str | None, name: str) -> Object | None:
        return self._snapshot.get(kind, namespace, name)

    def _exists(self, kind: str, namespace: str | None, name: str) -> str:
        lacks = self._snapshot.lacks(kind, namespace, name)
        return {True: "does not exist", False: "exists", None: "was not read"}[lacks]

    def _addresses(self, namespace: str, name: str) -> list[str]:
        """The addresses behind a Service, as Endpoints and EndpointSlices say."""
        rows = []
        item = self._snapshot.get("Endpoints", namespace, name)
        if item is None:
            rows.append(f"Endpoints {name}: {self._exists('Endpoints', namespace, name)}")
        for subset in objects(item, "subsets"):
            ports = ", ".join(str(port.get("port")) for port in objects(subset, "ports"))
            for field, word in (("addresses", "ready"), ("notReadyAddresses", "not ready")):
                addresses = [text(address, "ip") for address in objects(subset, field)]
                if addresses:
                    rows.append(f"Endpoints {word}: {', '.join(addresses[:_PODS_SHOWN])} ports {ports or 'none'}")
        if item is not None and not objects(item, "subsets"):
            rows.append("Endpoints: no address")
        for piece in self._snapshot.all("EndpointSlice", namespace):
            if pick(piece, "metadata", "labels", "kubernetes.io/service-name") == name:
                ready = [pick(end, "conditions", "ready") is not False for end in objects(piece, "endpoints")]
                slice_name = text(piece, "metadata", "name")
                rows.append(f"EndpointSlice {slice_name}: {sum(ready)} ready of {len(ready)}")
        return rows

    def _place(self, namespace: str, address: Address, service: Object | None) -> str:
        """What an address in a configuration leads to."""
        if service is not None:
            offered = ""
            if address.port is not None:
                known = address.port in [item.port for item in ports_of(service)]
                offered = ", which offers this port" if known else ", which does not offer this port"
            return f"Service {text(service, 'metadata', 'namespace')}/{_name(service)}{offered}"
        place = named_place(namespace, address.host)
        if place is None:
            return "no name of a Service"
        return f"Service {place[1]}/{place[0]} {self._exists('Service', place[1], place[0])}"

    def _now(self) -> str:
        return f"{self._snapshot.observed_at:%Y-%m-%dT%H:%M:%SZ}"


def objects_of(snapshot: Snapshot, namespaces: Collection[str]) -> list[ObjectRef]:
    """The objects that a hypothesis may be about: what was read of `namespaces`, and nodes. Pods and Jobs that
    something above them makes are left out: the cause lies there."""
    found = [
        ref_of(item)
        for kind in _MAY_BE_AT_FAULT
        for namespace in sorted(namespaces)
        for item in snapshot.all(kind, namespace)
        if not snapshot.owners(item)
    ]
    return found + [ref_of(item) for item in snapshot.all("Node")]


def snapshot_tools(snapshot: Snapshot, namespaces: Collection[str], timeline: Sequence[Moment] = ()) -> list[ReadTool]:
    """Questions about what hangs together in `namespaces`. `timeline` is the diagnosis' own."""
    reader = _SnapshotReader(snapshot, namespaces, timeline)
    tools = [
        ReadTool("get_pods", "The pods of a workload: restarts, how they last ended.", OfWorkload, reader.pods),
        ReadTool(
            "get_endpoints",
            "What stands behind a Service: its ports and selector, selected pods, ready addresses.",
            OfService,
            reader.endpoints,
        ),
        ReadTool(
            "get_references",
            "Whether what a workload refers to exists: ConfigMaps, Secrets by name, claims, account, addresses.",
            OfWorkload,
            reader.references,
        ),
        ReadTool(
            "get_revisions",
            "The revisions of a workload, and what the newest changed in the pod template.",
            OfWorkload,
            reader.revisions,
        ),
        ReadTool("get_config_keys", "The keys of a ConfigMap; never a value.", OfConfig, reader.keys),
        ReadTool("get_node", "A node's conditions, taints, room and heartbeat.", OfNode, reader.node),
        ReadTool("get_quota", "Quotas of a namespace and their use, and limit ranges.", OfNamespace, reader.quota),
    ]
    if timeline:
        tools.append(ReadTool("get_timeline", "What happened when, oldest first.", OfTime, reader.timeline))
    return tools


def _name(item: Object) -> str:
    return text(item, "metadata", "name")
