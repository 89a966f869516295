"""The history of one load, in pages of a range query, and its present value."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from diagnosis.metrics.forecast.history import MAX_LOAD
from diagnosis.metrics.series import FloatArray
from errors import ToolFailed
from tools.prometheus.client import Prometheus

_PAGE = 5000
"""Points of one request, of the 11 000 that the server would give."""


async def read_history(
    server: Prometheus, query: str, start: datetime, end: datetime, step: timedelta
) -> tuple[FloatArray, FloatArray]:
    """(times in seconds since 1970, loads), newest pages first asked for: where one is empty, older ones are not asked.

    Raises ToolFailed when the query gives more than one series, or Prometheus does not answer; and what `range` raises.
    """
    width = step.total_seconds()
    # aligned, so that the same times are asked for whenever this runs
    last = math.floor(end.timestamp() / width) * width
    first = math.ceil(start.timestamp() / width) * width
    times: list[float] = []
    loads: list[float] = []
    while last >= first:
        begin = max(first, last - (_PAGE - 1) * width)
        since, until = (datetime.fromtimestamp(at, UTC) for at in (begin, last))
        document = await server.range(query, since, until, step)
        page = _points(document["data"])
        if not page:
            break
        times += [at for at, _ in page]
        loads += [load for _, load in page]
        last = begin - width
    return np.array(times, dtype=np.float64), np.array(loads, dtype=np.float64)


async def read_present(server: Prometheus, query: str, at: datetime) -> float | None:
    """The load at a time; None when there is none, or it is no load. Raises what `read_history` raises."""
    data = (await server.instant(query, at))["data"]
    try:
        if data["resultType"] == "scalar":
            load = float(data["result"][1])
        else:
            result = _one(data["result"])
            load = float(result[0]["value"][1]) if result else math.nan
    except (KeyError, IndexError, TypeError, ValueError):
        raise ToolFailed("Prometheus answered something that is no load") from None
    return load if 0 <= load <= MAX_LOAD else None


def _one(result: list[Any]) -> list[Any]:
    if len(result) > 1:
        raise ToolFailed(f"the query of the load gives {len(result)} series; it must give one: put sum() around it")
    return result


def _points(data: dict[str, object]) -> list[tuple[float, float]]:
    result = data.get("result")
    if not isinstance(result, list) or not _one(result):
        return []
    try:
        return [(float(at), float(load)) for at, load in result[0]["values"]]
    except (KeyError, TypeError, ValueError):
        raise ToolFailed("Prometheus answered something that is no series") from None
