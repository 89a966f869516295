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
    memory = _autocorrelation(ranks)
    best = np.zeros((rows, rows))
    size = np.zeros((rows, rows))
    lags = np.zeros((rows, rows), dtype=np.intp)
    for lag in range(max_lag + 1):
        early, late = slice(0, length - lag), slice(lag, length)
        common = known[:, early] @ known[:, late].T
        product = ranks[:, early] @ ranks[:, late].T
        own = np.square(ranks)
        norm = np.sqrt((own[:, early] @ known[:, late].T) * (known[:, early] @ own[:, late].T))
        with np.errstate(invalid="ignore", divide="ignore"):
            coefficient = np.where((norm > 0) & (common >= _LEAST), product / norm, 0.0)
        # a lag has to explain clearly more than none does
        better = np.abs(coefficient) > np.abs(best) + (0.05 if lag else 0.0)
        best, size = np.where(better, coefficient, best), np.where(better, common, size)
        lags = np.where(better, lag, lags)
    tested: list[tuple[float, int, int]] = []
    for first in range(rows):
        for second in range(first + 1, rows):
            one, other = (first, second), (second, first)
            way = one if abs(best[one]) >= abs(best[other]) else other
            samples = float(size[way]) / max(1.0, 1.0 + 2.0 * float(memory[:, first] @ memory[:, second]))
            tested.append((_p_value(float(best[way]), samples) * (2 * max_lag + 1), *way))
    tested.sort()
    kept: list[Pair] = []
    smallest = 1.0
    q_values = [0.0] * len(tested)
    for place in range(len(tested), 0, -1):
        smallest = min(smallest, tested[place - 1][0] * len(tested) / place, 1.0)
        q_values[place - 1] = smallest
    for (_, first, second), q_value in zip(tested, q_values, strict=True):
        coefficient_found = float(np.clip(best[first, second], -1, 1))
        if q_value <= rate and abs(coefficient_found) >= least:
            kept.append(Pair(first, second, int(lags[first, second]), coefficient_found, q_value))
    return sorted(kept, key=lambda pair: (-abs(pair.coefficient), pair.first, pair.second))


def _centered_ranks(steps: FloatArray) -> FloatArray:
    """Ranks along rows, ties averaged, centered, 0 where unknown."""
    found = np.zeros(steps.shape)
    for row, one in enumerate(steps):
        known = np.flatnonzero(~np.isnan(one))
        if not len(known):
            continue
        _, inverse, counts = np.unique(one[known], return_inverse=True, return_counts=True)
        last = np.cumsum(counts)
        found[row, known] = (last - (counts - 1) / 2)[inverse] - (len(known) + 1) / 2
    return found


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
