"""Series that drift since the onset: slow leaks and queues that fill, which no single point gives away.

The slope is the median of the slopes between all pairs of points (Theil 1950, Sen 1968), and whether there is a trend
at all is what Mann (1945) and Kendall test: neither minds single spikes. A slope that the baseline had already is none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from diagnosis.metrics.series import BoolArray, FloatArray
from diagnosis.metrics.shift import FLOOR, evenly, median

_POINTS = 60
"""Of more, so many are compared: the pairs are their square."""
_LEAST = 8
_SURE = 3.29  # a normal deviate's one of a thousand, two-sided
_SIGMAS = 4.0


def drifted(rest: FloatArray, values: FloatArray, usual: slice, onset: int) -> BoolArray:
    """Points of a (series, bins) matrix from the onset on at which its drift is past four robust deviations of the
    baseline, the columns `usual`. `rest` are the values to look at, without what is due to the time of day."""
    found = np.zeros(values.shape, dtype=np.bool_)
    bins = values.shape[1]
    if bins - onset < _LEAST:
        return found
    slope, sure = _slope(rest, onset + evenly(bins - onset, _POINTS))
    before = rest[:, usual]
    places = np.arange(before.shape[1])
    was, was_sure = _slope(before, evenly(before.shape[1], _POINTS))
    was = np.where(was_sure, was, 0.0)
    level = before - was[:, None] * places
    noise = 1.4826 * median(np.abs(level - median(level)[:, None]))
    limit = _SIGMAS * np.fmax(noise, FLOOR * np.abs(median(values[:, usual])))
    gone = np.abs(slope - was)[:, None] * np.arange(1, bins - onset + 1)
    with np.errstate(invalid="ignore"):
        found[:, onset:] = sure[:, None] & (gone > limit[:, None]) & (gone > 0)
    return found & ~np.isnan(values)


def _slope(values: FloatArray, columns: npt.NDArray[np.intp]) -> tuple[FloatArray, BoolArray]:
    """Of each row the slope per bin over some columns (0 when unknown), and whether there is a trend."""
    one, other = np.triu_indices(len(columns), 1)
    if not len(one):
        return np.zeros(len(values)), np.zeros(len(values), dtype=np.bool_)
    steps = values[:, columns[other]] - values[:, columns[one]]
    slope = median(steps / (columns[other] - columns[one]))
    count = (~np.isnan(values[:, columns])).sum(axis=1)
    deviation = np.sqrt(np.maximum(count * (count - 1) * (2 * count + 5) / 18, 1.0))
    ordered = np.abs(np.nansum(np.sign(steps), axis=1))
    return np.nan_to_num(slope), (count >= _LEAST) & ((ordered - 1) / deviation > _SURE)
