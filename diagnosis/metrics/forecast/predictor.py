"""The winners of a back-test for each range of horizons, and what they say of the load to come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from diagnosis.metrics.forecast.backtest import BackTest, back_test
from diagnosis.metrics.forecast.candidates import Candidate, candidates, reference
from diagnosis.metrics.forecast.conformal import Calibration, coverage, interval_coverage
from diagnosis.metrics.forecast.history import History
from diagnosis.metrics.forecast.seasonal import Forecaster
from diagnosis.metrics.series import FloatArray

LONGEST_DAYS = 7
MIN_DAYS = 3.0
"""A shorter history shows no day twice after the first origin."""
_MEMBERS, _NEAR = 3, 1.5
"""The mean of the best so many candidates answers, of those whose error is within this multiple of the least. A mean is
hurt less by a choice that a few odd days decided: S. Makridakis et al., The M4 Competition, 2020, found it best too."""
_RANGES: tuple[tuple[Literal["hour", "day", "week"], float], ...] = (("hour", 1 / 24), ("day", 1.0), ("week", 7.0))


@dataclass(frozen=True)
class Choice:
    """What answers for horizons of up to `last` steps: the mean of `members`. `mae` is in the load's unit; `scores` has
    each candidate's MASE (see BackTest), `skill` is 1 - mae / that of seasonal naive: negative when it does worse.
    `coverage` is the measured share of loads at or below the upper quantile, `interval_coverage` that within the 80 %
    interval."""

    range: Literal["hour", "day", "week"]
    last: int
    members: tuple[str, ...]
    mae: float
    reference: str
    reference_mae: float
    scores: dict[str, float]
    origins: int
    calibration: Calibration
    coverage: float
    interval_coverage: float

    @property
    def name(self) -> str:
        return " + ".join(self.members)

    @property
    def skill(self) -> float:
        return 1 - self.mae / self.reference_mae if self.reference_mae > 0 else 0.0

    @property
    def beats_reference(self) -> bool:
        return self.mae < self.reference_mae


@dataclass(frozen=True)
class Band:
    """Forecasts of the next steps with the bounds of the interval and the upper quantile that sizes, in load."""

    times: FloatArray
    forecast: FloatArray
    lower: FloatArray
    higher: FloatArray
    upper: FloatArray


@dataclass
class Predictor:
    """Trained on one history. Make it with `train`; `until` is where that history ended."""

    choices: list[Choice]
    until: float
    step: float
    days: float
    quantile: float
    level: float
    _models: dict[str, Forecaster] = field(default_factory=dict)

    def choice(self, steps: int) -> Choice:
        """The one for a horizon of so many steps; the longest when there is none so long."""
        return next((one for one in self.choices if steps <= one.last), self.choices[-1])

    @property
    def longest(self) -> int:
        return self.choices[-1].last

    def predict(self, history: History, ahead: int) -> Band:
        """The next `ahead` steps after `history`, which is the trained one or a later one on the same grid."""
        ahead = min(ahead, self.longest)
        forecast, lower, higher, upper = (np.empty(ahead) for _ in range(4))
        begin = 0
        for choice in self.choices:
            stop = min(ahead, choice.last)
            if stop <= begin:
                continue
            part = np.mean([self._models[name](history, stop)[begin:] for name in choice.members], axis=0)
            forecast[begin:stop] = part
            upper[begin:stop] = choice.calibration.at(part, self.quantile)
            lower[begin:stop] = choice.calibration.at(part, (1 - self.level) / 2)
            higher[begin:stop] = choice.calibration.at(part, (1 + self.level) / 2)
            begin = stop
        times: FloatArray = history.end + np.arange(ahead, dtype=np.float64) * history.step
        return Band(times, forecast, lower, higher, upper)


def train(
    history: History, *, quantile: float = 0.95, level: float = 0.8, boosting: bool = True
) -> tuple[Predictor | None, str]:
    """The predictor, or None and why there is none: too short a history, or one that never changes.

    Takes milliseconds without learnt candidates, some seconds with them: call it from a thread.
    """
    if history.days < MIN_DAYS:
        return None, f"the history is of {history.days:.1f} days; a forecast needs {MIN_DAYS:g}"
    measured = history.values[~np.isnan(history.values)]
    if len(measured) < 0.3 * len(history):
        return None, f"{1 - len(measured) / len(history):.0%} of the history is gaps; a forecast needs fewer than 70%"
    if float(measured.max()) == float(measured.min()):
        return None, "the load never changed, so there is nothing to forecast"
    pool = candidates(boosting=boosting)
    tests: dict[int, BackTest | None] = {}
    choices: list[Choice] = []
    begin = 0
    for name, days in _RANGES:
        last = max(1, round(days * history.day))
        ahead = history.day if days <= 1 else last
        if days > 1 and history.days < 3 * days:
            break
        if ahead not in tests:
            tests[ahead] = back_test(history, pool, ahead)
        test = tests[ahead]
        if test is None:
            break
        if last > begin and np.isfinite(test.actual[:, begin:last]).any():
            choices.append(_choose(test, name, begin, last, pool, quantile, level))
            begin = last
    if not choices:
        return None, f"the history is of {history.days:.1f} days, too short to test a forecast on it"
    fits = {one.name: one.fit for one in pool}
    models = {name: fits[name](history) for name in {name for one in choices for name in one.members}}
    return Predictor(choices, history.end, history.step, history.days, quantile, level, models), ""


def _choose(
    test: BackTest,
    name: Literal["hour", "day", "week"],
    begin: int,
    last: int,
    pool: list[Candidate],
    quantile: float,
    level: float,
) -> Choice:
    errors = {one.name: test.mae(one.name, begin, last) for one in pool if one.name in test.forecasts}
    ranked = sorted(errors, key=lambda name: errors[name])
    members = tuple(name for name in ranked[:_MEMBERS] if errors[name] <= _NEAR * errors[ranked[0]])
    made = np.mean([test.forecasts[name] for name in members], axis=0)
    against = reference(test.trained)
    forecast, actual = made[:, begin:last], test.actual[:, begin:last]
    return Choice(
        range=name,
        last=last,
        members=members,
        mae=float(np.nanmean(np.abs(forecast - actual))),
        reference=against,
        reference_mae=errors[against],
        scores={candidate: test.mase(candidate, begin, last) for candidate in errors},
        origins=len(actual),
        calibration=Calibration.of(forecast, actual),
        coverage=coverage(forecast, actual, quantile),
        interval_coverage=interval_coverage(forecast, actual, level),
    )
