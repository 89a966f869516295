"""Whether what is slow on a node is so because of the node, of what runs there, or of its own."""

from __future__ import annotations

import numpy as np
import pytest

from diagnosis.metrics.analyze import analyze
from diagnosis.metrics.edges import Edge
from diagnosis.metrics.series import MetricSeries
from incidents.metric_report import MetricReport, MetricStatus
from incidents.models import ObjectRef
from tests.metric_cases import FAULT, START, WINDOW

CHAIN = ("web", "cart", "db")
USUAL = {"web": 0.006, "cart": 0.004, "db": 0.002}
EDGES = [Edge("shop/web", "shop/cart"), Edge("shop/cart", "shop/db"), *(Edge(f"shop/{n}", "node/n1") for n in CHAIN)]
STARVED = {"web": 0.060, "cart": 0.040, "db": 0.020}
"""Each hop takes its own part longer."""
SLEEPY = {name: usual + 0.08 for name, usual in USUAL.items()}
"""One of them waits, and so those that call it."""


def _series(name: str, labels: dict[str, str], usual: float, later: float, unit: str | None = None) -> MetricSeries:
    times = START.timestamp() + np.arange(0, 3600, 15.0)
    dice = np.random.default_rng(sum(map(ord, f"{name}{labels}")))
    noise = 1 + 0.05 * dice.standard_normal(len(times))
    return MetricSeries.of(name, labels, times, noise * np.where(times >= FAULT.timestamp(), later, usual), unit=unit)


def _report(
    slow: dict[str, float],
    busy: tuple[float, float] = (0.5, 1.9),
    pods: float = 0.05,
    node: str = "node_cpu_busy",
    failing: dict[str, float] | None = None,
) -> MetricReport:
    """`busy` is the node's measurement before and after, `pods` what cart uses after, `failing` who fails how often."""
    series = [_series(node, {"node": "n1"}, *busy, unit="cores" if node == "node_cpu_busy" else None)]
    if node == "node_procs_running":
        series.append(_series("node_cpu_busy", {"node": "n1"}, 2.0, 1.98, unit="cores"))
    for name in CHAIN:
        labels = {"namespace": "shop", "pod": f"{name}-0"}
        series.append(_series("request_duration_seconds:mean", labels, USUAL[name], slow.get(name, USUAL[name]), "s"))
        used = pods if name == "cart" else 0.05
        series.append(_series("container_cpu_usage", labels, 0.05, used, "cores"))
        series.append(_series("requests:errors", labels, 0.0, (failing or {}).get(name, 0.0), "share"))
    return analyze(series, window=WINDOW, edges=EDGES)


def test_what_slows_all_that_a_node_runs_is_the_node() -> None:
    report = _report(STARVED)
    assert report.workloads[0].object == ObjectRef(kind="Node", name="n1"), report.summary
    assert "latency of most of what runs on it" in report.workloads[0].because


@pytest.mark.parametrize("node", ["node_cpu_busy", "node_memory_MemAvailable_bytes"])
def test_a_node_with_more_to_spare_slows_nobody(node: str) -> None:
    busy = (1.9, 0.5) if node == "node_cpu_busy" else (1e9, 8e9)
    report = _report(STARVED, busy, node=node)
    assert not report.workloads or report.workloads[0].object.kind != "Node", report.summary


def test_a_node_that_was_full_before_is_told_by_what_waits_for_it() -> None:
    report = _report(STARVED, (4.0, 40.0), node="node_procs_running")
    assert report.workloads[0].object.kind == "Node", report.summary


def test_what_one_service_does_is_not_its_nodes_though_that_became_busier() -> None:
    alone, report = _report(SLEEPY, (0.5, 0.5)), _report(SLEEPY)
    assert report.workloads[0].entity == alone.workloads[0].entity == "shop/db", report.summary
    assert report.workloads[0].score == pytest.approx(alone.workloads[0].score, abs=0.05), "the node is no excuse"


def test_errors_that_one_service_makes_are_not_its_nodes_though_that_became_busier() -> None:
    failing = dict.fromkeys(CHAIN, 0.5)  # db fails, the others pass it on
    alone, report = _report({}, (0.5, 0.5), failing=failing), _report({}, failing=failing)
    assert report.workloads[0].entity == alone.workloads[0].entity == "shop/db", report.summary
    assert report.workloads[0].score == pytest.approx(alone.workloads[0].score, abs=0.05), "the node is no excuse"


def test_a_node_that_its_pods_use_up_stands_behind_them() -> None:
    assert _report(STARVED, pods=1.3).workloads[0].entity == "shop/cart"


def test_a_busier_node_on_which_all_runs_well_is_no_root_cause() -> None:
    assert _report({}).status is MetricStatus.NO_ROOT_CAUSE
