"""Anomalies as they arrive: a score for each sample that knows nothing of later ones, and one alert an episode.

Three views of a series are each compared with all of their own past: the value, its level (the mean of the last
samples) and its spread (their standard deviation). A spike moves the first, a shift the second, a change of behaviour
the third; the sum of the deviations is the score. A sample alerts only when it scores more than all of the last ones
did: a long anomaly is one alert at its start, which is worth more than the choice of detector (rca figures on the
Numenta Anomaly Benchmark: benchmarks/anomalies.py).
"""

from __future__ import annotations

import numpy as np

from diagnosis.metrics.series import BoolArray, FloatArray

LEVEL = 12
SPREAD = 48
QUIET = 144
"""Samples: an alert needs a higher score than all of so many before it had."""
THRESHOLD = 11.0
"""Of the sum of three deviations: between what the benchmark finds best on either half of its files."""
_FIRST = 20
_MOST = 50.0
_STILL = 1e-3


def scores(values: FloatArray) -> FloatArray:
    """The score of each sample of one series, 0 to 150; no unit. 0 for the first twenty samples and for gaps, which
    change nothing."""
    found = np.zeros(len(values))
    known = ~np.isnan(values)
    measured = values[known]
    if len(measured) <= _FIRST:
        return found
    moved = measured - measured[0]  # sums of squares of large values would lose digits
    level = _means(moved, LEVEL)
    spread = np.sqrt(np.maximum(_means(np.square(moved), SPREAD) - np.square(_means(moved, SPREAD)), 0.0))
    found[known] = _against_past(moved) + _against_past(level) + _against_past(spread)
    return found


def alerts(scored: FloatArray, threshold: float = THRESHOLD, quiet: int = QUIET) -> BoolArray:
    """Samples whose score is past the threshold and higher than each of the `quiet` before."""
    if not len(scored):
        return np.zeros(0, dtype=np.bool_)
    padded = np.concatenate((np.full(quiet, -np.inf), scored[:-1]))
    highest = np.lib.stride_tricks.sliding_window_view(padded, quiet).max(axis=1)
    found: BoolArray = (scored > threshold) & (scored > highest)
    return found


def _means(values: FloatArray, width: int) -> FloatArray:
    """Of the last `width` values at each place, of fewer at the start."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    found: FloatArray = (sums[ends] - sums[starts]) / (ends - starts)
    return found


def _against_past(values: FloatArray) -> FloatArray:
    """How many standard deviations of all values before each lies from their mean, at most 50."""
    moved = values - values[0]
    counts = np.arange(1, len(moved) + 1)
    mean = np.cumsum(moved) / counts
    deviation = np.sqrt(np.maximum(np.cumsum(np.square(moved)) / counts - np.square(mean), 0.0))
    # a series that stood still: a thousandth of its own size is no noise, and rounding is none either
    deviation = np.maximum(deviation, _STILL * np.maximum.accumulate(np.abs(moved)))
    found = np.zeros(len(moved))
    with np.errstate(invalid="ignore", divide="ignore"):
        away = np.abs(moved[1:] - mean[:-1]) / deviation[:-1]
    found[1:] = np.minimum(np.where(np.isnan(away), 0.0, away), _MOST)
    found[:_FIRST] = 0.0
    return found
