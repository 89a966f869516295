"""Detectors by name: which points of a series are unusual. Each looks at a matrix of series and knows a baseline.

zscore, iqr, change_point, trend, seasonal and streaming look along a series; isolation_forest and dbscan across the
pods of a workload, where they need scikit-learn (the extra `metrics`) and four pods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from diagnosis.metrics import streaming, trend
from diagnosis.metrics.config import DetectorName
from diagnosis.metrics.series import BoolArray, FloatArray
from diagnosis.metrics.shift import FLOOR, median, quantile

PEERS = 4
_SIGMAS = 4.0
_FENCES = 3.0  # Tukey's outer fences
_DAY = 86_400.0
_SMALL = 1e-12  # of the largest value: below is rounding


class Usual:
    """What is usual in a (series, bins) matrix by its baseline's columns; detectors of the same matrix share it."""

    def __init__(self, values: FloatArray, columns: slice) -> None:
        self.values, self.columns = values, columns

    @cached_property
    def away(self) -> FloatArray:
        """From the baseline's median."""
        return self.values - self.middle

    @cached_property
    def middle(self) -> FloatArray:
        return median(self.values[:, self.columns])[:, None]

    @cached_property
    def spread(self) -> FloatArray:
        """As a standard deviation, at least a small share of the median."""
        deviation = 1.4826 * median(np.abs(self.away[:, self.columns]))[:, None]
        found: FloatArray = np.fmax(deviation, FLOOR * np.abs(self.middle))
        return found

    @cached_property
    def largest(self) -> FloatArray:
        """Of all values, by size."""
        known = np.where(np.isnan(self.values), 0.0, np.abs(self.values))
        found: FloatArray = known.max(axis=1, keepdims=True, initial=0.0)
        return found


def detect(
    name: DetectorName,
    values: FloatArray,
    *,
    usual: slice,
    onset: int,
    step: float,
    peers: Sequence[Sequence[int]] = (),
    shared: Usual | None = None,
) -> BoolArray:
    """Unusual points of a (series, bins) matrix by detector `name`; NaN is never one. `usual` are the baseline's
    columns, `step` is in seconds, `peers` are rows that measure the same on the pods of one workload; `shared` spares
    that several detectors compute the same.

    Raises ImportError for a detector across peers when scikit-learn is not installed.
    """
    if name == "seasonal":
        return _seasonal(values, step, onset)
    if name == "streaming":
        return np.array([streaming.alerts(streaming.scores(row)) for row in values], dtype=np.bool_).reshape(
            values.shape
        )
    if name == "trend":
        return trend.drifted(_without_days(values, step, onset), values, usual, onset)
    if name in ("isolation_forest", "dbscan"):
        return _across_peers(values, usual, peers, _forest if name == "isolation_forest" else _dbscan)
    known = shared or Usual(values, usual)
    if name == "change_point":
        return _change_point(known, onset)
    return (_zscore if name == "zscore" else _iqr)(known)


def _zscore(known: Usual) -> BoolArray:
    """Four robust standard deviations from the baseline's median."""
    return _beyond(np.abs(known.away), _SIGMAS * known.spread, known)


def _iqr(known: Usual) -> BoolArray:
    """Outside of the baseline's outer fences, three times the range between its quartiles."""
    usual = known.values[:, known.columns]
    low, high = quantile(usual, 0.25)[:, None], quantile(usual, 0.75)[:, None]
    width = np.fmax(high - low, FLOOR * np.fmax(np.abs(low), np.abs(high)))
    return _beyond(np.fmax(known.values - high, low - known.values), _FENCES * width, known)


def _change_point(known: Usual, onset: int) -> BoolArray:
    """From the onset on, a cumulative sum of deviations, less half a standard deviation at each step, that goes past
    five (Page 1954, with the usual k = 0.5 and h = 5), two-sided."""
    with np.errstate(invalid="ignore", divide="ignore"):
        moved = np.clip(known.away / known.spread, -_SIGMAS, _SIGMAS)
    moved = np.where(np.isfinite(moved), moved, 0.0)
    moved[:, :onset] = 0.0
    found = np.zeros(moved.shape, dtype=np.bool_)
    for way in (moved, -moved):
        total = np.cumsum(way - 0.5, axis=1)
        found |= total - np.minimum.accumulate(total, axis=1) > 5
    found[:, :onset] = False
    return found & ~np.isnan(known.values)


def _seasonal(values: FloatArray, step: float, onset: int) -> BoolArray:
    """Unlike the same time of the days before: four robust deviations of what is left after the median of these. Needs
    two days before the onset; without, nothing is unusual."""
    rest = _without_days(values, step, onset)
    return np.zeros(values.shape, dtype=np.bool_) if rest is values else _zscore_of_rest(rest, values, onset)


def _without_days(values: FloatArray, step: float, onset: int) -> FloatArray:
    """The difference to the median of the same time of the days before the onset; the values themselves when that are
    not two days."""
    period = round(_DAY / step)
    if step > _DAY / 4 or onset < 2 * period:
        return values
    days = [values[:, start : start + period] for start in range(0, onset - period + 1, period)]
    shape = np.stack(days, axis=2).reshape(-1, len(days))
    usual = median(shape).reshape(len(values), period)
    rest: FloatArray = values - np.tile(usual, (1, values.shape[1] // period + 1))[:, : values.shape[1]]
    return rest


def _zscore_of_rest(rest: FloatArray, values: FloatArray, onset: int) -> BoolArray:
    spread = 1.4826 * median(np.abs(rest[:, :onset]))[:, None]
    known = Usual(values, slice(0, onset))
    return _beyond(np.abs(rest), _SIGMAS * np.fmax(spread, FLOOR * np.abs(known.middle)), known)


def _beyond(distance: FloatArray, limit: FloatArray, known: Usual) -> BoolArray:
    found: BoolArray = (distance > limit) & (distance > _SMALL * known.largest)
    return found & ~np.isnan(known.values)


def _across_peers(
    values: FloatArray,
    usual: slice,
    peers: Sequence[Sequence[int]],
    outliers: Callable[[FloatArray], BoolArray],
) -> BoolArray:
    """Points of a pod that is unlike its peers, at all times at which it is."""
    found = np.zeros(values.shape, dtype=np.bool_)
    for rows in peers:
        if len(rows) < PEERS:
            continue
        group = values[list(rows)]
        middle = median(group.T)  # of the peers, at each time
        away = group - middle
        spread = 1.4826 * np.nanmedian(np.abs(away[:, usual])) if np.isfinite(away[:, usual]).any() else 0.0
        size = max(float(spread), FLOOR * float(np.nanmedian(np.abs(middle))) if np.isfinite(middle).any() else 0.0)
        if size <= 0:
            continue
        scaled = away / size
        known = ~np.isnan(scaled)
        if known.sum() < 8:
            continue
        marks = np.zeros(values[list(rows)].shape, dtype=np.bool_)
        marks[known] = outliers(scaled[known].reshape(-1, 1)) & (np.abs(scaled[known]) > _SIGMAS)
        found[list(rows)] = marks
    return found


def _forest(points: FloatArray) -> BoolArray:
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(n_estimators=50, max_samples=min(256, len(points)), random_state=0, n_jobs=1)
    found: BoolArray = forest.fit_predict(points) == -1
    return found


def _dbscan(points: FloatArray) -> BoolArray:
    """Points within no group of at least a twentieth of all, one robust deviation apart at most."""
    from sklearn.cluster import DBSCAN

    labels = DBSCAN(eps=1.0, min_samples=max(3, len(points) // 20)).fit_predict(points)
    found: BoolArray = labels == -1
    return found
