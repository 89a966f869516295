"""Split-conformal intervals: how far forecasts were off decides how wide the interval is.

V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World, 2005; with errors relative to the forecast's
size where that makes intervals narrower (locally weighted: J. Lei et al., Distribution-Free Predictive Inference for
Regression, 2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from diagnosis.metrics.series import FloatArray


@dataclass(frozen=True)
class Calibration:
    """`scores` are (actual - forecast) / size in ascending order, where size = `floor` + `share` * forecast."""

    scores: FloatArray
    floor: float
    share: float

    @classmethod
    def of(cls, forecast: FloatArray, actual: FloatArray) -> Calibration:
        """From forecasts and what came, of one shape; NaN counts for nothing."""
        known = np.isfinite(forecast) & np.isfinite(actual)
        predicted, came = forecast[known], actual[known]
        middle = float(predicted.mean()) if len(predicted) else 0.0
        made = [
            cls(np.sort((came - predicted) / (floor + share * predicted)), floor, share)
            for floor, share in ((max(middle, 1e-9), 0.0), (0.1 * max(middle, 1e-9), 1.0))
        ]
        return min(made, key=lambda one: float(np.mean(one.at(predicted, 0.95) - predicted)) if len(predicted) else 0)

    def __len__(self) -> int:
        return len(self.scores)

    def at(self, forecast: FloatArray, quantile: float) -> FloatArray:
        """The load that is not exceeded with a chance of `quantile`, never negative. The finite-sample rule: the
        ceil((n + 1) * quantile)-th of n scores, or the greatest; below a half the same from the other side."""
        n = len(self.scores)
        if n == 0:
            return np.maximum(forecast, 0.0)
        rank = math.ceil((n + 1) * quantile) if quantile >= 0.5 else math.floor((n + 1) * quantile)
        score = self.scores[min(max(rank, 1), n) - 1]
        bound: FloatArray = forecast + score * (self.floor + self.share * np.maximum(forecast, 0.0))
        return np.maximum(bound, 0.0)


def coverage(forecast: FloatArray, actual: FloatArray, quantile: float) -> float:
    """Share of what came at or below the upper bound, measured honestly: calibrated on the older half of the origins
    (rows), counted on the newer half. NaN with fewer than four origins."""
    half = len(forecast) // 2
    if half < 2:
        return float("nan")
    upper = Calibration.of(forecast[:half], actual[:half]).at(forecast[half:], quantile)
    came = actual[half:]
    known = np.isfinite(came)
    return float(np.mean(came[known] <= upper[known])) if known.any() else float("nan")


def interval_coverage(forecast: FloatArray, actual: FloatArray, level: float) -> float:
    """The same of a two-sided interval that should hold a share `level`."""
    half = len(forecast) // 2
    if half < 2:
        return float("nan")
    made = Calibration.of(forecast[:half], actual[:half])
    low, high = made.at(forecast[half:], (1 - level) / 2), made.at(forecast[half:], (1 + level) / 2)
    came = actual[half:]
    known = np.isfinite(came)
    within = (low[known] <= came[known]) & (came[known] <= high[known])
    return float(np.mean(within)) if known.any() else float("nan")
