"""What the learnt candidates see of a time to be forecast: lags, the calendar, and the present departure.

A row is a pair of an origin and a horizon. All lags are of a day or more, so that one model serves every horizon of up
to a day; what is known of the hours before the origin comes in as departures from the day and the week before.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from diagnosis.metrics.forecast.history import DAY, History
from diagnosis.metrics.series import FloatArray

Indices = npt.NDArray[np.int64]
_PAIRS = 3
"""Horizons drawn for each time to learn from."""


def first_index(history: History) -> int:
    """The first time that has all its lags, seen a day before."""
    return 9 * history.day


def training_rows(history: History) -> tuple[FloatArray, FloatArray]:
    """(X, y) of shapes (rows, features), (rows,); each time with horizons drawn by a fixed seed."""
    day = history.day
    times = np.arange(first_index(history), len(history), dtype=np.int64)
    drawn = np.random.default_rng(0)
    index = np.tile(times, _PAIRS)
    horizon = drawn.integers(1, day + 1, len(index))
    measured = ~np.isnan(history.values[index])
    index, horizon = index[measured], horizon[measured]
    return rows(history, index, horizon), history.filled[index]


def future_rows(history: History, ahead: int) -> FloatArray:
    """Of the next `ahead` steps, at most a day of them."""
    horizon = np.arange(1, ahead + 1, dtype=np.int64)
    return rows(history, len(history) + horizon - 1, horizon)


def rows(history: History, index: Indices, horizon: Indices) -> FloatArray:
    """Features of times `index`, seen `horizon` steps before, shape (len(index), 26)."""
    values, day = history.filled, history.day
    week, hour = 7 * day, max(1, day // 24)
    sums = np.concatenate(([0.0], np.cumsum(values)))

    def lag(steps: int) -> FloatArray:
        return values[index - steps]

    def mean(stop: Indices, length: int) -> FloatArray:
        found: FloatArray = (sums[stop] - sums[stop - length]) / length
        return found

    origin = index - horizon + 1
    short = mean(origin, hour)
    apart = [short - mean(origin - back, hour) for back in (day, week)]
    apart += [mean(origin, day // 4) - mean(origin - week, day // 4), mean(origin, day) - mean(origin - week, day)]
    fading = np.exp(-horizon / (day / 8))
    past = np.median(np.stack([values[index - day * back] for back in range(1, 8)]), axis=0)
    at = (history.start + (index + 0.5) * history.step) / DAY
    clock = at % 1.0
    weekday = np.floor(at + 4) % 7  # 1970-01-01 was a Thursday
    return np.stack(
        [
            lag(day), lag(2 * day), lag(week), lag(week - 1), lag(week + 1), lag(week + day), past,
            mean(index - day + 1, day), mean(index - week + 1, day), lag(day) - lag(week + day),
            *apart, apart[0] * fading, apart[1] * fading, horizon.astype(float),
            *(wave(2 * np.pi * turns * clock) for turns in (1, 2, 3) for wave in (np.sin, np.cos)),
            clock, weekday, (weekday >= 5).astype(float),
        ],
        axis=1,
    )  # fmt: skip
