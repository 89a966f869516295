"""The read-only tools that a model may call: the cluster, within the incident's namespaces, and the open core.

There is no tool that writes, none that reads a Secret, and none that takes a command.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agents.tool_loop import Reading, ReadTool
from diagnosis.redaction import redact, redact_object
from errors import NotFound, Refused
from incidents.models import EvidenceKind, ObjectRef
from settings import GdbSettings
from tools.kubernetes.client import Cluster, Object

_API = {
    "Pod": "v1",
    "Service": "v1",
    "ConfigMap": "v1",
    "PersistentVolumeClaim": "v1",
    "ServiceAccount": "v1",
    "ResourceQuota": "v1",
    "LimitRange": "v1",
    "Node": "v1",
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "ReplicaSet": "apps/v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
    "Ingress": "networking.k8s.io/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
}
Kind = Literal[
    "Pod",
    "Service",
    "ConfigMap",
    "PersistentVolumeClaim",
    "ServiceAccount",
    "ResourceQuota",
    "LimitRange",
    "Node",
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "Job",
    "CronJob",
    "Ingress",
    "NetworkPolicy",
    "HorizontalPodAutoscaler",
]
_Name = Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")
_MAX_ROWS = 60
_STATUS_CHARS = 240


class _Args(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GetObject(_Args):
    kind: Kind
    namespace: str | None = Field(default=None, description="Not for Node")
    name: str = _Name


class ListObjects(_Args):
    kind: Kind
    namespace: str | None = Field(default=None, description="Not for Node")
    contains: str | None = Field(default=None, max_length=100, description="Only names that contain this")


class GetLog(_Args):
    namespace: str
    pod: str = _Name
    container: str = _Name
    previous: bool = Field(default=False, description="Of the instance before the present one")
    contains: str | None = Field(default=None, max_length=200, description="Only lines that contain this text")
    lines: int = Field(default=60, ge=1, le=300, description="The last so many")


class GetEvents(_Args):
    namespace: str
    name: str | None = Field(default=None, max_length=253, description="Only events about an object of this name")


class _ClusterReader:
    def __init__(self, cluster: Cluster, namespaces: Collection[str]) -> None:
        self._cluster = cluster
        self._namespaces = frozenset(namespaces)

    async def get(self, args: GetObject) -> Reading:
        namespace = self._scope(args.kind, args.namespace)
        found = await self._cluster.get(_API[args.kind], args.kind, namespace, args.name)
        if found is None:
            raise NotFound(f"there is no {args.kind} {args.name} in {namespace or 'the cluster'}")
        path = await self._cluster.path(_API[args.kind], args.kind, namespace, args.name)
        text = json.dumps(redact_object({"kind": args.kind, **found}), indent=1, ensure_ascii=False)
        return Reading(text, f"GET {path}", EvidenceKind.OBJECT, [_ref(args.kind, found)])

    async def list(self, args: ListObjects) -> Reading:
        namespace = self._scope(args.kind, args.namespace)
        found = await self._cluster.list_all(_API[args.kind], args.kind, namespace)
        path = await self._cluster.path(_API[args.kind], args.kind, namespace)
        found = [item for item in found if (args.contains or "") in item["metadata"]["name"]]
        rows = [_row(item) for item in found[:_MAX_ROWS]]
        if len(found) > _MAX_ROWS:
            rows.append(f"({len(found) - _MAX_ROWS} more)")
        refs = [_ref(args.kind, item) for item in found[:_MAX_ROWS]]
        return Reading("\n".join(rows) or "(none)", f"GET {path}", EvidenceKind.OBJECT, refs)

    async def log(self, args: GetLog) -> Reading:
        namespace = self._scope("Pod", args.namespace)
        assert namespace is not None
        text = redact(await self._cluster.log(namespace, args.pod, args.container, previous=args.previous))
        lines = [line for line in text.splitlines() if (args.contains or "") in line][-args.lines :]
        which = "?previous=true" if args.previous else ""
        source = f"GET /api/v1/namespaces/{namespace}/pods/{args.pod}/log ({args.container}){which}"
        # the end of a log says how it ended: the cut of long texts must not take it
        return Reading(_last("\n".join(lines), 3900), source, EvidenceKind.LOG)

    async def events(self, args: GetEvents) -> Reading:
        namespace = self._scope("Event", args.namespace)
        fields = f"involvedObject.name={args.name}" if args.name else ""
        found = await self._cluster.list_all("v1", "Event", namespace, fields=fields)
        found.sort(key=lambda item: str(item.get("lastTimestamp") or item.get("eventTime") or ""))
        rows = [_event_row(item) for item in found[-_MAX_ROWS:]]
        source = f"GET /api/v1/namespaces/{namespace}/events" + (f" ({fields})" if fields else "")
        return Reading(_last("\n".join(rows), 3900) or "(none)", source, EvidenceKind.EVENT)

    def _scope(self, kind: str, namespace: str | None) -> str | None:
        if kind == "Node":
            return None
        if namespace not in self._namespaces:
            raise Refused(f"only these namespaces may be read: {', '.join(sorted(self._namespaces))}")
        return namespace


def cluster_tools(cluster: Cluster, namespaces: Collection[str]) -> list[ReadTool]:
    """get, list, logs and events of `namespaces`, and nodes. Values of Secrets and ConfigMaps are never read."""
    reader = _ClusterReader(cluster, namespaces)
    where = f"Namespaces: {', '.join(sorted(namespaces))}."
    return [
        ReadTool("get_object", f"Read one Kubernetes object as JSON. {where}", GetObject, reader.get),
        ReadTool("list_objects", f"List objects of a kind with their status. {where}", ListObjects, reader.list),
        ReadTool("get_log", f"Read the last lines of a container's log. {where}", GetLog, reader.log),
        ReadTool("get_events", f"Read Kubernetes events, oldest first. {where}", GetEvents, reader.events),
    ]


def core_tools(
    *,
    core: Path,
    executable: Path | None,
    settings: GdbSettings,
    sysroot: Path | None = None,
    debug_dirs: Sequence[Path] = (),
    executable_dirs: Sequence[Path] = (),
) -> list[ReadTool]:
    """The allow-listed gdb queries on one core. No text of the model reaches gdb unvalidated."""
    from tools.gdb.queries import QUERIES, run_query

    def tool(name: str) -> ReadTool:
        query = QUERIES[name]

        async def run(args: BaseModel) -> Reading:
            text = await run_query(
                name,
                args.model_dump(exclude_none=True),
                core=core,
                executable=executable,
                settings=settings,
                sysroot=sysroot,
                debug_dirs=debug_dirs,
                executable_dirs=executable_dirs,
            )
            return Reading(redact(text), f"gdb {core.name}: {name} {args.model_dump_json(exclude_none=True)}", _GDB)

        return ReadTool(f"gdb_{name}", f"{query.description}.", query.arguments, run)

    # bytes of memory cannot be redacted: a secret in a dump has no name and no shape
    return [tool(name) for name in QUERIES if name != "memory"]


_GDB = EvidenceKind.GDB


def _ref(kind: str, item: Object) -> ObjectRef:
    metadata = item.get("metadata") or {}
    return ObjectRef(kind=kind, namespace=metadata.get("namespace"), name=str(metadata.get("name")))


def _row(item: Object) -> str:
    status = redact_object({"kind": item.get("kind"), "status": item.get("status") or {}}).get("status") or {}
    if item.get("kind") == "Pod":
        status = {"phase": status.get("phase"), "containers": [_container(c) for c in _statuses(status)]}
    else:
        status.pop("images", None)  # of nodes: hundreds of lines
    text = json.dumps(status, ensure_ascii=False)
    metadata = item["metadata"]
    return f"{metadata['name']} since {metadata.get('creationTimestamp')}: {text[:_STATUS_CHARS]}"


def _statuses(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _container(status: dict[str, Any]) -> str:
    state = next(iter(status.get("state") or {}), "unknown")
    reason = ((status.get("state") or {}).get(state) or {}).get("reason")
    return f"{status.get('name')} {state}{f' {reason}' if reason else ''} restarts={status.get('restartCount')}"


def _event_row(item: Object) -> str:
    about = item.get("involvedObject") or {}
    when = item.get("lastTimestamp") or item.get("eventTime") or (item.get("metadata") or {}).get("creationTimestamp")
    return redact(
        f"{when} {item.get('type')} {item.get('reason')} {about.get('kind')}/{about.get('name')} "
        f"x{item.get('count') or 1}: {item.get('message')}"
    )


def _last(text: str, limit: int) -> str:
    return text if len(text) <= limit else "…" + text[-limit:]
