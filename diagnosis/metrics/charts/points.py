"""The series that a report names, as charts need them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from diagnosis.metrics.rates import rates
from diagnosis.metrics.series import FloatArray, MetricSeries
from incidents.metric_charts import ChartedSeries
from incidents.metric_report import MetricReport

MAX_CHARTS = 24
MAX_POINTS = 300
_PER_WORKLOAD = 4
_BAND = (0.05, 0.95)


def charted(report: MetricReport, series: Sequence[MetricSeries]) -> list[ChartedSeries]:
    """The strongest metrics of the ranked workloads, the first workload's first; at most `MAX_CHARTS`."""
    by_key: dict[tuple[str, frozenset[tuple[str, str]]], MetricSeries] = {}
    for one in series:
        by_key.setdefault((one.name, frozenset(one.labels.items())), one)
    found = []
    for workload in report.workloads:
        for change in workload.metrics[:_PER_WORKLOAD]:
            measured = by_key.get((change.name, frozenset(change.labels.items())))
            if measured is None:
                continue
            times, values = measured.times, measured.values
            if change.rate:
                times, values = rates(times, values)
            low, median, high = _band(times, values, change.onset or report.onset)
            times, values = _thinned(times, values)
            found.append(
                ChartedSeries(
                    rank=workload.rank,
                    entity=workload.entity,
                    name=change.name,
                    labels=change.labels,
                    unit=change.unit,
                    direction=change.direction,
                    onset=change.onset,
                    low=low,
                    median=median,
                    high=high,
                    evidence_id=change.evidence_id,
                    times=[round(float(at), 3) for at in times],
                    values=[None if np.isnan(value) else float(f"{value:.6g}") for value in values],
                )
            )
    return found[:MAX_CHARTS]


def _band(
    times: FloatArray, values: FloatArray, onset: datetime | None
) -> tuple[float | None, float | None, float | None]:
    """Where nine of ten values before the onset were, and their median; nothing when there are too few."""
    before = values[times < onset.timestamp()] if onset is not None else values
    before = before[~np.isnan(before)]
    if len(before) < 3:
        return None, None, None
    low, median, high = np.quantile(before, [_BAND[0], 0.5, _BAND[1]])
    return float(low), float(median), float(high)


def _thinned(times: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Of so many neighbours the one that is farthest from their median: a spike must not vanish."""
    if len(times) <= MAX_POINTS:
        return times, values
    chosen = []
    for part in np.array_split(np.arange(len(times)), MAX_POINTS):
        inside = values[part]
        if np.isnan(inside).all():
            chosen.append(int(part[0]))
            continue
        far = np.abs(inside - np.nanmedian(inside))
        chosen.append(int(part[int(np.nanargmax(far))]))
    return times[chosen], values[chosen]
