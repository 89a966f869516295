"""How a container's memory use developed: what tells a leak from a limit that is too low, as far as it was measured.

Sources: `container_memory_working_set_bytes` of cAdvisor, which is what the kernel's limit and the kubelet's eviction
compare, and the lifetimes of the instances that a container's status shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import linear_regression, median

from diagnosis.workloads.containers import Container
from diagnosis.workloads.metrics import Series
from diagnosis.workloads.scope import Scope

Point = tuple[datetime, float]
METRIC = "container_memory_working_set_bytes"
_FEWEST_POINTS = 8
_RISING = 0.8  # share of steps that do not fall
_GROWN = 1.3  # the end over the beginning of a life


@dataclass(frozen=True)
class Trend:
    """`bytes_per_hour` of the last life that was measured long enough; `peak` in bytes over everything measured.

    `leak` is True where use rises steadily through the whole life, False where it stands level until the end, None
    where neither is plain.
    """

    series: Series
    peak: float
    bytes_per_hour: float | None
    leak: bool | None


def trend_of(scope: Scope, container: Container) -> Trend | None:
    """The measured memory use of a container, or None when it was not measured."""
    labels = {"namespace": container.namespace, "pod": container.pod_name, "container": container.name}
    found = scope.snapshot.series.find(METRIC, **labels)
    if not found:
        return None
    series = max(found, key=lambda item: len(item.points))
    life = _last_full_life(series)
    peak = max(value for _, value in series.points)
    if len(life) < _FEWEST_POINTS:
        return Trend(series, peak, None, None)
    hours = [(when - life[0][0]).total_seconds() / 3600 for when, _ in life]
    values = [value for _, value in life]
    slope = linear_regression(hours, values).slope if hours[-1] > 0 else 0.0
    return Trend(series, peak, slope, _leaks(values))


def _last_full_life(series: Series) -> list[Point]:
    """The points between two restarts, of the last life that has enough of them; use falls by half at a restart."""
    lives: list[list[Point]] = [[]]
    for point in series.points:
        if lives[-1] and point[1] < lives[-1][-1][1] / 2:
            lives.append([])
        lives[-1].append(point)
    return next((life for life in reversed(lives) if len(life) >= _FEWEST_POINTS), lives[-1])


def _leaks(values: list[float]) -> bool | None:
    """Steady growth is no spike: it rises in most steps, and its middle lies between its ends."""
    steps = list(pairwise(values))
    rising = sum(later >= earlier for earlier, later in steps) / len(steps)
    quarter = max(1, len(values) // 4)
    first, middle = median(values[:quarter]), median(values[quarter:-quarter] or values)
    last = median(values[-quarter:])
    if first > 0 and last / first >= _GROWN and rising >= _RISING and first < middle < last:
        return True
    level = max(values[: -max(1, len(values) // 8)], default=0.0)
    if level > 0 and level / max(min(values), 1.0) < _GROWN:
        return False
    return None
