"""Series of any times on one grid of time, so that everything after is arithmetic of one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diagnosis.metrics.rates import looks_cumulative, rates
from diagnosis.metrics.series import FloatArray, Kind, MetricSeries

MAX_BINS = 300
"""More samples are averaged together: a change that shows in none of 300 bins is none of the system's."""
_LEAST = 5
"""Fewer values of a series say nothing."""


@dataclass(frozen=True, eq=False)
class Grid:
    """`values` is (series, bins), NaN where nothing was measured; bin i covers [start + i * step, + step) seconds.
    `series[i]` is the row's; `rated[i]` whether its values are a counter's rate per second."""

    start: float
    step: float
    values: FloatArray
    series: list[MetricSeries]
    rated: list[bool]
    unusable: int
    missing_share: float

    @property
    def bins(self) -> int:
        return int(self.values.shape[1])

    def first_at(self, at: float) -> int:
        """The first bin whose middle is not before a time, within half a hundredth of a step."""
        return max(0, int(np.ceil((at - self.start) / self.step - 0.505)))

    def time_of(self, index: int) -> float:
        """The middle of a bin: where its one sample stands when nothing was averaged."""
        return self.start + (index + 0.5) * self.step


def on_grid(series: Sequence[MetricSeries], start: float | None = None, end: float | None = None) -> Grid | None:
    """The series between two times (seconds; by default all) as a matrix. None when no series has five values there.

    The step is the usual distance of samples, or as much longer as `MAX_BINS` asks for.
    """
    kept: list[tuple[MetricSeries, FloatArray, FloatArray, bool]] = []
    unusable = 0
    for one in series:
        times, values = one.times, one.values
        low = 0 if start is None else int(np.searchsorted(times, start, "left"))
        high = len(times) if end is None else int(np.searchsorted(times, end, "right"))
        counter = one.kind is Kind.COUNTER or (one.kind is Kind.GAUGE and not one.typed and looks_cumulative(values))
        if counter:  # the sample before the range is where its first increase begins
            times, values = rates(times[max(0, low - 1) : high], values[max(0, low - 1) : high])
        else:
            times, values = times[low:high], values[low:high]
        if np.count_nonzero(~np.isnan(values)) < _LEAST:
            unusable += 1
            continue
        kept.append((one, times, values, counter))
    if not kept:
        return None
    steps = _steps([times for _, times, _, _ in kept])
    first = min(float(times[0]) for _, times, _, _ in kept)
    last = max(float(times[-1]) for _, times, _, _ in kept)
    usual = sorted(steps)[int(0.9 * (len(steps) - 1) + 0.999)]
    bins = min(MAX_BINS, max(1, int(np.floor((last - first) / usual + 0.5)) + 1))
    step = max(usual, (last - first) / (bins - 0.5))
    begin = first - step / 2 if step == usual else first
    matrix = np.full((len(kept), bins), np.nan)
    shared: tuple[FloatArray, FloatArray] | None = None  # the times of the row before, and their bins: mostly the same
    for row, (_, times, values, _) in enumerate(kept):
        if shared is None or len(shared[0]) != len(times) or not np.array_equal(shared[0], times):
            shared = (times, np.clip(((times - begin) / step).astype(np.intp), 0, bins - 1))
        places = shared[1]
        known = ~np.isnan(values)
        if not known.all():
            places, values = places[known], values[known]
        counts = np.bincount(places, minlength=bins)
        # a mean, taken of differences to one of the values: sums of squares or of large values would lose digits
        sums = np.bincount(places, weights=values - values[0], minlength=bins)
        filled = counts > 0
        matrix[row, filled] = sums[filled] / counts[filled] + values[0]
    missing = float(np.isnan(matrix).mean())
    return Grid(begin, step, matrix, [one for one, *_ in kept], [rated for *_, rated in kept], unusable, missing)


def _steps(all_times: Sequence[FloatArray]) -> list[float]:
    """The usual distance of samples of each; series of one query share their times."""
    found: list[float] = []
    before: FloatArray | None = None
    for times in all_times:
        if before is None or (
            times is not before
            and not (len(times) == len(before) and times[0] == before[0] and np.array_equal(times, before))
        ):
            found.append(float(np.median(np.diff(times))))
        else:
            found.append(found[-1])
        before = times
    return found
