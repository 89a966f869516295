"""Whether enough was measured before an onset: a short or disturbed past is said, and no change is evidence then."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from diagnosis.metrics.analyze import analyze
from diagnosis.metrics.series import MetricSeries
from incidents.metric_report import Direction, MetricStatus
from tests.metric_cases import EDGES, FAULT, START, WINDOW, leak, one_pod, shop, slow_db


def test_a_short_or_disturbed_baseline_is_said() -> None:
    times = START.timestamp() + np.arange(12) * 60.0
    values = np.where(np.arange(12) >= 7, 50.0, 1.0 + 0.01 * (np.arange(12) % 3))
    short = analyze([MetricSeries.of("cpu", {"pod": "a-0"}, times, values)])
    assert short.data_quality.baseline_too_short and "baseline has only" in " ".join(short.data_quality.warnings)
    assert (short.status, short.workloads, short.onset) == (MetricStatus.UNKNOWN, [], None)
    assert short.considered[0].entity == "a" and "not enough history: 0 of 1" in short.summary

    def twice(workload: str, pod: str, metric: str, since: np.ndarray, values: np.ndarray) -> np.ndarray:
        before = slow_db(workload, pod, metric, np.where((since > -1800) & (since < -1200), 1.0, -1.0), values)
        return slow_db(workload, pod, metric, since, before)

    report = analyze(shop(twice), window=WINDOW, edges=EDGES)
    assert report.data_quality.baseline_contaminated
    assert report.workloads[0].entity == "shop/db"


def _between(series: list[MetricSeries], begin: datetime, end: datetime = WINDOW[1]) -> list[MetricSeries]:
    cuts = [np.searchsorted(one.times, [begin.timestamp(), end.timestamp()]) for one in series]
    return [
        replace(one, times=one.times[low:high], values=one.values[low:high])
        for one, (low, high) in zip(series, cuts, strict=True)
    ]


def test_where_all_measuring_has_just_begun_there_is_no_root_cause_and_that_is_said() -> None:
    minute = timedelta(minutes=1)
    for before, after, asked, said in (
        (1, 1, 60, "not enough history: 0 of 4 workloads"),
        (4, 6, 60, "within the range asked about, and only 240 s before"),
        (8, 15, 22, ""),
        (8, 15, 40, "within the range asked about, and only 480 s before"),
    ):
        end = FAULT + after * minute
        report = analyze(
            _between(shop(slow_db), FAULT - before * minute, end), window=(end - asked * minute, end), edges=EDGES
        )
        if not said:
            assert report.status is MetricStatus.FOUND and report.workloads[0].entity == "shop/db"
            continue
        assert (report.status, report.workloads, report.onset) == (MetricStatus.UNKNOWN, [], None), before
        assert said in report.data_quality.warnings[0] and said in report.summary, before
        assert report.data_quality.baseline_too_short
    # an old series beside a system that begins is no past of the others
    old = MetricSeries.of(
        "cpu", {"pod": "old-0"}, np.arange(START.timestamp(), WINDOW[1].timestamp(), 15.0), [1.0] * 240
    )
    end = FAULT + timedelta(minutes=1)
    report = analyze([*_between(shop(slow_db), FAULT - timedelta(minutes=1), end), old], window=(START, end))
    assert report.status is MetricStatus.UNKNOWN and "1 of 5 workloads" in report.summary


def test_a_workload_that_begins_beside_others_is_an_event() -> None:
    def born(seed: int, fault: Any) -> list[MetricSeries]:
        series = shop(fault, seed=seed)
        new = [one for one in series if one.labels["pod"].startswith("catalog-")]
        return [one for one in series if one not in new] + _between(new, FAULT)

    report = analyze(born(5, None), window=WINDOW, edges=EDGES, onset=FAULT)
    assert report.status is MetricStatus.NO_ROOT_CAUSE  # a rollout alone is none
    assert report.considered[0].entity == "shop/catalog"
    assert report.considered[0].metrics[0].direction is Direction.BEGAN
    assert analyze(born(5, slow_db), window=WINDOW, edges=EDGES).workloads[0].entity == "shop/db"
    # what began three samples before the onset is compared with no past of its own
    early = _between(shop(one_pod), FAULT - timedelta(seconds=50))
    early = [one for one in early if "-b2x4h" in one.labels["pod"]]
    others = [one for one in shop() if "-b2x4h" not in one.labels["pod"]]
    assert analyze([*others, *early], window=WINDOW, onset=FAULT).status is MetricStatus.NO_ROOT_CAUSE


@pytest.mark.parametrize("late", [3, 5, 7, 9])
def test_a_leak_that_was_under_way_when_the_window_began_is_not_what_the_workload_always_does(late: int) -> None:
    window = (FAULT + timedelta(minutes=late), START + timedelta(minutes=60))
    report = analyze(shop(leak), window=window, edges=EDGES)
    assert report.status is MetricStatus.FOUND
    assert report.workloads[0].entity == "shop/cart"
    assert not report.data_quality.baseline_contaminated
