"""Which series move together, and which later: association, never cause.

Differences from one sample to the next are compared, by rank: trends and counters that only grow would all correlate.
Lags are whole steps. The false-discovery rate is held over all pairs and lags (Benjamini & Hochberg 1995).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from diagnosis.metrics.series import FloatArray

MAX_LAG = 5
_LEAST = 10
"""Fewer common differences are no sample."""


@dataclass(frozen=True)
class Pair:
    """`lag` is in samples: how much later `second` moves; never negative."""

    first: int
    second: int
    lag: int
    coefficient: float
    q_value: float


def associations(values: FloatArray, *, least: float, rate: float, max_lag: int = MAX_LAG) -> list[Pair]:
    """Pairs of rows of a (series, bins) matrix whose Spearman coefficient of differences is at least `least` in size,
    and that hold at the false-discovery `rate`; strongest first. Of a pair the strongest lag counts, corrected for
    having looked at all."""
    steps = np.diff(values, axis=1)
    rows, length = steps.shape
    max_lag = min(max_lag, length // 4)
    if rows < 2 or length < _LEAST:
        return []
    ranks = _centered_ranks(steps)
    known = (~np.isnan(steps)).astype(np.float64)
    whole = bool(known.all())
    own = np.square(ranks)
    sums = np.concatenate((np.zeros((rows, 1)), np.cumsum(own, axis=1)), axis=1)
    each = np.arange(max_lag + 1)
    product = np.empty((len(each), rows, rows))
    common = np.broadcast_to((length - each).astype(np.float64)[:, None, None], product.shape)
    if whole:  # the same by sums
        heads, tails = sums[:, length - each].T, (sums[:, length:] - sums[:, each]).T
        norm = np.sqrt(heads[:, :, None] * tails[:, None, :])
    else:
        common, norm = np.empty(product.shape), np.empty(product.shape)
    for lag in each.tolist():
        early, late = slice(0, length - lag), slice(lag, length)
        product[lag] = ranks[:, early] @ ranks[:, late].T
        if not whole:
            common[lag] = known[:, early] @ known[:, late].T
            norm[lag] = np.sqrt((own[:, early] @ known[:, late].T) * (known[:, early] @ own[:, late].T))
    coefficients = np.divide(product, norm, out=np.zeros(product.shape), where=(norm > 0) & (common >= _LEAST))
    strength = np.abs(coefficients)
    best, lags = strength[0].copy(), np.zeros((rows, rows), dtype=np.intp)
    for lag in each[1:].tolist():
        better = strength[lag] > best + 0.05  # a lag has to explain clearly more than none does
        best[better], lags[better] = strength[lag][better], lag
    np.fill_diagonal(best, 0.0)
    if not (best >= least).any():
        return []  # then nothing has to be tested
    one, other = np.indices((rows, rows))
    best, size = coefficients[lags, one, other], np.where(best > 0, common[lags, one, other], 0.0)
    memory = _autocorrelation(ranks)
    one, other = np.triu_indices(rows, 1)
    reverse = np.abs(best[other, one]) > np.abs(best[one, other])
    one, other = np.where(reverse, other, one), np.where(reverse, one, other)
    samples = size[one, other] / np.maximum(1.0, 1.0 + 2.0 * (memory.T @ memory)[one, other])
    tested = [
        (_p_value(coefficient, count) * (2 * max_lag + 1), first, second)
        for coefficient, count, first, second in zip(
            best[one, other].tolist(), samples.tolist(), one.tolist(), other.tolist(), strict=True
        )
    ]
    tested.sort()
    kept: list[Pair] = []
    smallest = 1.0
    q_values = [0.0] * len(tested)
    for place in range(len(tested), 0, -1):
        smallest = min(smallest, tested[place - 1][0] * len(tested) / place, 1.0)
        q_values[place - 1] = smallest
    for (_, first, second), q_value in zip(tested, q_values, strict=True):
        if q_value <= rate and abs(found := float(best[first, second])) >= least:
            kept.append(Pair(first, second, int(lags[first, second]), max(-1.0, min(1.0, found)), q_value))
    return sorted(kept, key=lambda pair: (-abs(pair.coefficient), pair.first, pair.second))


def _centered_ranks(steps: FloatArray) -> FloatArray:
    """Ranks along rows, ties averaged, centered, 0 where unknown."""
    order = np.argsort(steps, axis=1)  # unknown ones last
    ordered = np.take_along_axis(steps, order, axis=1)
    places = np.arange(steps.shape[1])
    new = np.ones(steps.shape, dtype=np.bool_)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    known = ~np.isnan(steps)
    middle = (known.sum(axis=1, keepdims=True) - 1) / 2
    if new.all():  # no ties
        ranks = places - middle
    else:
        first = np.maximum.accumulate(np.where(new, places, 0), axis=1)
        ends = np.concatenate((new[:, 1:], np.ones((len(steps), 1), dtype=np.bool_)), axis=1)
        last = np.minimum.accumulate(np.where(ends, places, len(places))[:, ::-1], axis=1)[:, ::-1]
        ranks = (first + last) / 2 - middle
    found = np.empty(steps.shape)
    np.put_along_axis(found, order, ranks, axis=1)
    return np.where(known, found, 0.0)


def _autocorrelation(ranks: FloatArray) -> FloatArray:
    """(lags 1 to 3, series): differences of noise are correlated with themselves, so they are fewer than they seem
    (Bartlett's formula for the variance of a cross-correlation)."""
    total = np.maximum(np.square(ranks).sum(axis=1), 1e-12)
    return np.stack([(ranks[:, lag:] * ranks[:, :-lag]).sum(axis=1) / total for lag in (1, 2, 3)])


def _p_value(coefficient: float, size: float) -> float:
    """Two-sided, by Fisher's transformation, whose standard error for ranks is about 1.03 / sqrt(n - 3)."""
    if size <= 4:
        return 1.0
    bounded = min(abs(coefficient), 1 - 1e-12)
    return math.erfc(math.atanh(bounded) * math.sqrt(size - 3) / 1.03 / math.sqrt(2))
