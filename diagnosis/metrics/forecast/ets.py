"""MSTL and ETS, where statsmodels is installed: day and week are taken away, what is left is smoothed exponentially.

K. Bandara, R. J. Hyndman, C. Bergmeir, MSTL: A Seasonal-Trend Decomposition Algorithm for Time Series with Multiple
Seasonal Patterns, 2021. The rest is of the innovations model ETS(A,Ad,N): R. J. Hyndman et al., Forecasting with
Exponential Smoothing, 2008, ch. 2.
"""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass

import numpy as np

from diagnosis.metrics.forecast.history import History
from diagnosis.metrics.forecast.seasonal import Forecaster, repeated
from diagnosis.metrics.series import FloatArray

_DAYS = 28
"""The newest; the time that it takes grows with them."""
_WARM_DAYS = 7
"""So much of a history finds its level before the forecast."""


def installed() -> bool:
    return importlib.util.find_spec("statsmodels") is not None


@dataclass(frozen=True)
class _Smoothing:
    """`pattern` is the seasonal part of one week from the step `first` (steps since 1970) on."""

    pattern: FloatArray
    first: int
    level: float
    trend: float
    damping: float

    def forecast(self, history: History, ahead: int) -> FloatArray:
        count = min(len(history), _WARM_DAYS * history.day)
        begin = round(history.start / history.step) + len(history) - count
        seasonal = self.pattern[(begin + np.arange(count + ahead) - self.first) % len(self.pattern)]
        rest = history.filled[-count:] - seasonal[:count]
        level, slope = float(rest[0]), 0.0
        for value in rest.tolist():
            expected = level + self.damping * slope
            wrong = value - expected
            level, slope = expected + self.level * wrong, self.damping * slope + self.trend * wrong
        steps = np.arange(1, ahead + 1)
        found: FloatArray = level + slope * np.cumsum(self.damping**steps) + seasonal[count:]
        return np.maximum(found, 0.0)


def fit_ets(history: History) -> Forecaster:
    """Fitted on a history of 14 days or more, in seconds. One that it cannot be fitted to gets the week before."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel
    from statsmodels.tsa.seasonal import MSTL

    day = history.day
    size = float(history.filled[-_DAYS * day :].mean()) or 1.0
    values = history.filled[-_DAYS * day :] / size  # the search for its parameters depends on no unit
    apart = max(
        1, day // 4
    )  # its smooth parts change little within six hours, and every step of them would take minutes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what did not converge: the back-test tells how good it is
            parts = MSTL(values, periods=(day, 7 * day), stl_kwargs={"trend_jump": apart, "low_pass_jump": apart}).fit()
            seasonal = np.asarray(parts.seasonal).sum(axis=1)
            model = ETSModel(values - seasonal, error="add", trend="add", damped_trend=True)
            fitted = dict(zip(model.param_names, model.fit(disp=False).params, strict=True))
    except (ValueError, np.linalg.LinAlgError):
        return repeated(7, 1, np.median)
    made = _Smoothing(
        pattern=seasonal[-7 * day :] * size,
        first=round(history.start / history.step) + len(history) - 7 * day,
        level=float(fitted["smoothing_level"]),
        trend=float(fitted["smoothing_trend"]),
        damping=float(fitted["damping_trend"]),
    )
    if not np.isfinite([*made.pattern, made.level, made.trend, made.damping]).all():
        return repeated(7, 1, np.median)
    return made.forecast
