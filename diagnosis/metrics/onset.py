"""When the system changed: one change point over all series, found with no knowledge of when.

Every series is put on its own robust scale and bounded, so that neither a unit nor a single spike decides. For each
candidate the mean of a short stretch after it is compared with the mean of all before it, in units of how much this
difference varies over all candidates of the same series: a series that always wanders has to do more. The squares of
what exceeds chance are added up over the series, bounded for each (a cumulative-sum statistic in the sense of Page
1954, on bounded scores as rank tests have it).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diagnosis.metrics.series import FloatArray
from diagnosis.metrics.shift import median

MOST = 12
LEAST_BEFORE = 3
LEAST_AFTER = 2
_BOUND = 6.0
_CHANCE = 2.5
_MOST = 16.0
_CLEAR = 64.0
_ENOUGH = 12
_PLACES = 16
"""Candidates nearer to each other than this part of the range are one."""
_FAINT = 0.25
"""Of the strength of a clear candidate: a weaker one is none beside it."""


@dataclass(frozen=True)
class Onset:
    """`index` is the first bin after the change; `strength` sums over all series the square of what exceeds chance."""

    index: int
    strength: float


def find_onsets(values: FloatArray, first: int, last: int, most: int = MOST) -> list[Onset]:
    """The likeliest changes in bins [first, last] of a (series, bins) matrix, strongest first, at most `most`. Empty
    when there is no room for one."""
    bins = values.shape[1]
    low, high = max(first, LEAST_BEFORE), min(last, bins - LEAST_AFTER)
    if high < low:
        return []
    # what is usual is known from before the range that is searched; without enough of that, from all
    usual = values[:, :first] if first >= _ENOUGH else values
    middle = median(usual)
    spread = 1.4826 * median(np.abs(usual - middle[:, None]))
    middle = np.where(np.isnan(middle), 0.0, middle)
    with np.errstate(invalid="ignore"):
        largest = np.nanmax(np.where(np.isnan(values), 0.0, np.abs(values)), axis=1)
    scale = np.maximum(spread, np.maximum(0.05 * np.abs(middle), 0.005 * largest))
    scale = np.where(scale > 0, scale, 1.0)
    known = ~np.isnan(values)
    scores = np.where(known, np.clip((values - middle[:, None]) / scale[:, None], -_BOUND, _BOUND), 0.0)
    sums = np.concatenate((np.zeros((len(values), 1)), np.cumsum(scores, axis=1)), axis=1)
    counts = np.concatenate((np.zeros((len(values), 1)), np.cumsum(known, axis=1)), axis=1)
    at = np.arange(LEAST_BEFORE, bins - LEAST_AFTER + 1)
    best: FloatArray = np.zeros(len(at))
    for width in _widths(bins):
        ends = np.minimum(at + width, bins)
        n_before, n_after = counts[:, at], counts[:, ends] - counts[:, at]
        with np.errstate(invalid="ignore", divide="ignore"):
            before = sums[:, at] / n_before
            after = (sums[:, ends] - sums[:, at]) / n_after
            # the mean of few values varies more; both ends of the range are such
            weight = np.sqrt(n_before * n_after / (n_before + n_after))
            difference = (after - before) * weight
        difference = np.where(np.isfinite(difference), difference, 0.0)
        known_quiet = at + width <= first
        quiet = difference[:, known_quiet] if known_quiet.sum() >= _ENOUGH else difference
        statistic = np.abs(difference) / np.maximum(1.4826 * median(np.abs(quiet)), 1.0)[:, None]
        best = np.maximum(best, np.square(_bounded(statistic - _CHANCE)).sum(axis=0))
    allowed = (at >= low) & (at <= high)
    apart = max(1, bins // _PLACES)
    found: list[Onset] = []
    for place in np.argsort(-best, kind="stable"):
        index, strength = int(at[place]), float(best[place])
        if found and found[0].strength >= _CLEAR and strength < _FAINT * found[0].strength:
            break
        if allowed[place] and all(abs(index - each.index) >= apart for each in found):
            found.append(Onset(index, strength))
            if len(found) == most:
                break
    return found


def _bounded(excess: FloatArray) -> FloatArray:
    """Zero below zero, then as it is, then ever slower up to `_MOST`: no series decides alone, and none ties."""
    positive = np.maximum(excess, 0.0)
    return positive / (1.0 + positive / _MOST)


def _widths(bins: int) -> list[int]:
    """Stretches after a candidate: a few samples, and an eighth of the range."""
    return sorted({max(LEAST_AFTER, min(bins // 8, 4)), max(LEAST_AFTER, bins // 8)})
