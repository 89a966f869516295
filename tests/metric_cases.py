"""Made series of a small shop with a known fault: gateway -> cart -> db, gateway -> catalog, three pods each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np

from diagnosis.metrics.edges import Edge
from diagnosis.metrics.series import MetricSeries

START = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
MINUTES = 60
FAULT = START + timedelta(minutes=45)
WINDOW = (START + timedelta(minutes=40), START + timedelta(minutes=MINUTES))
WORKLOADS = ("frontend", "cart", "db", "catalog")
EDGES = [Edge("frontend", "cart"), Edge("cart", "db"), Edge("frontend", "catalog")]
METRICS = {
    "container_cpu_usage": 0.4,
    "container_memory_working_set_bytes": 2e8,
    "http_request_duration_seconds": 0.05,
    "http_requests_per_second": 120.0,
    "http_errors_per_second": 0.0,
}
Fault = Callable[[str, str, str, np.ndarray, np.ndarray], np.ndarray]
"""(workload, pod, metric, seconds since the fault, values) to the values with the fault in them."""


def shop(
    fault: Fault | None = None, *, step: float = 15.0, seed: int = 5, pods: int = 3, namespace: str = "shop"
) -> list[MetricSeries]:
    dice = np.random.default_rng(seed)
    times = START.timestamp() + np.arange(0, MINUTES * 60, step)
    since = times - FAULT.timestamp()
    found = []
    for workload in WORKLOADS:
        for number in range(pods):
            pod = f"{workload}-7d9c5b6f48-{'bcdfg'[number]}2x4{'hjklm'[number]}"
            for metric, usual in METRICS.items():
                size = usual or 1.0
                noise = 0.001 if "memory" in metric else 0.05
                values = usual + size * noise * dice.standard_normal(len(times))
                if not usual:
                    values = np.zeros(len(times))
                if fault is not None:
                    values = fault(workload, pod, metric, since, values)
                labels = {"namespace": namespace, "pod": pod, "container": "app"}
                found.append(MetricSeries.of(metric, labels, times, values, source="made"))
    return found


def slow_db(workload: str, pod: str, metric: str, since: np.ndarray, values: np.ndarray) -> np.ndarray:
    """db burns its CPU; it and its callers get slower, frontend and cart also err."""
    on = since >= 0
    factors = {
        ("db", "container_cpu_usage"): 6.0,
        ("db", "http_request_duration_seconds"): 9.0,
        ("cart", "http_request_duration_seconds"): 7.0,
        ("frontend", "http_request_duration_seconds"): 5.0,
    }
    if workload in ("cart", "frontend") and "errors" in metric:
        return np.where(on, values + 4.0, values)
    return np.where(on, values * factors.get((workload, metric), 1.0), values)


def leak(workload: str, pod: str, metric: str, since: np.ndarray, values: np.ndarray) -> np.ndarray:
    """cart's memory grows by a tenth each minute."""
    if workload != "cart" or "memory" not in metric:
        return values
    return values * (1 + 0.1 * np.maximum(since, 0) / 60)


def one_pod(workload: str, pod: str, metric: str, since: np.ndarray, values: np.ndarray) -> np.ndarray:
    """One of catalog's three pods burns."""
    if workload == "catalog" and "cpu" in metric and "-b2x4h" in pod:
        return np.where(since >= 0, values * 8, values)
    return values
