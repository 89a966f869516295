"""Evidence from a snapshot: the relevant fragment of an object, one event, a window of a log, with its exact source.

A quotation in a claim must be found in an excerpt, so strings are recorded as they are (a message is not JSON-escaped)
and everything stays below the excerpt's size.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote

from diagnosis.workloads.events import Event
from diagnosis.workloads.fields import Object, text
from incidents.models import EXCERPT_CHARS, Evidence, EvidenceKind

_PLURALS = {"Endpoints": "endpoints", "Ingress": "ingresses", "NetworkPolicy": "networkpolicies"}
_DEFAULT_GROUPS = {
    "Deployment": "apps/v1", "ReplicaSet": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1",
    "ControllerRevision": "apps/v1", "Job": "batch/v1", "CronJob": "batch/v1",
}  # fmt: skip

_segment = lru_cache(maxsize=1 << 14)(quote)  # the same names stand in many sources


def api_path(item: Object) -> str:
    """The URL path that an object is read at."""
    kind = text(item, "kind")
    version = text(item, "apiVersion") or _DEFAULT_GROUPS.get(kind, "v1")
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = text(item, "metadata", "namespace")
    scope = f"/namespaces/{_segment(namespace)}" if namespace else ""
    plural = _PLURALS.get(kind, f"{kind.lower()}s")
    return f"{base}{scope}/{plural}/{_segment(text(item, 'metadata', 'name'))}"


def of_object(item: Object, pointer: str, now: datetime) -> Evidence:
    """The part of an object at a JSON pointer: a string as it is, anything else as compact JSON."""
    value: object = item
    for step in pointer.split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            value = None
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Evidence.of(EvidenceKind.OBJECT, f"GET {api_path(item)} {pointer}".rstrip(), shown, now)


def of_absence(kind: str, namespace: str, name: str, keys: list[str], now: datetime) -> Evidence:
    """That an object is not there: what is there instead."""
    path = api_path({"kind": kind, "metadata": {"namespace": namespace, "name": ""}}).rstrip("/")
    shown = ", ".join(keys)[: EXCERPT_CHARS - 200] or "nothing"
    return Evidence.of(EvidenceKind.OBJECT, f"GET {path}", f"{kind} {name} is not among: {shown}", now)


def of_event(event: Event, now: datetime) -> Evidence:
    times = f"{event.last:%Y-%m-%dT%H:%M:%SZ} " if event.last else ""
    count = f" (x{event.count})" if event.count > 1 else ""
    where = f" {event.section}{{{event.container}}}" if event.container else ""
    shown = f"{times}{event.type} {event.reason} {event.kind}/{event.name}{where}{count}: {event.message}"
    name = text(event.raw, "metadata", "name") or "?"
    source = f"GET /api/v1/namespaces/{_segment(event.namespace or 'default')}/events/{_segment(name)}"
    return Evidence.of(EvidenceKind.EVENT, source, shown, now)


def log_source(namespace: str, pod: str, container: str, previous: bool) -> str:
    return f"kubectl logs -n {namespace} {pod} -c {container}{' --previous' if previous else ''}"
