"""The whole analysis on made faults: who is first, since when, and what it rests on."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from diagnosis.metrics.analyze import analyze
from diagnosis.metrics.config import RcaConfig
from diagnosis.metrics.edges import Edge
from diagnosis.metrics.series import Kind, MetricSeries
from errors import InvalidInput
from incidents.metric_report import Direction, MetricStatus
from incidents.models import Moment, MomentKind, ObjectRef
from tests.metric_cases import EDGES, FAULT, START, WINDOW, leak, one_pod, shop, slow_db


def test_the_callee_that_burns_stands_before_its_slow_callers() -> None:
    report = analyze(shop(slow_db), window=WINDOW, edges=EDGES)
    assert report.status is MetricStatus.FOUND
    first = report.workloads[0]
    assert (first.object.namespace, first.object.name, first.entity) == ("shop", "db", "shop/db")
    assert first.path == ["shop/frontend", "shop/cart", "shop/db"]
    assert report.onset is not None and abs(report.onset - FAULT) <= timedelta(seconds=30)
    assert first.score >= report.threshold > 0
    cpu = next(change for change in first.metrics if change.name == "container_cpu_usage")
    assert cpu.direction is Direction.UP
    assert cpu.baseline_median == pytest.approx(0.4, rel=0.05)
    assert cpu.incident_value == pytest.approx(2.4, rel=0.1)
    assert cpu.onset is not None and abs(cpu.onset - FAULT) <= timedelta(seconds=30)
    assert {"zscore", "iqr", "change_point"} == set(cpu.detectors)


def test_every_claim_cites_evidence_that_holds_its_numbers() -> None:
    report = analyze(shop(slow_db), window=WINDOW, edges=EDGES)
    evidence = {item.id: item for item in report.evidence}
    assert len(evidence) == len(report.evidence)
    for workload in report.workloads:
        assert set(workload.evidence_ids) <= set(evidence)
        for change in workload.metrics:
            assert f"incident value {change.incident_value:.6g}" in evidence[change.evidence_id].excerpt
            assert change.name in evidence[change.evidence_id].source
    assert "shop/db" in report.summary and report.workloads[0].metrics[0].name in report.summary


def test_the_same_input_gives_the_same_report() -> None:
    assert analyze(shop(slow_db), window=WINDOW) == analyze(shop(slow_db), window=WINDOW)


def test_quiet_hours_have_no_root_cause() -> None:
    found = [analyze(shop(seed=seed), window=WINDOW, edges=EDGES) for seed in range(6)]
    assert sum(report.status is MetricStatus.FOUND for report in found) == 0
    assert all(report.onset is None and not report.workloads and report.considered for report in found)
    assert found[0].summary.startswith("No root cause")


def test_a_leak_is_found_while_it_grows() -> None:
    report = analyze(shop(leak), window=WINDOW, edges=EDGES)
    assert report.status is MetricStatus.FOUND
    assert report.workloads[0].entity == "shop/cart"
    assert report.workloads[0].metrics[0].name == "container_memory_working_set_bytes"


def test_one_bad_pod_of_three_is_named() -> None:
    report = analyze(shop(one_pod), window=WINDOW)
    assert report.workloads[0].entity == "shop/catalog"
    assert report.workloads[0].pods == ["catalog-7d9c5b6f48-b2x4h"]


def test_no_result_depends_on_units() -> None:
    plain = analyze(shop(slow_db), window=WINDOW, edges=EDGES)
    factors = (1e9, 1e-6, 1024.0)
    other = [replace(one, values=one.values * factors[number % 3]) for number, one in enumerate(shop(slow_db))]
    report = analyze(other, window=WINDOW, edges=EDGES)
    assert [(each.entity, each.score) for each in report.workloads] == [
        (each.entity, pytest.approx(each.score, abs=2e-4)) for each in plain.workloads
    ]
    assert report.onset == plain.onset


def test_steps_gaps_and_raw_counters_lose_nothing() -> None:
    dice = np.random.default_rng(2)
    missing = [replace(one, values=np.where(dice.random(len(one)) < 0.2, np.nan, one.values)) for one in shop(slow_db)]
    counted = [
        MetricSeries.of(one.name + "_total", one.labels, one.times, np.cumsum(np.maximum(one.values, 0) * 15))
        if "cpu" in one.name
        else one
        for one in shop(slow_db)
    ]
    for series in (missing, counted, shop(slow_db, step=2.0), shop(slow_db, step=60.0)):
        report = analyze(series, window=WINDOW, edges=EDGES)
        assert report.status is MetricStatus.FOUND
        assert report.workloads[0].entity == "shop/db"
        assert report.onset is not None
        assert abs(report.onset - FAULT).total_seconds() <= 2 * (report.data_quality.step_seconds or 0)
    assert analyze(missing, window=WINDOW).data_quality.missing_share == pytest.approx(0.2, abs=0.03)


def test_an_untyped_counter_is_told_as_a_rate() -> None:
    times = START.timestamp() + np.arange(0, 3600, 15.0)
    rate = np.where(times >= FAULT.timestamp(), 5.0, 1.0)
    total = np.cumsum(rate * 15)
    total[100:] -= total[100]  # the process began again
    series = [MetricSeries.of("work_done", {"namespace": "shop", "deployment": "worker"}, times, total)]
    report = analyze(series, window=WINDOW)
    change = report.workloads[0].metrics[0]
    assert change.rate and change.baseline_median == pytest.approx(1.0) and change.incident_value == pytest.approx(5.0)
    assert report.workloads[0].object == ObjectRef(kind="Deployment", namespace="shop", name="worker")
    typed = [MetricSeries.of("work_done", {"deployment": "worker"}, times, total, kind=Kind.GAUGE)]
    told = analyze(typed, window=WINDOW)
    assert not (told.workloads or told.considered)[0].metrics[0].rate


def test_source_side_latency_is_the_callees_unless_all_calls_are_slow() -> None:
    dice = np.random.default_rng(4)
    times = START.timestamp() + np.arange(0, 3600, 30.0)
    on = times >= FAULT.timestamp()

    def calls(slow: set[tuple[str, str]]) -> list[MetricSeries]:
        pairs = [("a", "b"), ("a", "c"), ("a", "d"), ("a", "e"), ("b", "c")]
        return [
            MetricSeries.of(
                "istio_request_duration_milliseconds",
                {"source_workload": one, "destination_workload": other, "destination_workload_namespace": "n"},
                times,
                (5 + 0.2 * dice.standard_normal(len(times))) * np.where(on & ((one, other) in slow), 20, 1),
            )
            for one, other in pairs
        ]

    assert analyze(calls({("a", "c"), ("b", "c")}), window=WINDOW).workloads[0].entity == "n/c"
    all_of_a = {("a", name) for name in "bcde"}
    assert analyze(calls(all_of_a), window=WINDOW).workloads[0].entity == "a"


def test_a_rollout_before_the_onset_is_told_and_raises_its_workload() -> None:
    changed = ObjectRef(kind="Deployment", namespace="shop", name="db")
    moments = [
        Moment(at=FAULT - timedelta(seconds=90), kind=MomentKind.ROLLOUT, object=changed, text="Deployment db rev 12",
               evidence_ids=["ev_1"]),
        Moment(at=FAULT - timedelta(minutes=30), kind=MomentKind.ROLLOUT, object=changed, text="rev 11",
               evidence_ids=["ev_2"]),
        Moment(at=FAULT - timedelta(minutes=2), kind=MomentKind.EVENT, text="elsewhere", evidence_ids=["ev_3"]),
    ]  # fmt: skip
    without = analyze(shop(slow_db), window=WINDOW, edges=EDGES)
    report = analyze(shop(slow_db), window=WINDOW, edges=EDGES, moments=moments)
    assert [event.moment.text for event in report.events] == ["Deployment db rev 12", "elsewhere"]
    assert report.events[0].entity == "shop/db"
    assert report.events[0].seconds_before_onset == pytest.approx(90, abs=30)
    assert report.workloads[0].score > without.workloads[0].score
    assert "Deployment db rev 12" in report.summary
    assert not analyze(shop(), window=WINDOW, moments=moments).events


def test_a_blip_before_the_change_is_not_its_beginning() -> None:
    def early(workload: str, pod: str, metric: str, since: np.ndarray, values: np.ndarray) -> np.ndarray:
        blip = (since >= -240) & (since < -210) & (workload == "db") & ("duration" in metric)
        return np.where(blip, values * 4, slow_db(workload, pod, metric, since, values))

    report = analyze(shop(early), window=WINDOW, edges=EDGES)
    assert report.workloads[0].entity == "shop/db"
    assert report.onset is not None and abs(report.onset - FAULT) <= timedelta(seconds=30)


def test_series_that_end_are_told_as_such() -> None:
    series = shop()
    gone = [
        replace(one, times=one.times[one.times < FAULT.timestamp()], values=one.values[one.times < FAULT.timestamp()])
        if one.labels["pod"].startswith("db-")
        else one
        for one in series
    ]
    report = analyze(gone, window=WINDOW, onset=FAULT)
    first = (report.workloads or report.considered)[0]
    assert first.entity == "shop/db"
    assert first.metrics[0].direction is Direction.ENDED
    assert report.onset_given


def test_gaps_as_a_series_has_them_are_not_its_end() -> None:
    """Two samples after the onset, and of the database's series both are missing."""
    end = FAULT + timedelta(seconds=40)
    whole = [replace(one, values=np.where(one.times >= FAULT.timestamp(), np.nan, one.values))
             if one.labels["pod"].startswith("db-") else one for one in shop()]  # fmt: skip
    holed = [replace(one, values=np.where(np.arange(len(one)) % 4 == 1, np.nan, one.values)) for one in whole]
    told = [
        {change.direction for each in report.workloads or report.considered for change in each.metrics}
        for report in (analyze(one, window=(WINDOW[0], end), onset=FAULT) for one in (whole, holed))
    ]
    assert Direction.ENDED in told[0] and Direction.ENDED not in told[1]


def test_a_gateway_passes_trouble_on_but_may_burn_by_itself() -> None:
    def renamed(metric: str) -> list[MetricSeries]:
        def fault(workload: str, pod: str, name: str, since: np.ndarray, values: np.ndarray) -> np.ndarray:
            slow = workload in ("frontend", "cart") and "duration" in name and metric == "duration"
            burns = workload == "frontend" and "cpu" in name and metric == "cpu"
            return np.where((since >= 0) & (slow or burns), values * 9, values)

        return [
            replace(one, labels={**one.labels, "pod": one.labels["pod"].replace("frontend", "api-gateway")})
            for one in shop(fault)
        ]

    assert analyze(renamed("duration"), window=WINDOW).workloads[0].entity == "shop/cart"
    assert analyze(renamed("cpu"), window=WINDOW).workloads[0].entity == "shop/api-gateway"


def test_a_node_is_the_cause_only_where_no_workload_shows_it() -> None:
    times = START.timestamp() + np.arange(0, 3600, 15.0)
    noise = np.random.default_rng(1).standard_normal(len(times))
    busy = 0.3 + 0.01 * noise + np.where(times >= FAULT.timestamp(), 0.6, 0.0)
    node = MetricSeries.of("node_cpu_busy_share", {"node": "Worker-1"}, times, busy)
    alone = analyze([*shop(), node], window=WINDOW)
    assert alone.workloads[0].object == ObjectRef(kind="Node", name="Worker-1")
    assert analyze([*shop(one_pod), node], window=WINDOW).workloads[0].entity == "shop/catalog"
    of_a_pod = MetricSeries.of("NodeCpuUsageRate(%)", {"pod": "cart-0", "namespace": "shop"}, times, busy)
    assert analyze([*shop(), of_a_pod], window=WINDOW).status is MetricStatus.NO_ROOT_CAUSE


def test_associations_are_of_what_moves_together_and_never_of_noise() -> None:
    report = analyze(shop(slow_db), window=WINDOW, edges=EDGES)
    assert all(pair.q_value <= 0.05 and abs(pair.coefficient) >= 0.7 for pair in report.associations)


def test_the_baseline_may_be_named_and_the_answer_says_what_it_was() -> None:
    baseline = (START, START + timedelta(minutes=30))
    report = analyze(shop(slow_db), window=WINDOW, baseline=baseline, edges=EDGES)
    assert report.workloads[0].entity == "shop/db"
    assert report.baseline is not None and report.baseline.end <= baseline[1]
    assert report.data_quality.baseline_samples == 120
    assert not report.data_quality.baseline_too_short


def test_a_symptom_that_names_a_workload_begins_the_path() -> None:
    report = analyze(shop(slow_db), window=WINDOW, edges=EDGES, symptom="checkout of the cart is slow")
    assert report.workloads[0].path == ["shop/cart", "shop/db"]


NAIVE = datetime(2026, 3, 1, 10, 40)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"window": (NAIVE, WINDOW[1])}, "no time zone"),
        ({"window": (WINDOW[1], WINDOW[0])}, "not after its start"),
        ({"baseline": (WINDOW[0], WINDOW[0])}, "not after its start"),
        ({"onset": NAIVE}, "no time zone"),
    ],
)
def test_bad_ranges_get_one_clear_error(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        analyze(shop(), **arguments)  # type: ignore[arg-type]


def test_no_series_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="no series"):
        analyze([])


@pytest.mark.filterwarnings("error")
def test_what_cannot_be_judged_is_unknown_or_quiet_and_never_a_cause() -> None:
    times = START.timestamp() + np.arange(0, 3600, 15.0)
    labels = {"pod": "a-0"}
    steady, nothing = np.full(len(times), 7.0), np.full(len(times), np.nan)
    cases = {
        "one point": ([MetricSeries.of("cpu", labels, times[:1], steady[:1])], MetricStatus.UNKNOWN),
        "empty": ([MetricSeries.of("cpu", labels, [], [])], MetricStatus.UNKNOWN),
        "only NaN": ([MetricSeries.of("cpu", labels, times, nothing)], MetricStatus.UNKNOWN),
        "only infinite": ([MetricSeries.of("cpu", labels, times, steady * np.inf)], MetricStatus.UNKNOWN),
        "constant": ([MetricSeries.of("cpu", labels, times, steady)], MetricStatus.NO_ROOT_CAUSE),
        "zero": ([MetricSeries.of("cpu", labels, times, steady * 0)], MetricStatus.NO_ROOT_CAUSE),
        "no labels": ([MetricSeries.of("cpu", {}, times, steady)], MetricStatus.UNKNOWN),
        "largest": ([MetricSeries.of("cpu", labels, times, np.where(times > 0, 1e308, 0))], MetricStatus.NO_ROOT_CAUSE),
        "all NaN but one": ([MetricSeries.of("cpu", labels, times, nothing),
                             MetricSeries.of("mem", labels, times, steady)], MetricStatus.NO_ROOT_CAUSE),
    }  # fmt: skip
    for name, (series, status) in cases.items():
        report = analyze(series)
        assert report.status is status, name
        assert not report.workloads and report.summary, name
        report.model_dump_json()
    outside = (WINDOW[0] + timedelta(days=9), WINDOW[1] + timedelta(days=9))
    assert analyze(shop(), window=outside, baseline=(outside[0] - timedelta(hours=1), outside[0])).status is (
        MetricStatus.UNKNOWN
    )
    assert analyze(shop(), window=WINDOW, onset=START - timedelta(hours=1)).status is MetricStatus.UNKNOWN


def test_hostile_names_stay_one_printable_line_and_edges_to_nowhere_are_no_harm() -> None:
    bad = [
        MetricSeries.of("cpu\x1b[31m\n" + "x" * 5000, {"pod": "evil\u202e-0\x00"}, one.times, one.values)
        for one in shop(slow_db)[:1]
    ]
    loops = [
        Edge("shop/db", "shop/cart"),
        Edge("shop/cart", "shop/db"),
        Edge("", "x"),
        Edge("db", "db"),
        Edge("z", "y"),
    ]
    report = analyze([*shop(slow_db), *bad], window=WINDOW, edges=[*EDGES, *loops])
    assert report.workloads[0].entity == "shop/db"
    text = report.model_dump_json() + report.summary
    assert "\x1b" not in text and "\\u001b" not in text and "\u202e" not in text


def test_too_many_series_are_cut_and_the_answer_says_so() -> None:
    times = START.timestamp() + np.arange(0, 600, 60.0)
    one = MetricSeries.of("cpu", {"pod": "a-0"}, times, times * 0)
    report = analyze([one] * 100_000, config=RcaConfig(max_series=50))
    assert report.data_quality.cut == 99_950
    assert "only the first 50 of 100000 series" in report.summary
