"""Whether something is true of the namespace now, read from the API server's own objects."""

from __future__ import annotations

import asyncio
import time

from errors import ToolFailed
from evals.kube import Kube, Object
from evals.scenario import Condition, EndedAs, Endpoints, FieldIs, Said

_POLL = 0.5


class NotInTime(ToolFailed):
    """What was waited for did not happen."""


async def wait_for(conditions: list[Condition], kube: Kube, timeout: float) -> None:
    """Wait until all conditions hold at once. Raises NotInTime that names the first one that does not."""
    deadline = time.monotonic() + timeout
    while (failing := await first_failing(conditions, kube)) is not None:
        if time.monotonic() > deadline:
            said = failing.model_dump_json(exclude_unset=True)
            raise NotInTime(f"not within {timeout:.0f} s: {said}")
        await asyncio.sleep(_POLL)


async def stays(conditions: list[Condition], kube: Kube, *, within: float, steady: float) -> str | None:
    """None when all conditions come true within `within` seconds and then hold for `steady` seconds with no container
    restarted meanwhile; else what was wrong. A crash loop is well between two crashes: one look proves nothing."""
    try:
        await wait_for(conditions, kube, within)
    except NotInTime as error:
        return str(error)
    before, deadline = await _restarts(kube), time.monotonic() + steady
    while time.monotonic() < deadline:
        await asyncio.sleep(_POLL)
        if (failing := await first_failing(conditions, kube)) is not None:
            return f"held at first, then no more: {failing.model_dump_json(exclude_unset=True)}"
        now = await _restarts(kube)
        if grown := [name for name, count in now.items() if count > before.get(name, count)]:
            return f"a container restarted meanwhile, in {', '.join(grown)}"
    return None


async def first_failing(conditions: list[Condition], kube: Kube) -> Condition | None:
    for condition in conditions:
        if not await holds(condition, kube):
            return condition
    return None


async def holds(condition: Condition, kube: Kube) -> bool:
    match condition.model_dump(exclude_unset=True).popitem()[0]:
        case "ready":
            return _ready(await _object(kube, condition.ready or ""))
        case "complete":
            return _complete(await _object(kube, condition.complete or ""))
        case "gone":
            return await _object(kube, condition.gone or "") is None
        case "exists":
            return await _object(kube, condition.exists or "") is not None
        case "unready":
            return any(
                "running" in (status.get("state") or {}) and not status.get("ready")
                for status in await kube.container_statuses(condition.unready or "")
            )
        case "unscheduled":
            return any(_unscheduled(pod) for pod in await kube.all("Pod"))
    if condition.ended:
        statuses = await kube.container_statuses(condition.ended.container)
        return any(_ended(status, condition.ended) for status in statuses)
    if condition.restarts:
        statuses = await kube.container_statuses(condition.restarts.container)
        return any(status.get("restartCount", 0) >= condition.restarts.at_least for status in statuses)
    if condition.waiting:
        statuses = await kube.container_statuses(condition.waiting.container)
        reasons = [((status.get("state") or {}).get("waiting") or {}).get("reason") for status in statuses]
        return any(reason in condition.waiting.reasons for reason in reasons)
    if condition.event:
        return any(_said(event, condition.event) for event in await kube.all("Event"))
    if condition.field:
        return _field(await _object(kube, condition.field.object), condition.field)
    if condition.endpoints:
        return _has(await kube.find("Endpoints", condition.endpoints.service), condition.endpoints)
    raise AssertionError("unreachable")


async def _object(kube: Kube, kind_name: str) -> Object | None:
    kind, _, name = kind_name.partition("/")
    found = await kube.find(kind, name)
    return {"kind": kind, **found} if found is not None else None


async def _restarts(kube: Kube) -> dict[str, int]:
    found = {}
    for pod in await kube.all("Pod"):
        statuses = (pod.get("status") or {}).get("containerStatuses") or []
        found[pod["metadata"]["name"]] = sum(status.get("restartCount", 0) for status in statuses)
    return found


def _ready(item: Object | None) -> bool:
    """Whether the whole current rollout is ready and observed, and wants at least one pod."""
    if item is None:
        return False
    status, spec = item.get("status") or {}, item.get("spec") or {}
    if item["kind"] == "Pod":
        return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or [])
    if status.get("observedGeneration") != item["metadata"].get("generation"):
        return False
    if item["kind"] == "DaemonSet":
        wanted, updated = status.get("desiredNumberScheduled", 0), status.get("updatedNumberScheduled", 0)
        return bool(0 < wanted == updated == status.get("numberReady", 0))
    wanted = spec.get("replicas", 1)
    current = status.get("updateRevision") == status.get("currentRevision") or item["kind"] != "StatefulSet"
    updated = status.get("updatedReplicas", 0) if item["kind"] == "Deployment" else wanted
    ready = status.get("readyReplicas", 0)
    return bool(current and 0 < wanted == updated == ready == status.get("replicas", 0))


def _complete(item: Object | None) -> bool:
    conditions = ((item or {}).get("status") or {}).get("conditions") or []
    return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)


def _unscheduled(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c["type"] == "PodScheduled" and c["status"] == "False" for c in conditions)


def _ended(status: Object, wanted: EndedAs) -> bool:
    for state in (status.get("state") or {}, status.get("lastState") or {}):
        ended = state.get("terminated")
        if ended and wanted.exit_code in (None, ended.get("exitCode")) and wanted.reason in (None, ended.get("reason")):
            return True
    return False


def _said(event: Object, wanted: Said) -> bool:
    about = event.get("involvedObject") or {}
    where = f"{about.get('kind')}/{about.get('name')}"
    return (
        wanted.reason in (None, event.get("reason"))
        and (wanted.contains or "") in (event.get("message") or "")
        and where.startswith(wanted.about or "")
    )


def _field(item: Object | None, wanted: FieldIs) -> bool:
    value: object = item
    for step in wanted.at.split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            value = None
    return value != wanted.differs if "differs" in wanted.model_fields_set else bool(value == wanted.equals)


def _has(item: Object | None, wanted: Endpoints) -> bool:
    subsets = (item or {}).get("subsets") or []
    ready = sum(len(subset.get("addresses") or []) for subset in subsets)
    return ready == 0 if wanted.none else ready >= wanted.at_least
