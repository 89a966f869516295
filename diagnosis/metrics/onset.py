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

from diagnosis.metrics.series import BoolArray, FloatArray
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
    away = values - middle[:, None]
    spread = 1.4826 * median(np.abs(away[:, : usual.shape[1]]))
    known = ~np.isnan(values)
    whole = bool(known.all())
    if not whole:
        middle = np.where(np.isnan(middle), 0.0, middle)
        away = values - middle[:, None]
    largest = np.abs(values if whole else np.where(known, values, 0.0)).max(axis=1)
    scale = np.maximum(spread, np.maximum(0.05 * np.abs(middle), 0.005 * largest))
    scale = np.where(scale > 0, scale, 1.0)
    scores = np.divide(away, scale[:, None], out=away)
    np.maximum(np.minimum(scores, _BOUND, out=scores), -_BOUND, out=scores)
    if not whole:
        scores[~known] = 0.0
    sums = _running(scores)
    counts = _running(known[:1] if whole else known)  # one row stands for all that miss nothing
    last_place = bins - LEAST_AFTER + 1
    at = np.arange(LEAST_BEFORE, last_place)
    allowed = slice(low - LEAST_BEFORE, high - LEAST_BEFORE + 1)
    n_before, sum_before = counts[:, LEAST_BEFORE:last_place], sums[:, LEAST_BEFORE:last_place]
    best: FloatArray = np.zeros(high - low + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        before = sum_before / n_before
        for width in _widths(bins):
            n_after = _later(counts, at[0], width, len(at))
            n_after -= n_before
            after = _later(sums, at[0], width, len(at))
            after -= sum_before
            after /= n_after
            # the mean of few values varies more; both ends of the range are such
            after -= before
            difference = np.abs(after, out=after)
            difference *= np.sqrt(n_before * n_after / (n_before + n_after))
            if not whole:
                difference = np.where(np.isfinite(difference), difference, 0.0)
            known_quiet = int((at + width <= first).sum())
            quiet = difference[:, :known_quiet] if known_quiet >= _ENOUGH else difference
            statistic = difference[:, allowed] / np.maximum(1.4826 * median(quiet), 1.0)[:, None]
            best = np.maximum(best, _evidence(statistic))
    return _strongest(best, low, max(1, bins // _PLACES), most)


def _strongest(strengths: FloatArray, first: int, apart: int, most: int) -> list[Onset]:
    """The strongest candidates at least so many bins from each other; no faint one beside a clear one."""
    left = strengths.copy()
    found: list[Onset] = []
    while len(found) < most:
        place = int(left.argmax())
        strength = float(left[place])
        if strength < 0 or (found and found[0].strength >= _CLEAR and strength < _FAINT * found[0].strength):
            break
        found.append(Onset(first + place, strength))
        left[max(0, place - apart + 1) : place + apart] = -1.0
    return found


def _running(values: FloatArray | BoolArray) -> FloatArray:
    """Sums of what stands before each column, and of all at the end."""
    found: FloatArray = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=found[:, 1:])
    return found


def _later(running: FloatArray, first: int, width: int, count: int) -> FloatArray:
    """`running` so many columns later, of `count` columns from `first` on; its last one past its end."""
    last = running.shape[1] - 1
    inside = max(0, min(count, last + 1 - first - width))
    found: FloatArray = np.empty((len(running), count))
    found[:, :inside] = running[:, first + width : first + width + inside]
    found[:, inside:] = running[:, last:]
    return found


def _evidence(statistic: FloatArray) -> FloatArray:
    """The sum over the series of the square of what exceeds chance: zero below it, then as it is, then ever slower up
    to `_MOST`: no series decides alone, and none ties."""
    excess = np.subtract(statistic, _CHANCE, out=statistic)
    np.maximum(excess, 0.0, out=excess)
    excess /= 1.0 + excess / _MOST
    found: FloatArray = np.square(excess, out=excess).sum(axis=0)
    return found


def _widths(bins: int) -> list[int]:
    """Stretches after a candidate: a few samples, and an eighth of the range."""
    return sorted({max(LEAST_AFTER, min(bins // 8, 4)), max(LEAST_AFTER, bins // 8)})
