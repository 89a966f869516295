"""Forecasts that repeat earlier days or weeks, and their level. The strongest baselines there are for a load.

The median of the same time in the last weeks forgets a holiday or an outage at once, which a mean does not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diagnosis.metrics.forecast.history import History
from diagnosis.metrics.series import FloatArray

_LEVEL_SECONDS = 3 * 3600.0
"""So long a stretch tells how far the load is from what is usual, beside the newest value."""
_PENALTY = 0.02
"""Of the two, relative to their size: they are much alike."""
_MOST = 2.0
"""Of a departure, in logarithms: a load seven times its usual tells no more than that it is far off."""
_LEARNT_DAYS = 28
"""From the newest so many days it is learnt how long a departure lasts."""

Forecaster = Callable[[History, int], FloatArray]
"""From a history and a number of steps to the loads of the next steps, none negative."""


def last_value(history: History, ahead: int) -> FloatArray:
    """What an autoscaler without a forecast assumes."""
    return np.full(ahead, history.filled[-1])


def repeated(days: int, cycles: int, centre: Callable[..., FloatArray]) -> Forecaster:
    """The centre (mean or median) of the last `cycles` periods of `days` days, or of as many as there are."""

    def forecast(history: History, ahead: int) -> FloatArray:
        period = days * history.day
        return np.resize(_profile(history.filled, period, cycles, centre), ahead)

    return forecast


def levelled(days: int, cycles: int) -> Forecaster:
    """The median of the last periods, times the present departure from it as far as departures lasted before.

    With e(t) = log of load over its median profile and r(t) its mean over the last three hours, the forecast h steps
    ahead is profile * exp(a(h) * e + b(h) * r), where a(h), b(h) are the regression of e(t + h) on e(t) and r(t) over
    the last four weeks. Each e(t) is out of sample: its profile is of earlier periods alone.
    """

    def forecast(history: History, ahead: int) -> FloatArray:
        period = days * history.day
        values = history.filled
        profile = np.resize(_profile(values, period, cycles, np.median), ahead)
        recent = min(len(values) - period, _LEARNT_DAYS * history.day)
        small = 0.02 * float(values.mean()) + 1e-9
        ends = np.arange(len(values) - recent, len(values))
        departure = np.log((values[ends] + small) / (_rolling(values, ends, period, cycles) + small))
        departure = np.clip(departure, -_MOST, _MOST)
        window = max(1, round(_LEVEL_SECONDS / history.step))
        if recent < 2 * window:
            return profile
        sums = np.concatenate(([0.0], np.cumsum(departure)))
        newest = departure[window - 1 :]
        now = np.stack([newest, (sums[window:] - sums[:-window]) / window])
        knots = np.unique(np.geomspace(1, max(2, min(ahead, len(newest) // 2)), 14).astype(int))
        lasting = [_lasting(now, newest, int(knot)) for knot in knots]
        departs = np.interp(np.arange(1, ahead + 1), knots, lasting)
        raised: FloatArray = (profile + small) * np.exp(np.clip(departs, -_MOST, _MOST)) - small
        return np.maximum(raised, 0.0)

    return forecast


def _profile(values: FloatArray, period: int, cycles: int, centre: Callable[..., FloatArray]) -> FloatArray:
    """Of the next period, shape (period,)."""
    whole = min(cycles, len(values) // period)
    stacked = values[len(values) - whole * period :].reshape(whole, period)
    return centre(stacked, axis=0)


def _rolling(
    values: FloatArray, ends: np.ndarray[tuple[int], np.dtype[np.int64]], period: int, cycles: int
) -> FloatArray:
    """The median profile at each index of `ends`, of the periods before it; there is one at least."""
    found = np.empty(len(ends))
    known = np.minimum(ends // period, cycles)
    for number in np.unique(known):
        chosen = known == number
        back = ends[chosen][None, :] - period * np.arange(1, number + 1)[:, None]
        found[chosen] = np.median(values[back], axis=0)
    return found


def _lasting(now: FloatArray, departure: FloatArray, steps: int) -> float:
    """What the newest of `now` (shape (2, times)) say of the departure `steps` later, as earlier ones did."""
    known, later = now[:, :-steps], departure[steps:]
    gram = known @ known.T
    size = float(np.trace(gram)) / 2
    if size <= 0:
        return 0.0
    weights = np.linalg.solve(gram + _PENALTY * size * np.eye(2), known @ later)
    return float(now[:, -1] @ weights)
