"""Who called whom, measured where the calls were made: by a mesh at the source, or by traces."""

from __future__ import annotations

from datetime import datetime, timedelta

from diagnosis.metrics.edges import Edge
from tools.prometheus.client import Prometheus
from tools.prometheus.rca.catalogue import MESH, TRACES
from tools.prometheus.rca.discover import vector
from tools.prometheus.rca.windows import written
from tools.prometheus.selectors import quoted, selector

MAX_EDGES = 2_000
_NOBODY = ("", "unknown", "user")


async def calls(server: Prometheus, namespace: str | None, length: timedelta, end: datetime) -> list[Edge]:
    """The calls within the range, the most frequent ones. Raises ToolFailed."""
    mesh = [("reporter", "=", quoted("source"))]
    if namespace:
        mesh.append(("destination_workload_namespace", "=", quoted(namespace)))
    over = written(length.total_seconds())
    found: dict[Edge, None] = {}
    for metric, by, scope in (("istio_requests_total", MESH, mesh), ("traces_service_graph_request_total", TRACES, [])):
        counted = f"sum by ({', '.join(by)}) (increase({selector(metric, *scope)}[{over}])) > 0"
        for labels, _ in vector(await server.instant(f"topk({MAX_EDGES}, {counted})", end)):
            caller, callee = labels.get(by[0], ""), labels.get(by[-2] if by is MESH else by[1], "")
            if caller in _NOBODY or callee in _NOBODY:
                continue
            if by is MESH:
                caller = _placed(labels.get(by[1], ""), caller)
                callee = _placed(labels.get(by[3], ""), callee)
            found[Edge(caller, callee)] = None
    return list(found)


def _placed(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name
