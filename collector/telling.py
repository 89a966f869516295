"""Writes to the Node object what this node does with cores, so that the webhook can warn where one would be lost."""

from __future__ import annotations

import asyncio
import json

import structlog

from collector.node import container_limit, read_node
from collector.webhook.nodes import ANNOTATION, told
from diagnosis.workloads.fields import Object, mapping, text
from errors import ParamedicError
from settings import CollectorSettings
from tools.kubernetes.client import Cluster

_SECONDS = 300.0

log = structlog.get_logger(__name__)


async def keep_telling(cluster: Cluster, node: str, settings: CollectorSettings, stop: asyncio.Event) -> None:
    """Tell now, and again when it changed; what fails is logged and tried again."""
    while not stop.is_set():
        try:
            await tell(cluster, node, settings)
        except (OSError, ParamedicError) as error:
            log.warning("the node object could not be told what the node does with cores", error=str(error))
        try:
            await asyncio.wait_for(stop.wait(), _SECONDS)
        except TimeoutError:
            continue


async def tell(cluster: Cluster, node: str, settings: CollectorSettings) -> bool:
    """Write the annotation where it is not so yet; whether it was written. Raises OSError (/proc) and ToolFailed."""
    state = await asyncio.to_thread(read_node, settings.proc)
    limit = await asyncio.to_thread(container_limit, settings.proc)
    ours = settings.socket is not None and state.core_pattern == f"@{settings.socket}"
    value = told(state, limit, taken=ours or "/collector/dying.py " in state.core_pattern)
    found = await cluster.get("v1", "Node", None, node)
    if found is None or text(found, "metadata", "annotations", ANNOTATION) == value:
        return False
    key = f"/metadata/annotations/{ANNOTATION.replace('/', '~1')}"
    change: list[Object] = [{"op": "add", "path": key, "value": value}]
    if not mapping(found, "metadata", "annotations"):
        change.insert(0, {"op": "add", "path": "/metadata/annotations", "value": {}})
    path = await cluster.path("v1", "Node", None, node)
    await cluster.request("PATCH", path, body=json.dumps(change).encode(), content_type="application/json-patch+json")
    return True
