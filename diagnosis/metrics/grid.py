"""Series of any times on one grid of time, so that everything after is arithmetic of one matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from diagnosis.metrics.rates import MOST_FALLS, looks_cumulative, rates, wavers
from diagnosis.metrics.series import BoolArray, FloatArray, Kind, MetricSeries
from diagnosis.metrics.shift import median

MAX_BINS = 300
"""More samples are averaged together: a change that shows in none of 300 bins is none of the system's."""
_SHORT_STRETCH = 8
_AT_ONCE = 2_000_000
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

    @cached_property
    def known(self) -> BoolArray:
        """Where there is a value."""
        return ~np.isnan(self.values)

    @cached_property
    def whole(self) -> bool:
        """Whether no value is missing: then much needs not to be looked at."""
        return bool(self.known.all())

    @property
    def missing_share(self) -> float:
        return 0.0 if self.whole else 1.0 - np.count_nonzero(self.known) / self.known.size

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
    chunks, counters, unusable = _chunks(series, start, end)
    if not chunks:
        return None
    steps: list[float] = []
    for chunk in chunks:
        steps += median(np.diff(chunk.times)[None, :]).tolist() * len(chunk.rows)
    first = min(float(chunk.times[0]) for chunk in chunks)
    last = max(float(chunk.times[-1]) for chunk in chunks)
    usual = sorted(steps)[int(0.9 * (len(steps) - 1) + 0.999)]
    bins = min(MAX_BINS, max(1, int(np.floor((last - first) / usual + 0.5)) + 1))
    step = max(usual, (last - first) / (bins - 0.5))
    begin = first - step / 2 if step == usual else first
    kept = np.array(sorted(row for chunk in chunks for row in chunk.rows), dtype=np.intp)
    matrix = np.full((len(kept), bins), np.nan)
    for chunk in chunks:
        places = np.clip(((chunk.times - begin) / step).astype(np.intp), 0, bins - 1)
        starts = np.flatnonzero(np.diff(places, prepend=-1))
        target = np.searchsorted(kept, chunk.rows)
        means = _means(np.array(chunk.values), starts)
        if len(starts) == bins:  # a sample in each: whole rows are copied faster
            matrix[target] = means
        else:
            matrix[target[:, None], places[starts]] = means
    return Grid(
        begin,
        step,
        matrix,
        [series[row] for row in kept],
        [row in counters for row in kept.tolist()],
        unusable,
    )


@dataclass(eq=False)
class _Chunk:
    """Series of the same times, as those of one query are: what is done once for all of them costs little."""

    rows: list[int]
    times: FloatArray
    values: list[FloatArray]


def _chunks(
    series: Sequence[MetricSeries], start: float | None, end: float | None
) -> tuple[list[_Chunk], set[int], int]:
    """What of the series lies between two times, counters as rates; which are such; how many have too few values."""
    counters = {row for row, one in enumerate(series) if one.kind is Kind.COUNTER}
    found: list[_Chunk] = []
    for run in _of_one_clock(series):
        times = series[run.start].times
        low = 0 if start is None else int(times.searchsorted(start, "left"))
        high = len(times) if end is None else int(times.searchsorted(end, "right"))
        before = max(0, low - 1)  # the sample before the range is where a counter's first increase begins
        values = [one.values[low:high] for one in series[run]]
        stacked = np.array(values)
        missing = np.isnan(stacked)
        known = high - low - (missing.sum(axis=1) if missing.any() else np.zeros(len(stacked), dtype=np.intp))
        fell = np.count_nonzero(stacked[:, 1:] < stacked[:, :-1], axis=1)
        plain = _Chunk([], times[low:high], [])
        rated = _Chunk([], times[:0], [])
        for row, measured, count, falls in zip(
            range(len(series))[run], values, known.tolist(), fell.tolist(), strict=True
        ):
            one = series[row]
            if (
                one.kind is Kind.GAUGE
                and not one.typed
                and MOST_FALLS * falls < high - low
                and looks_cumulative(measured)
            ):
                counters.add(row)
            if row in counters and not one.typed and falls >= 2 and wavers(measured):
                counters.discard(row)  # a gauge that is only called like a counter
            if row not in counters:
                if count >= _LEAST:
                    plain.rows.append(row)
                    plain.values.append(measured)
                continue
            at, rate = rates(times[before:high], one.values[before:high])
            if np.count_nonzero(~np.isnan(rate)) < _LEAST:
                continue
            if not _same(rated.times, at):
                found.append(rated)
                rated = _Chunk([], at, [])
            rated.rows.append(row)
            rated.values.append(rate)
        found += [plain, rated]
    found = [chunk for chunk in found if chunk.rows]
    return found, counters, len(series) - sum(len(chunk.rows) for chunk in found)


def _means(values: FloatArray, starts: npt.NDArray[np.intp]) -> FloatArray:
    """Of (rows, times) the mean of each stretch that begins at `starts`, without NaN. Taken of differences to one value
    of the row: sums of large values would lose digits."""
    known = ~np.isnan(values)
    whole = bool(known.all())
    zero = values[:, :1] if whole else np.take_along_axis(values, known.argmax(axis=1)[:, None], axis=1)
    away = values - zero if whole else np.where(known, values - zero, 0.0)
    lengths = np.diff(starts, append=values.shape[1])
    longest = int(lengths.max())
    if longest <= _SHORT_STRETCH:
        sums = away[:, starts]
        shortest = int(lengths.min())
        for place in range(1, longest):
            if place < shortest:  # of all: no need to choose
                sums += away[:, starts + place]
                continue
            there = np.flatnonzero(lengths > place)
            sums[:, there] += away[:, starts[there] + place]
    else:
        sums = np.add.reduceat(away, starts, axis=1)
    if whole:
        return sums / lengths + zero
    counts = np.add.reduceat(known, starts, axis=1, dtype=np.intp)
    return np.where(counts > 0, sums / np.maximum(counts, 1) + zero, np.nan)


def _of_one_clock(series: Sequence[MetricSeries]) -> Iterator[slice]:
    """Runs of series that have the same times, so many values at most."""
    start = 0
    for row in range(1, len(series) + 1):
        if (
            row == len(series)
            or (row - start) * len(series[row].times) > _AT_ONCE
            or not _same(series[start].times, series[row].times)
        ):
            yield slice(start, row)
            start = row


def _same(one: FloatArray, other: FloatArray) -> bool:
    return len(one) == len(other) and (len(one) == 0 or bool(one[0] == other[0] and (one == other).all()))
