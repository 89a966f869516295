"""Rolling-origin back-test: each candidate forecasts from many moments of the past with what was known then.

R. J. Hyndman, G. Athanasopoulos, Forecasting: Principles and Practice, 3rd ed., §5.10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from diagnosis.metrics.forecast.candidates import Candidate
from diagnosis.metrics.forecast.features import first_index
from diagnosis.metrics.forecast.history import History
from diagnosis.metrics.forecast.seasonal import Forecaster
from diagnosis.metrics.series import FloatArray

TEST_DAYS = 28.0
MAX_ORIGINS = 56
_REFITS = 4
"""Learnt candidates are fitted so often within a back-test, each time on what was known at that moment."""


@dataclass
class BackTest:
    """`forecasts[name]` and `actual` have the shape (origins, steps ahead); `actual` is NaN where nothing was measured.
    `trained` holds the days that were known at the first origin; `scale` is what errors are divided by for MASE: the
    mean absolute error of the day before as a forecast, over what was known at the first origin (R. J. Hyndman, A. B.
    Koehler, Another look at measures of forecast accuracy, 2006)."""

    actual: FloatArray
    scale: float
    trained: float
    forecasts: dict[str, FloatArray] = field(default_factory=dict)

    def mae(self, name: str, first: int, last: int) -> float:
        """Mean absolute error of the steps ahead from `first` to before `last`; NaN when none was measured."""
        wrong = np.abs(self.forecasts[name][:, first:last] - self.actual[:, first:last])
        return float(np.nanmean(wrong)) if np.isfinite(wrong).any() else float("nan")

    def mase(self, name: str, first: int, last: int) -> float:
        return self.mae(name, first, last) / self.scale if self.scale > 0 else float("nan")


def origins_of(points: int, day: int, ahead: int) -> list[int]:
    """How many points were known at each origin, oldest first: evenly over the newest four weeks, or over the newest
    half of a shorter history. Empty when it is shorter than two days and the horizon."""
    first = max(points - round(TEST_DAYS * day), points // 2, day) - (ahead if points > 3 * ahead else 0)
    last = points - ahead
    if first < day or last <= first:
        return []
    count = min(MAX_ORIGINS, max(2, (last - first) * 2 // day))
    return sorted({int(origin) for origin in np.linspace(first, last, count)})


def back_test(history: History, chosen: Sequence[Candidate], ahead: int) -> BackTest | None:
    """None when the history is too short. Candidates that the history at the first origin is too short for, and those
    that are learnt where `ahead` is more than a day or less than a day was measured to learn from, are left out."""
    day = history.day
    origins = origins_of(len(history), day, ahead)
    if not origins:
        return None
    first = origins[0]
    before = history.filled[:first]
    scale = float(np.mean(np.abs(before[day:] - before[:-day]))) if first > day else 0.0
    found = BackTest(np.stack([history.values[origin : origin + ahead] for origin in origins]), scale, first / day)
    learnable = np.count_nonzero(~np.isnan(history.values[first_index(history) : first]))
    for candidate in chosen:
        if candidate.days * day > first or (candidate.learnt and (ahead > day or learnable < day)):
            continue
        every = max(1, -(-len(origins) // _REFITS)) if candidate.learnt else len(origins)
        made: list[FloatArray] = []
        forecaster: Forecaster | None = None
        for number, origin in enumerate(origins):
            known = history.until(origin)
            if forecaster is None or number % every == 0:
                forecaster = candidate.fit(known)
            made.append(forecaster(known, ahead))
        found.forecasts[candidate.name] = np.stack(made)
    return found
