"""Series, subjects, rates, grids, shifts, onsets, detectors, associations: each by itself."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

from diagnosis.metrics.calls import Calls
from diagnosis.metrics.correlate import associations
from diagnosis.metrics.detectors import detect
from diagnosis.metrics.edges import Edge
from diagnosis.metrics.episodes import episodes
from diagnosis.metrics.grid import MAX_BINS, on_grid
from diagnosis.metrics.onset import find_onsets
from diagnosis.metrics.rates import looks_cumulative, rates
from diagnosis.metrics.series import Kind, MetricSeries
from diagnosis.metrics.shift import median, quantile, shifts
from diagnosis.metrics.signals import Signal, signal_of
from diagnosis.metrics.streaming import alerts, scores
from diagnosis.metrics.subject import subject_of, workload_of_pod
from errors import InvalidInput
from incidents.models import ObjectRef


@pytest.fixture
def dice() -> np.random.Generator:
    return np.random.default_rng(9)


def test_a_series_is_sorted_once_and_the_last_of_duplicates_counts() -> None:
    one = MetricSeries.of("x", {}, [30, 10, 20, 10, np.nan], [3, 1, np.inf, 5, 9])
    assert one.times.tolist() == [10, 20, 30]
    assert one.values[0] == 5 and np.isnan(one.values[1]) and one.values[2] == 3


@pytest.mark.parametrize(
    ("times", "values"), [([1, 2], [1]), (["a"], [1]), ([1], [None, "x"]), ([1], ["x"]), ([1e18], [1])]
)
def test_what_is_no_series_is_refused(times: Any, values: Any) -> None:
    with pytest.raises(InvalidInput):
        MetricSeries.of("x\x00", {}, times, values)


@pytest.mark.parametrize(
    ("pod", "workload"),
    [
        ("cart-5f6585d649-fnmft", "cart"),
        ("front-end-7d9c5b6f48-b2x4h", "front-end"),
        ("db-0", "db"),
        ("node-agent-x7k2p", "node-agent"),
        ("my-shell", "my-shell"),
        ("my-debug-shell", "my-debug-shell"),
    ],
)
def test_the_workload_of_a_pod_is_in_its_name(pod: str, workload: str) -> None:
    assert workload_of_pod(pod) == workload


def test_an_owner_says_more_than_a_name_and_labels_more_than_nothing() -> None:
    owners = {("n", "a-0"): ObjectRef(kind="StatefulSet", namespace="n", name="real")}
    assert subject_of({"namespace": "n", "pod": "a-0"}, owners).ref.name == "real"
    assert subject_of({"exported_namespace": "n", "pod_name": "a-0"}).entity == "n/a"
    assert subject_of({"nodename": "Worker1"}).entity == "node/worker1"
    assert subject_of({"client": "front", "server": "db", "job": "tempo"}).calling == "front"
    assert subject_of({}).entity == ""


def test_rates_survive_resets_gaps_and_slow_writers() -> None:
    times = np.arange(0, 100, 10.0)
    counted = np.array([0, 10, 20, 30, 5, 15, np.nan, 35, 45, 55.0])
    at, rate = rates(times, counted)
    assert at.tolist() == [10, 20, 30, 40, 50, 70, 80, 90]
    assert rate.tolist() == [1, 1, 1, 0.5, 1, 1, 1, 1]
    assert len(rates(times[:3], counted[:3])[0]) == 0
    slow = np.repeat(np.arange(10) * 30.0, 3)  # written each 30 s, asked each 10
    _, smooth = rates(np.arange(30) * 10.0, slow)
    assert np.allclose(smooth, 1.0)
    rare = np.zeros(40)
    rare[[7, 8, 30, 33, 36]] = 1  # errors: their moments stay where they are
    _, moments = rates(np.arange(40) * 10.0, np.cumsum(rare))
    assert np.flatnonzero(moments).tolist() == [6, 7, 29, 32, 35]


def test_what_only_grows_is_a_counter_and_a_wavering_gauge_is_none(dice: np.random.Generator) -> None:
    total = np.cumsum(np.abs(dice.standard_normal(100)))
    assert looks_cumulative(total)
    assert looks_cumulative(np.concatenate((total, total[:50] * 0.01)))
    assert not looks_cumulative(10 + dice.standard_normal(100))
    assert not looks_cumulative(np.full(100, 3.0))
    assert not looks_cumulative(np.concatenate((np.zeros(50), np.ones(50))))


def test_mixed_steps_share_a_grid_and_many_samples_are_averaged(dice: np.random.Generator) -> None:
    fine = MetricSeries.of("a", {}, np.arange(0, 600, 1.0), np.ones(600))
    coarse = MetricSeries.of("b", {}, np.arange(0, 600, 60.0), np.full(10, 2.0))
    grid = on_grid([fine, coarse])
    assert grid is not None and grid.step == 60 and grid.bins in (10, 11)
    long = on_grid([MetricSeries.of("a", {}, np.arange(100_000.0), dice.standard_normal(100_000))])
    assert long is not None and long.bins == MAX_BINS and not np.isnan(long.values).any()
    assert on_grid([MetricSeries.of("a", {}, [1, 2, 3], [1, 1, 1])]) is None


def test_medians_and_quantiles_are_numpys(dice: np.random.Generator) -> None:
    values = dice.standard_normal((20, 31))
    values[dice.random(values.shape) < 0.3] = np.nan
    assert np.allclose(median(values), np.nanmedian(values, axis=1))
    assert np.allclose(quantile(values, 0.8), np.nanquantile(values, 0.8, axis=1))
    assert np.isnan(median(np.full((2, 3), np.nan))).all() and np.isnan(median(np.empty((2, 0)))).all()


def test_a_shift_is_two_sided_finite_and_without_units(dice: np.random.Generator) -> None:
    values = 10 + 0.5 * dice.standard_normal((4, 60))
    values[1, 40:] += 20
    values[2, 40:] -= 8
    values[3] = np.where(np.arange(60) < 40, 0, 1e9)
    found = shifts(values, 40, [50, 60])
    assert found.score[0] < 3 < min(found.score[1], found.score[2])
    assert found.sign[1] == 1 and found.sign[2] == -1
    assert found.score[3] <= 200
    assert np.allclose(shifts(values * 1e-9, 40, [50, 60]).score, found.score)
    least = shifts(values, 40, [50, 60], floors=np.array([0.0, 10.0, 0.0, 0.0]))
    assert 1.5 < least.score[1] < 2.5 and least.score[2] == found.score[2], "what nobody would notice is noise"


def test_one_value_that_gaps_left_alone_is_no_median(dice: np.random.Generator) -> None:
    values = 10 + 0.5 * dice.standard_normal((2, 60))
    values[:, 40:] = 90
    values[0, 41:44] = np.nan
    values[1, [41, 43]] = np.nan
    alone, two = shifts(values, 40, [44]).score.tolist()
    assert alone == 0 and two > 50
    assert shifts(values, 40, [44, 60]).score[0] > 50, "later it is not alone"
    assert shifts(values[:, :41], 40, [41]).score[0] > 50, "nothing else was measured yet"


def test_the_onset_is_where_series_change_and_not_where_one_spikes(dice: np.random.Generator) -> None:
    values = dice.standard_normal((30, 200))
    values[:8, 120:] += 6
    values[9, 60] = 500
    found = find_onsets(values, 60, 200)
    assert abs(found[0].index - 120) <= 1
    assert [each.index for each in found] == [each.index for each in find_onsets(values * 7, 60, 200)]
    assert abs(find_onsets(values[:, :150], 0, 150)[0].index - 120) <= 1  # no range before to know what is usual
    assert find_onsets(values, 150, 140) == [] and find_onsets(values[:, :4], 0, 4) == []


@pytest.mark.parametrize(
    ("name", "signal"),
    [
        ("container_cpu_usage_seconds_total", Signal.CPU),
        ("CpuUsageRate(%)", Signal.CPU),
        ("container_memory_working_set_bytes", Signal.MEMORY),
        ("PodServerLatencyP95(s)", Signal.SERVED_LATENCY),
        ("PodClientLatencyP95(s)", Signal.CALL_LATENCY),
        ("istio_request_duration_milliseconds", Signal.SERVED_LATENCY),
        ("http_errors_per_second", Signal.ERRORS),
        ("kube_pod_container_status_restarts_total", Signal.RESTARTS),
        ("NodeCpuUsageRate(%)", Signal.NODE),
        ("node_load1", Signal.NODE),
        ("diskio", Signal.DISK),
        ("http_requests_total", Signal.TRAFFIC),
        ("queue_length", Signal.OTHER),
    ],
)
def test_a_metrics_name_tells_what_it_measures(name: str, signal: Signal) -> None:
    assert signal_of(name) is signal


def test_paths_end_in_loops_and_bare_names_need_to_be_unique() -> None:
    edges = [Edge("a", "b"), Edge("b", "a"), Edge("b", "c"), Edge("twin", "c")]
    calls = Calls.of(edges, ["n/a", "n/b", "n/c", "n/twin", "m/twin"])
    assert calls.path("n/a", "n/c") == ["n/a", "n/b", "n/c"]
    assert calls.path("n/c", "n/a") == [] and calls.path("", "n/a") == []
    assert "n/twin" not in calls.callees


@pytest.mark.parametrize("name", ["zscore", "iqr", "change_point", "streaming", "isolation_forest", "dbscan"])
def test_each_detector_finds_the_fault_and_little_else(name: Any, dice: np.random.Generator) -> None:
    if name in ("isolation_forest", "dbscan"):
        pytest.importorskip("sklearn")
    values = 10 + 0.3 * dice.standard_normal((5, 200))
    values[2, 150:] += 9
    found = detect(name, values, usual=slice(0, 140), onset=150, step=60.0, peers=[range(5)])
    assert found[2, 150:156].any()
    assert found[[0, 1, 3, 4]].mean() < 0.01
    values[:, 5] = np.nan
    values[4] = np.nan
    assert not detect(name, values, usual=slice(0, 140), onset=150, step=60.0, peers=[range(5)])[4].any()


def test_the_seasonal_detector_knows_what_is_usual_at_that_hour(dice: np.random.Generator) -> None:
    hours = np.arange(24 * 6)
    daily = 100 + 60 * np.sin(2 * np.pi * hours / 24)[None, :] + dice.standard_normal((1, len(hours)))
    fault = daily.copy()
    fault[0, 130:134] = 155.0  # a value of every day, at the wrong hour
    settings: dict[str, Any] = {"usual": slice(0, 126), "onset": 126, "step": 3600.0}
    assert detect("seasonal", fault, **settings)[0, 130:134].sum() >= 3
    assert detect("seasonal", daily, **settings).sum() <= 2
    assert not detect("seasonal", fault, usual=slice(0, 20), onset=20, step=3600.0).any()


def test_the_trend_detector_knows_a_drift_from_a_step_and_from_what_always_grew(dice: np.random.Generator) -> None:
    values = 100 + dice.standard_normal((6, 200))
    since = np.maximum(0, np.arange(200) - 150)
    values[0] += 1.5 * since  # a leak
    values[1, 150:] += 60  # a step
    values[2] += 0.5 * np.arange(200)  # grows as it did before
    values[3] -= 1.5 * since
    values[3, 170] = 1e4
    values[4, ::3] = np.nan
    values[5, 175] = 1e6
    found = detect("trend", values, usual=slice(0, 150), onset=150, step=60.0)
    assert found[[0, 3], 180:].mean() > 0.95 and not found[:, :150].any()
    assert not found[[1, 2, 4, 5]].any()
    assert np.array_equal(found, detect("trend", values * 1e-9, usual=slice(0, 150), onset=150, step=60.0))
    walk = np.cumsum(dice.standard_normal((30, 200)), axis=1)
    assert detect("trend", walk, usual=slice(0, 150), onset=150, step=60.0).any(axis=1).mean() < 0.3
    assert not detect("trend", values[:, :155], usual=slice(0, 150), onset=150, step=60.0).any()
    assert not detect("trend", np.full((2, 60), np.nan), usual=slice(0, 40), onset=40, step=60.0).any()


def test_the_trend_detector_allows_for_the_time_of_day(dice: np.random.Generator) -> None:
    hours = np.arange(24 * 6)
    daily = 100 + 60 * np.sin(2 * np.pi * hours / 24)[None, :] + dice.standard_normal((1, len(hours)))
    settings: dict[str, Any] = {"usual": slice(0, 120), "onset": 120, "step": 3600.0}
    assert not detect("trend", daily[:, :130], **settings).any()  # the morning's rise
    grows = daily + np.maximum(0, hours - 120) * 8.0
    assert detect("trend", grows, **settings)[0, 130:].all()


def test_detectors_across_peers_say_what_they_need(monkeypatch: pytest.MonkeyPatch, dice: np.random.Generator) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError):
        detect("dbscan", dice.standard_normal((4, 50)), usual=slice(0, 40), onset=40, step=1.0, peers=[range(4)])


def test_points_near_each_other_are_one_episode() -> None:
    found = np.zeros(50, dtype=bool)
    found[[10, 11, 13, 30]] = True
    values = np.zeros(50)
    values[13] = -7
    first, second = episodes("zscore", found, values, 0.0, 1_700_000_000.0, 60.0)
    assert (first.points, first.peak, second.points) == (3, -7, 1)
    assert (first.end - first.start).total_seconds() == 180


def test_streaming_scores_know_nothing_of_the_future_and_alert_once(dice: np.random.Generator) -> None:
    values = 5 + 0.1 * dice.standard_normal(600)
    values[400:] += 5
    scored = scores(values)
    assert np.allclose(scores(values[:450]), scored[:450])
    assert np.allclose(scores(values * 1e6), scored)
    fired = np.flatnonzero(alerts(scored))
    assert 400 <= fired[0] <= 401 and len(fired) <= 13
    assert (
        not scores(np.full(300, 4.2)).any()
        and not scores(np.full(300, np.nan)).any()
        and len(alerts(scores(np.empty(0)))) == 0
    )


def test_trends_do_not_correlate_and_a_lag_has_its_direction(dice: np.random.Generator) -> None:
    rows = np.cumsum(np.abs(dice.standard_normal((6, 300))), axis=1)  # all grow, each by itself
    assert associations(rows, least=0.5, rate=0.05) == []
    moved = np.cumsum(dice.standard_normal(300))
    pair = np.stack((np.roll(moved, 3), moved))
    pair[:, :5] = np.nan
    (found,) = associations(pair, least=0.7, rate=0.05)
    assert (found.first, found.second, found.lag) == (1, 0, 3)
    assert found.coefficient > 0.95 and found.q_value < 1e-6
    noise = sum(len(associations(dice.standard_normal((12, 60)), least=0.0, rate=0.05)) for _ in range(20))
    assert noise <= 8  # of 1,320 pairs


def test_a_typed_gauge_is_never_taken_for_a_counter() -> None:
    growing = np.arange(50.0)
    grid = on_grid([MetricSeries.of("disk_used", {}, np.arange(50) * 60.0, growing, kind=Kind.GAUGE)])
    assert grid is not None and not grid.rated[0]


def test_a_gauge_that_is_called_like_a_counter_is_told_by_how_it_moves(dice: np.random.Generator) -> None:
    times, wavering = np.arange(60) * 15.0, 100 + dice.integers(-20, 20, 60)
    counted = np.concatenate((np.arange(30) * 7.0, np.arange(30) * 7.0))  # its process began again once
    partly = np.concatenate((np.arange(30) * 7.0, 50 + np.arange(30) * 7.0))  # and had counted when it was seen
    loops = np.tile(np.arange(10.0), 6)
    still = np.full(60, 3.0)
    for values, kind, rated in (
        (wavering, None, False), (wavering, Kind.COUNTER, True), (counted, None, True), (counted, Kind.GAUGE, False),
        (partly, None, True), (loops, None, True), (still, None, True),
    ):  # fmt: skip
        grid = on_grid([MetricSeries.of("jobs_total", {}, times, values, kind=kind)])
        assert grid is not None and grid.rated == [rated], (values, kind)


@pytest.mark.parametrize("burst", [1, 4])
def test_a_short_burst_at_the_start_does_not_hide_failures_that_stay(burst: int) -> None:
    share = np.zeros((1, 66))
    share[0, :burst], share[0, 54:] = 1.0, 0.49
    assert shifts(share, 54, [66]).score[0] > 50
    share[0, 54:] = 0.0
    share[0, 60] = 1.0
    assert shifts(share, 54, [66]).score[0] <= 1.1, "one more such burst is nothing new"
