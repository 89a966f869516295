"""Work that falls because less is asked: who asks less is told, and who hangs or errs is not excused."""

from __future__ import annotations

from typing import Any

import numpy as np

from diagnosis.metrics.analyze import analyze
from diagnosis.metrics.series import MetricSeries
from tests.metric_cases import EDGES, FAULT, START, WINDOW, shop, slow_db


def test_code_that_returns_early_shows_in_what_it_calls_no_more() -> None:
    def starved(*names: str) -> Any:
        def fault(workload: str, pod: str, metric: str, since: np.ndarray, values: np.ndarray) -> np.ndarray:
            work = workload in names and ("cpu" in metric or "requests_per" in metric)
            return np.where((since >= 0) & work, values * 0.2, values)

        return fault

    report = analyze(shop(starved("db")), window=WINDOW, edges=EDGES)
    assert [each.entity for each in report.workloads][:2] == ["shop/cart", "shop/db"]
    assert "asks less of others" in report.workloads[0].because
    # cart is asked less, too: the first that is not asks less of it
    assert analyze(shop(starved("db", "cart")), window=WINDOW, edges=EDGES).workloads[0].entity == "shop/frontend"
    # less is asked of all: nobody is at fault more than who is asked first
    report = analyze(shop(starved("db", "cart", "frontend", "catalog")), window=WINDOW, edges=EDGES)
    assert not any("asks less" in each.because for each in report.workloads or report.considered)

    # one that hangs does less as well, and is waited for
    def hangs(workload: str, pod: str, metric: str, since: np.ndarray, values: np.ndarray) -> np.ndarray:
        waits = workload in ("cart", "frontend") and "duration" in metric
        return np.where((since >= 0) & waits, values * 3, starved("db")(workload, pod, metric, since, values))

    assert analyze(shop(hangs), window=WINDOW, edges=EDGES).workloads[0].entity == "shop/db"
    # who works hard, answers slowly or errs is to blame itself, whatever else it does less
    both = analyze(
        shop(lambda *each: slow_db(*each[:4], starved("db")(*each) if "requests" in each[2] else each[4])),
        window=WINDOW,
        edges=EDGES,
    )
    assert both.workloads[0].entity == "shop/db"


def test_counted_calls_say_which_caller_asks_less() -> None:
    dice = np.random.default_rng(4)
    times = START.timestamp() + np.arange(0, 3600, 30.0)
    on = times >= FAULT.timestamp()
    series = []
    for caller, callee, left in (("a", "c", 0.1), ("b", "c", 1.0), ("a", "d", 1.0), ("b", "d", 1.0)):
        values = (50 + dice.standard_normal(len(times))) * np.where(on, left, 1.0)
        labels = {"source_workload": caller, "destination_workload": callee}
        series.append(MetricSeries.of("istio_requests_per_second", labels, times, values))
        work = (1 + 0.02 * dice.standard_normal(len(times))) * np.where(on & (callee == "c"), 0.5, 1.0)
        series.append(MetricSeries.of("cpu_usage", {"workload": callee}, times, work))
    report = analyze(series, window=WINDOW)
    assert (report.workloads or report.considered)[0].entity == "a"
