"""What a server has of the metrics that are looked for: how many series, from which jobs, scraped how often.

Counting is cheap and comes first: a label that explodes is known before anything of it is fetched.
"""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from errors import ToolFailed
from tools.prometheus.client import Prometheus
from tools.prometheus.rca.windows import USUAL_INTERVAL
from tools.prometheus.selectors import quoted, selector

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,199}")
_MAX_PROBES = 12
_PROBE = "10m"


@dataclass
class Found:
    """Series by metric and job, at the time when there were most; the scrape interval of jobs in seconds."""

    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    intervals: dict[str, float] = field(default_factory=dict)
    unseen: list[str] = field(default_factory=list)

    def series(self, metric: str) -> int:
        return sum(count for (name, _), count in self.counts.items() if name == metric)

    def metrics(self) -> list[str]:
        return sorted({name for name, _ in self.counts})

    def interval(self, metric: str) -> float:
        """Of the slowest job that has it."""
        known = [self.intervals.get(job) for name, job in self.counts if name == metric]
        return max((one for one in known if one), default=self.usual)

    @property
    def usual(self) -> float:
        """Of the jobs, the middle one."""
        return statistics.median_low(self.intervals.values()) if self.intervals else USUAL_INTERVAL


async def discover(server: Prometheus, selectors: Iterable[str], times: Iterable[datetime]) -> Found:
    """Count what the selectors have at any of the times. Raises ToolFailed when the server does not answer."""
    found = Found()
    chosen = list(selectors)
    for at in times:
        for one in chosen:
            answer = await server.instant(f"count by (__name__, job) ({one})", at)
            for labels, value in vector(answer):
                key = (labels.get("__name__", ""), labels.get("job", ""))
                if not _NAME.fullmatch(key[0]):  # newer servers take any text as a name; no rule of ours knows such
                    continue
                found.counts[key] = max(found.counts.get(key, 0), int(value))
    return found


async def probe(server: Prometheus, found: Found, at: datetime) -> None:
    """Measure how often the jobs are scraped: at one series of each, by the times of its samples."""
    smallest: dict[str, tuple[int, str]] = {}
    for (name, job), count in found.counts.items():
        smallest[job] = min(smallest.get(job, (count, name)), (count, name))
    for job, (_, metric) in sorted(smallest.items(), key=lambda item: item[1])[:_MAX_PROBES]:
        try:
            interval = await _interval(server, metric, job, at)
        except ToolFailed as error:
            found.unseen.append(f"how often {job or metric} is scraped could not be seen: {error}")
            continue
        if interval is not None:
            found.intervals[job] = interval
    if found.counts and not found.intervals:
        found.unseen.append(f"how often the targets are scraped is not known; {USUAL_INTERVAL:g} s were assumed")


async def _interval(server: Prometheus, metric: str, job: str, at: datetime) -> float | None:
    sample = selector(metric, ("job", "=", quoted(job)))
    chosen = vector(await server.instant(f"topk(1, count_over_time({sample}[{_PROBE}]))", at))
    if not chosen:
        return None
    labels = [(key, "=", quoted(value)) for key, value in chosen[0][0].items() if key != "__name__"]
    answer = await server.instant(f"{selector(metric, *labels)}[{_PROBE}]", at)
    results = answer["data"]["result"]
    times = times_of(results[0]) if results else []
    steps = [later - earlier for earlier, later in itertools.pairwise(times) if later > earlier]
    return statistics.median(steps) if steps else None


def vector(answer: dict[str, Any]) -> list[tuple[dict[str, str], float]]:
    """Labels and value of each result of an instant query whose value is a finite number."""
    found = []
    for result in answer["data"]["result"]:
        try:
            labels, value = result["metric"], float(result["value"][1])
        except (KeyError, IndexError, TypeError, ValueError):
            continue
        if isinstance(labels, dict) and math.isfinite(value):
            found.append(({str(key): str(text) for key, text in labels.items()}, value))
    return found


def times_of(series: Any) -> list[float]:
    """When the points of a series were measured; what is no point is left out."""
    points = series.get("values") if isinstance(series, dict) else None
    return [
        float(point[0])
        for point in (points if isinstance(points, list) else [])
        if isinstance(point, list) and point and isinstance(point[0], int | float) and math.isfinite(point[0])
    ]
