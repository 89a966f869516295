"""The history of a load on a regular grid, whatever times it was measured at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diagnosis.metrics.series import FloatArray
from errors import InvalidInput

DAY = 86_400.0
STEPS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400)
"""Steps of the grid in seconds: each divides a day, so that the same time of another day is a whole number of steps."""
MAX_POINTS = 26_000
"""Of a grid; 90 days at 5 minutes. A longer or finer history gets a coarser grid, of which each point is a mean."""
MAX_LOAD = 1e15


@dataclass(frozen=True, eq=False)
class History:
    """`values[i]` is the mean load within `step` seconds from `start + i * step` (seconds since 1970), NaN where
    nothing was measured. `filled` has no gaps: each is the median of the same time on up to four earlier days, else
    the value before. No value of it depends on a later one. `notes` say what was left out."""

    start: float
    step: float
    values: FloatArray
    filled: FloatArray
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, times: FloatArray, loads: FloatArray, *, step: float | None = None) -> History:
        """Any order of times; those that come twice are averaged. Negative, infinite and absurd loads are gaps.

        `step` is the least step of the grid in seconds; what was measured less often gets a coarser one. Raises
        InvalidInput when nothing is left, or it is measured less often than every four hours.
        """
        at = np.asarray(times, dtype=np.float64)
        load = np.asarray(loads, dtype=np.float64)
        usable = np.isfinite(at) & np.isfinite(load) & (load >= 0) & (load <= MAX_LOAD)
        wrong = int(np.count_nonzero(np.isfinite(load) & ((load < 0) | (load > MAX_LOAD))))
        notes = [f"{wrong} negative or impossible values were left out"] if wrong else []
        at, load = at[usable], load[usable]
        if not len(at):
            raise InvalidInput("the history has no measured value")
        order = np.argsort(at, kind="stable")
        at, load = at[order], load[order]
        gaps = np.diff(at)
        twice = int(np.count_nonzero(gaps == 0))
        if twice:
            notes.append(f"{twice} values of times that came twice were averaged")
        gaps = gaps[gaps > 0]
        width = _width(float(np.median(gaps)) if len(gaps) else STEPS[0], float(at[-1] - at[0]), step or 0.0)
        cell = np.floor(at / width).astype(np.int64)
        first = int(cell[0])
        count = np.bincount(cell - first)
        total = np.bincount(cell - first, weights=load)
        values = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        missing = float(np.mean(count == 0))
        if missing > 0.02:
            notes.append(f"{missing:.0%} of the history is gaps")
        return cls(first * width, width, values, _fill(values, round(DAY / width)), tuple(notes))

    @property
    def day(self) -> int:
        """Points of a day."""
        return round(DAY / self.step)

    @property
    def end(self) -> float:
        """When the last point ends, seconds since 1970: the first time that is not known."""
        return self.start + len(self.values) * self.step

    @property
    def days(self) -> float:
        return len(self.values) * self.step / DAY

    def __len__(self) -> int:
        return len(self.values)

    def until(self, points: int) -> History:
        """The first `points` points: what was known then."""
        return History(self.start, self.step, self.values[:points], self.filled[:points], self.notes)


def _width(usual: float, span: float, least: float) -> float:
    needed = max(usual * 0.99, span / MAX_POINTS, least)
    for step in STEPS:
        if step >= needed:
            return float(step)
    raise InvalidInput(
        f"the load is measured every {needed:.0f} s; a forecast needs a value every {STEPS[-1]} s at least"
    )


def _fill(values: FloatArray, day: int) -> FloatArray:
    filled = values.copy()
    for index in np.flatnonzero(np.isnan(values)):
        earlier = filled[max(index - 4 * day, index % day) : index : day]
        filled[index] = np.median(earlier) if len(earlier) else filled[index - 1]
    return filled
