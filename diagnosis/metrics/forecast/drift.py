"""Whether a trained predictor still fits: its interval over the last day against what came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diagnosis.metrics.forecast.history import History
from diagnosis.metrics.forecast.predictor import Predictor

_TOLERATED = 0.25
_WORSE = 2.0


@dataclass(frozen=True)
class Drift:
    """Of the newest day: the share of loads within the interval, the mean absolute error in load, and that of the
    back-test. `drifted` when the share is 25 points below what it should be, and the error twice the back-test's."""

    drifted: bool
    within: float
    expected: float
    mae: float
    usual_mae: float


def drift(predictor: Predictor, history: History) -> Drift | None:
    """None when there are too few measurements to judge by."""
    day = history.day
    if len(history) < day + day // 2 + 1:
        return None
    known = history.until(len(history) - day)
    if known.days < predictor.days / 2:
        return None
    band = predictor.predict(known, day)
    came = history.values[len(known) :][: len(band.forecast)]
    seen = ~np.isnan(came)
    if seen.sum() < day // 2:
        return None
    within = float(np.mean((came >= band.lower)[seen] & (came <= band.higher)[seen]))
    wrong = float(np.mean(np.abs(came - band.forecast)[seen]))
    usual = predictor.choice(len(band.forecast)).mae
    drifted = within < predictor.level - _TOLERATED and wrong > _WORSE * usual
    return Drift(drifted, within, predictor.level, wrong, usual)
