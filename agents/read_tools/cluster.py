"""Tools that ask the cluster now: objects, lists, logs and events of the incident's namespaces, and nodes."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar, get_args

from pydantic import Field

from agents.read_tools.arguments import MAX_ROWS, NAME, Args, Kind, last, within
from agents.tool_loop import Reading, ReadTool
from diagnosis.redaction import redact, redact_object
from errors import NotFound
from incidents.models import EvidenceKind, ObjectRef
from tools.kubernetes.client import Cluster, KubernetesError, Object
from tools.kubernetes.kinds import AROUND, NAMESPACED

T = TypeVar("T")

_VERSIONS = {reading.kind: reading.versions for reading in (*NAMESPACED, *AROUND) if reading.kind in get_args(Kind)}
_STATUS_CHARS = 240


class GetObject(Args):
    kind: Kind
    namespace: str | None = Field(default=None, description="Not for Node")
    name: str = NAME


class ListObjects(Args):
    kind: Kind
    namespace: str | None = Field(default=None, description="Not for Node")
    contains: str | None = Field(default=None, max_length=100, description="Only names that contain this")


class GetLog(Args):
    namespace: str
    pod: str = NAME
    container: str = NAME
    previous: bool = Field(default=False, description="Of the instance before the present one")
    contains: str | None = Field(default=None, max_length=200, description="Only lines that contain this text")
    lines: int = Field(default=60, ge=1, le=300, description="The last so many")


class GetEvents(Args):
    namespace: str
    name: str | None = Field(default=None, max_length=253, description="Only events about an object of this name")


class _ClusterReader:
    def __init__(self, cluster: Cluster, namespaces: Collection[str]) -> None:
        self._cluster = cluster
        self._namespaces = frozenset(namespaces)

    async def get(self, args: GetObject) -> Reading:
        namespace = self._scope(args.kind, args.namespace)

        async def read(version: str) -> tuple[Object | None, str]:
            path = await self._cluster.path(version, args.kind, namespace, args.name)
            return await self._cluster.get(version, args.kind, namespace, args.name), path

        found, path = await _in_versions(args.kind, read)
        if found is None:
            raise NotFound(f"there is no {args.kind} {args.name} in {namespace or 'the cluster'}")
        text = json.dumps(redact_object({"kind": args.kind, **found}), indent=1, ensure_ascii=False)
        return Reading(text, f"GET {path}", EvidenceKind.OBJECT, [_ref(args.kind, found)])

    async def list(self, args: ListObjects) -> Reading:
        namespace = self._scope(args.kind, args.namespace)

        async def read(version: str) -> tuple[list[Object], str]:
            path = await self._cluster.path(version, args.kind, namespace)
            return await self._cluster.list_all(version, args.kind, namespace), path

        found, path = await _in_versions(args.kind, read)
        found = [item for item in found if (args.contains or "") in item["metadata"]["name"]]
        rows = [_row(item) for item in found[:MAX_ROWS]]
        if len(found) > MAX_ROWS:
            rows.append(f"({len(found) - MAX_ROWS} more)")
        refs = [_ref(args.kind, item) for item in found[:MAX_ROWS]]
        return Reading("\n".join(rows) or "(none)", f"GET {path}", EvidenceKind.OBJECT, refs)

    async def log(self, args: GetLog) -> Reading:
        namespace = within(self._namespaces, args.namespace)
        text = redact(await self._cluster.log(namespace, args.pod, args.container, previous=args.previous))
        lines = [line for line in text.splitlines() if (args.contains or "") in line][-args.lines :]
        which = "?previous=true" if args.previous else ""
        source = f"GET /api/v1/namespaces/{namespace}/pods/{args.pod}/log ({args.container}){which}"
        return Reading(last("\n".join(lines)), source, EvidenceKind.LOG)

    async def events(self, args: GetEvents) -> Reading:
        namespace = within(self._namespaces, args.namespace)
        fields = f"involvedObject.name={args.name}" if args.name else ""
        found = await self._cluster.list_all("v1", "Event", namespace, fields=fields)
        found.sort(key=lambda item: str(item.get("lastTimestamp") or item.get("eventTime") or ""))
        rows = [_event_row(item) for item in found[-MAX_ROWS:]]
        source = f"GET /api/v1/namespaces/{namespace}/events" + (f" ({fields})" if fields else "")
        return Reading(last("\n".join(rows)) or "(none)", source, EvidenceKind.EVENT)

    def _scope(self, kind: str, namespace: str | None) -> str | None:
        return None if kind == "Node" else within(self._namespaces, namespace)


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


async def _in_versions(kind: str, read: Callable[[str], Awaitable[T]]) -> T:
    """What `read` gives for the first API version of a kind that the server knows."""
    *newer, oldest = _VERSIONS[kind]
    for version in newer:
        try:
            return await read(version)
        except KubernetesError as error:
            if error.code != 404:
                raise
    return await read(oldest)


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
