"""Gradient boosting over lags and calendar: scikit-learn's histogram trees, where they are installed.

One OpenMP thread: on a busy machine more of them wait for each other thirty times as long as they compute.
"""

from __future__ import annotations

import importlib.util

import numpy as np

from diagnosis.metrics.forecast.features import future_rows, training_rows
from diagnosis.metrics.forecast.history import History
from diagnosis.metrics.forecast.seasonal import Forecaster
from diagnosis.metrics.series import FloatArray

_MAX_ROWS = 6_000
"""The newest; more of them take longer and tell of older habits."""


def installed() -> bool:
    return importlib.util.find_spec("sklearn") is not None


def fit_boosting(history: History) -> Forecaster:
    """Fitted on a history of 10 days or more; half a second for four weeks of half hours."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    seen, load = training_rows(history)
    if len(load) > _MAX_ROWS:
        chosen = np.linspace(0, len(load) - 1, _MAX_ROWS).astype(int)
        seen, load = seen[chosen], load[chosen]
    model = HistGradientBoostingRegressor(
        loss="absolute_error",  # a holiday among the days learnt from counts as one day, not as its square
        max_iter=100,
        learning_rate=0.08,
        max_leaf_nodes=15,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=0,
    )
    with threadpool_limits(1, user_api="openmp"):
        model.fit(seen, load)

    def forecast(history: History, ahead: int) -> FloatArray:
        with threadpool_limits(1, user_api="openmp"):
            found: FloatArray = model.predict(future_rows(history, ahead))
        return np.maximum(found, 0.0)

    return forecast
