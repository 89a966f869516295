"""Histories, candidates, back-tests and intervals on loads whose future is known."""

from __future__ import annotations

import dataclasses
import sys
import time

import numpy as np
import pytest

from diagnosis.metrics.forecast import ets
from diagnosis.metrics.forecast.boosting import fit_boosting, installed
from diagnosis.metrics.forecast.candidates import candidates
from diagnosis.metrics.forecast.conformal import Calibration
from diagnosis.metrics.forecast.drift import drift
from diagnosis.metrics.forecast.history import MAX_POINTS, History
from diagnosis.metrics.forecast.instances import size
from diagnosis.metrics.forecast.predictor import Predictor, train
from diagnosis.metrics.forecast.seasonal import levelled, repeated
from diagnosis.metrics.series import FloatArray
from errors import InvalidInput

HOUR, DAY = 3600, 86_400
BEGIN = 1_700_006_400  # a midnight


def load(days: float, step: int = HOUR, noise: float = 0.05, seed: int = 1) -> tuple[FloatArray, FloatArray]:
    """A day's wave, higher on five days of the week, with noise."""
    at = np.arange(0, days * DAY, step, dtype=np.float64)
    wave = 100 * (1.3 + np.sin(2 * np.pi * at / DAY)) * np.where(at // DAY % 7 < 5, 1.0, 0.6)
    return BEGIN + at, wave * (1 + noise * np.random.default_rng(seed).standard_normal(len(at)))


def trained(history: History, **options: float) -> Predictor:
    predictor, why = train(history, boosting=False, **options)
    assert predictor is not None, why
    return predictor


@pytest.fixture(scope="module")
def six_weeks() -> tuple[History, Predictor]:
    history = History.of(*load(42))
    return history, trained(history)


# --- histories --------------------------------------------------------------------------------------------------------


def test_order_and_duplicates_of_measurements_do_not_matter() -> None:
    times, loads = load(4)
    shuffled = np.random.default_rng(0).permutation(len(times))
    plain, mixed = History.of(times, loads), History.of(times[shuffled], loads[shuffled])
    assert (plain.values == mixed.values).all() and plain.step == HOUR and plain.day == 24
    twice = History.of(np.r_[times, times[:5]], np.r_[loads, loads[:5] + 2])
    assert np.allclose(twice.values[:5], loads[:5] + 1) and "5 values" in twice.notes[0]


def test_gaps_stay_gaps_and_what_fills_them_is_of_the_past() -> None:
    times, loads = load(10)
    kept = np.ones(len(times), dtype=bool)
    kept[100:130] = False
    history = History.of(times[kept], loads[kept])
    assert np.isnan(history.values[100:130]).all() and np.isfinite(history.filled).all()
    assert np.abs(history.filled[100:130] / loads[100:130] - 1).max() < 1.0
    loads[140:] *= 50
    assert (History.of(times[kept], loads[kept]).filled[:140] == history.filled[:140]).all()


def test_impossible_values_are_gaps_and_nothing_left_is_an_error() -> None:
    times, loads = load(4)
    loads[3:6] = [-5, np.inf, 1e200]
    history = History.of(times, loads)
    assert np.isnan(history.values[3:6]).all() and "2 negative or impossible" in history.notes[0]
    for nothing in (np.empty(0), np.array([np.nan]), np.array([-1.0])):
        with pytest.raises(InvalidInput, match="no measured value"):
            History.of(np.arange(len(nothing), dtype=float), nothing)
    with pytest.raises(InvalidInput, match="every 14400 s"):
        History.of(BEGIN + DAY * np.arange(50.0), np.arange(50.0))


def test_a_million_rows_are_averaged_onto_a_coarser_grid() -> None:
    history = History.of(BEGIN + np.arange(1e6), np.arange(1e6))
    assert len(history) <= MAX_POINTS and history.step == 60
    assert history.values[1] == pytest.approx(np.arange(60, 120).mean())
    assert len(History.of(BEGIN + 30 * np.arange(1e6), np.ones(1_000_000))) <= MAX_POINTS


# --- forecasts --------------------------------------------------------------------------------------------------------


def test_forecasts_beat_seasonal_naive_and_intervals_hold_what_they_say(six_weeks: tuple[History, Predictor]) -> None:
    history, predictor = six_weeks
    assert [choice.range for choice in predictor.choices] == ["hour", "day", "week"]
    for choice in predictor.choices:
        assert choice.beats_reference and choice.reference == "seasonal naive (week)" and choice.skill > 0.1
    for choice in predictor.choices[1:]:  # the first has one load an origin
        assert abs(choice.coverage - 0.95) < 0.05 and abs(choice.interval_coverage - 0.8) < 0.07
    _, future = load(49)
    band = predictor.predict(history, 7 * 24)
    came = future[len(history) :]
    assert band.times[0] == history.end and len(band.forecast) == 7 * 24
    assert np.abs(band.forecast / load(49, noise=0)[1][len(history) :] - 1).mean() < 0.05
    assert np.mean(came <= band.upper) > 0.88 and (band.lower <= band.forecast).all()
    assert (band.upper >= band.higher).all() and (band.lower >= 0).all()


def test_no_forecast_of_the_back_test_knows_its_future() -> None:
    times, loads = load(21)
    known = History.of(times, loads).until(15 * 24)
    loads[15 * 24 :] = 7.0
    other = History.of(times, loads).until(15 * 24)
    for candidate in candidates(boosting=False):
        here, there = (candidate.fit(one)(one, 24) for one in (known, other))
        assert (here == there).all() and (here >= 0).all(), candidate.name


def test_no_forecast_depends_on_the_unit() -> None:
    times, loads = load(30)
    small, large = (trained(History.of(times, loads * factor)) for factor in (1.0, 1e6))
    assert [one.members for one in small.choices] == [one.members for one in large.choices]
    bands = [one.predict(History.of(times, loads * factor), 24) for one, factor in ((small, 1.0), (large, 1e6))]
    assert np.allclose(bands[0].upper * 1e6, bands[1].upper, rtol=1e-6)


def test_a_level_that_moved_is_followed_where_it_used_to_last() -> None:
    times, loads = load(42)
    storms = np.zeros(len(times))
    for begin in range(24 * 5, len(times), 24 * 6):
        storms[begin : begin + 30] = 1.0
    loads *= 1 + storms
    cut = 24 * 5 * 1 + 24 * 6 * 5 + 6
    history = History.of(times[:cut], loads[:cut])
    levelled, plain = (
        next(one for one in candidates(boosting=False) if one.name == name).fit(history)(history, 3)
        for name in ("median of weeks with level", "median of weeks")
    )
    came = loads[cut : cut + 3]
    assert np.abs(levelled - came).mean() < 0.6 * np.abs(plain - came).mean()


@pytest.mark.skipif(not installed(), reason="scikit-learn is not installed")
def test_what_was_just_seen_counts_for_the_next_steps() -> None:
    """Departures that fade within hours: the newest value says more of the next hour than the last three hours do."""
    times, usual = load(42, noise=0.0)
    drawn, departs = np.random.default_rng(3).standard_normal(len(times)), np.zeros(len(times))
    for index in range(1, len(times)):
        departs[index] = 0.8 * departs[index - 1] + 0.1 * drawn[index]
    history = History.of(times, usual * np.exp(departs))
    origins = range(28 * 24, len(times) - 24, 5)
    wrong = {}
    for name, forecaster in (("levelled", levelled(7, 8)), ("usual", repeated(7, 8, np.median))):
        made = np.array([forecaster(history.until(origin), 24) for origin in origins])
        came = np.array([history.values[origin : origin + 24] for origin in origins])
        wrong[name] = np.abs(np.log(made / came)).mean(axis=0)
    assert wrong["levelled"][0] < 0.75 * wrong["usual"][0], "nobody can do better than 0.6 of it"
    assert wrong["levelled"][12:].mean() < 1.03 * wrong["usual"][12:].mean()


def test_without_statsmodels_nobody_asks_for_it(six_weeks: tuple[History, Predictor]) -> None:
    assert sys.modules["statsmodels"] is None, "an import of it would have failed"
    assert not ets.installed() and "MSTL with ETS" not in {one.name for one in candidates()}
    assert six_weeks[1].choices


@pytest.mark.system  # its import takes as long as all tests of this file
def test_mstl_with_ets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "statsmodels")
    assert "MSTL with ETS" in {one.name for one in candidates()}
    history = History.of(*load(30))
    known = history.until(28 * 24)
    forecaster = ets.fit_ets(known)
    usual = history.values[28 * 24 : 29 * 24]
    assert np.abs(forecaster(known, 24) - usual).mean() < 0.1 * usual.mean()
    later = forecaster(history.until(29 * 24), 24)  # a later history, and an earlier one, with what was learnt
    assert np.abs(later - history.values[29 * 24 :]).mean() < 0.1 * usual.mean()
    assert np.isfinite(forecaster(history.until(20 * 24), 24)).all()
    flat = History.of(history.start + np.arange(30 * 24) * HOUR, np.full(30 * 24, 5.0))
    assert ets.fit_ets(flat)(flat, 24) == pytest.approx(np.full(24, 5.0), abs=0.1)
    assert trained(history).choices[0].scores["MSTL with ETS"] > 0, "it is back-tested as the rest"


def test_boosting_learns_the_week_with_one_thread() -> None:
    times, loads = load(22)
    history = History.of(times, loads)
    began, worked = time.process_time(), time.thread_time()
    forecast = fit_boosting(history.until(21 * 24))(history.until(21 * 24), 24)
    spent, here = time.process_time() - began, time.thread_time() - worked
    assert spent < here + 0.5, "other threads worked too"
    assert np.abs(forecast / loads[21 * 24 :] - 1).mean() < 0.2


@pytest.mark.parametrize(
    ("history", "why"),
    [
        (History.of(np.array([BEGIN], float), np.array([5.0])), "0.0 days"),
        (History.of(*load(2)), "2.0 days"),
        (History.of(load(30)[0], np.full(30 * 24, 4.0)), "never changed"),
        (History.of(np.r_[load(3)[0], load(3)[0] + 40 * DAY], np.r_[load(3)[1], load(3)[1]]), "gaps"),
    ],
)
def test_a_history_that_says_too_little_gives_no_forecast_and_why(history: History, why: str) -> None:
    predictor, said = train(history, boosting=False)
    assert predictor is None and why in said


@pytest.mark.parametrize("days", [3, 5, 8, 10, 14, 16, 22])
def test_every_length_of_a_history_is_answered(days: int) -> None:
    history = History.of(*load(days, noise=0.1))
    predictor, why = train(history, boosting=False)
    assert predictor is not None, why
    band = predictor.predict(history, predictor.longest)
    assert all(np.isfinite(getattr(band, field.name)).all() for field in dataclasses.fields(band))


@pytest.mark.parametrize(("days", "begin", "end"), [(3, 0.55, 0.9), (30, 0.35, 0.75), (30, 0.9, 0.999)])
def test_a_long_gap_anywhere_is_survived(days: int, begin: float, end: float) -> None:
    times, loads = load(days, noise=0.1)
    loads[int(begin * len(loads)) : int(end * len(loads))] = np.nan
    history = History.of(times, loads)
    predictor, why = train(history, boosting=False)
    assert predictor is not None, why
    assert np.isfinite(predictor.predict(history, predictor.longest).upper).all()
    assert all(np.isfinite([choice.mae, choice.reference_mae]).all() for choice in predictor.choices)


def test_noise_is_no_better_than_naive_or_barely_so_and_the_score_tells() -> None:
    times, _ = load(30)
    walk = 1000 + np.cumsum(np.random.default_rng(3).standard_normal(len(times)))
    predictor = trained(History.of(times, walk))
    assert "last value" in predictor.choices[0].members
    assert predictor.choices[0].scores["last value"] < predictor.choices[0].scores["seasonal naive (week)"]


def test_drift_is_noticed_and_a_usual_day_is_none(six_weeks: tuple[History, Predictor]) -> None:
    _, predictor = six_weeks
    times, loads = load(44)
    usual = drift(predictor, History.of(times, loads))
    loads[-24:] *= 2.5
    unusual = drift(predictor, History.of(times, loads))
    assert usual and not usual.drifted and unusual and unusual.drifted and unusual.within < 0.4


# --- intervals and instances ------------------------------------------------------------------------------------------


def test_conformal_bounds_are_of_finite_samples() -> None:
    forecast, actual = np.full(99, 100.0), np.arange(51.0, 150.0)
    made = Calibration.of(forecast, actual)
    assert made.at(np.array([100.0]), 0.95)[0] == pytest.approx(145)  # the 95th of 99 errors
    assert made.at(np.array([100.0]), 0.1)[0] == pytest.approx(60)
    assert Calibration.of(forecast * np.nan, actual).at(np.array([3.0]), 0.95)[0] == 3.0


@pytest.mark.parametrize(
    ("current", "upper", "instances", "branch"),
    [
        (250.0, 900.0, 9, "forecast"),
        (900.0, 250.0, 9, "reactive"),
        (900.0, 900.0, 9, "reactive"),
        (None, 401.0, 5, "forecast"),
        (400.0, None, 4, "reactive"),
        (0.0, 0.0, 2, "minimum"),
        (1e9, 0.0, 20, "maximum"),
    ],
)
def test_instances_are_never_fewer_than_the_present_load_needs(
    current: float | None, upper: float | None, instances: int, branch: str
) -> None:
    sizing = size(current, upper, per_instance=100, least=2, most=20)
    assert (sizing.instances, sizing.branch) == (instances, branch)
