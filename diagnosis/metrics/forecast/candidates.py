"""The candidates, and which of them a history is long enough for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from diagnosis.metrics.forecast import boosting as trees
from diagnosis.metrics.forecast import ets
from diagnosis.metrics.forecast.history import History
from diagnosis.metrics.forecast.ridge import fit_ridge
from diagnosis.metrics.forecast.seasonal import Forecaster, last_value, levelled, repeated

DAY_NAIVE, WEEK_NAIVE = "seasonal naive (day)", "seasonal naive (week)"


@dataclass(frozen=True)
class Candidate:
    """`fit` gives a forecaster that was fitted on a history of `days` days at least. One that is `learnt` costs time
    to fit, and serves horizons of up to a day."""

    name: str
    days: float
    fit: Callable[[History], Forecaster]
    learnt: bool = False


def candidates(*, boosting: bool = True) -> list[Candidate]:
    """All that can run here, the simplest first: of two that do equally well the simpler answers."""
    found = [
        Candidate("last value", 0, _as_it_is(last_value)),
        Candidate(DAY_NAIVE, 1, _as_it_is(repeated(1, 1, np.median))),
        Candidate(WEEK_NAIVE, 7, _as_it_is(repeated(7, 1, np.median))),
        Candidate("mean of weeks", 14, _as_it_is(repeated(7, 4, np.mean))),
        Candidate("median of weeks", 21, _as_it_is(repeated(7, 8, np.median))),
        Candidate("median of days with level", 2, _as_it_is(levelled(1, 7))),
        Candidate("median of weeks with level", 8, _as_it_is(levelled(7, 8))),
        Candidate("ridge", 14, fit_ridge, learnt=True),
    ]
    if ets.installed():
        found.append(Candidate("MSTL with ETS", 14, ets.fit_ets, learnt=True))
    if boosting and trees.installed():
        found.append(Candidate("gradient boosting", 14, trees.fit_boosting, learnt=True))
    return found


def reference(days: float) -> str:
    """The name of the seasonal naive forecast that scores are compared with, for a history of so many days."""
    return WEEK_NAIVE if days >= 7 else DAY_NAIVE


def _as_it_is(forecaster: Forecaster) -> Callable[[History], Forecaster]:
    return lambda _: forecaster
