"""Which metrics are counters: by what their exporters say, else by how they move, and by their names last.

`requests_total` may be a gauge that a program calls so, and a rate of it is nonsense; `in_flight_requests` may be a
counter, whose size tells nothing.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Mapping
from datetime import datetime

import numpy as np

from diagnosis.metrics.prometheus_json import read_types
from diagnosis.metrics.rates import looks_cumulative, wavers
from diagnosis.metrics.series import Kind
from errors import ToolFailed
from tools.prometheus.client import Prometheus
from tools.prometheus.rca.discover import vector
from tools.prometheus.selectors import quoted, selector

_MOST_PROBED = 24
_SPAN = "30m"
_CONCURRENT = 4


async def told_kinds(server: Prometheus) -> Mapping[str, Kind]:
    """What exporters say of their metrics; nothing of one about which they differ. Empty where the server keeps no
    metadata: that of targets which are gone is forgotten, and not every server that speaks PromQL has any."""
    try:
        return read_types(await server.metadata()) or {}
    except ToolFailed:
        return {}


async def kinds_of(server: Prometheus, metrics: Collection[str], at: datetime) -> Mapping[str, Kind]:
    """What is told, and of so many of the metrics without that what their liveliest series shows. A metric that did not
    move is in neither."""
    told = dict(await told_kinds(server))
    gate = asyncio.Semaphore(_CONCURRENT)

    async def one(metric: str) -> tuple[str, Kind | None]:
        async with gate:
            try:
                return metric, await _shown(server, metric, at)
            except ToolFailed:
                return metric, None

    unknown = sorted(set(metrics) - set(told))[:_MOST_PROBED]
    for metric, kind in await asyncio.gather(*(one(metric) for metric in unknown)):
        if kind is not None:
            told[metric] = kind
    return told


async def _shown(server: Prometheus, metric: str, at: datetime) -> Kind | None:
    liveliest = vector(await server.instant(f"topk(1, changes({selector(metric)}[{_SPAN}]))", at))
    if not liveliest or not liveliest[0][1]:
        return None
    labels = [(key, "=", quoted(value)) for key, value in liveliest[0][0].items() if key != "__name__"]
    results = (await server.instant(f"{selector(metric, *labels)}[{_SPAN}]", at))["data"]["result"]
    values = np.array(_values(results[0]) if results else [], dtype=np.float64)
    if wavers(values):
        return Kind.GAUGE
    return Kind.COUNTER if looks_cumulative(values) else None


def _values(series: object) -> list[float]:
    """The finite values of a series of a matrix; what is no point is left out."""
    points = series.get("values") if isinstance(series, dict) else None
    found = []
    for point in points if isinstance(points, list) else []:
        try:
            value = float(point[1])
        except (TypeError, ValueError, IndexError, KeyError):
            continue
        if math.isfinite(value):
            found.append(value)
    return found
