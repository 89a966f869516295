"""Series of saved answers of Prometheus' query API (query and query_range: vector, matrix).

https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

from pathlib import PurePath

import numpy as np

from diagnosis.metrics.series import FloatArray, Kind, MetricSeries
from diagnosis.workloads.fields import mapping, objects, pick, text
from errors import InvalidInput

_LAST_SECOND = 253_402_300_799.0


def read_document(document: object, file: str, unseen: list[str]) -> list[MetricSeries]:
    """The series of one answer, or of a list of them. A result without a metric name (a rate, a quantile) is called as
    the file. Raises InvalidInput for anything else."""
    answers = document if isinstance(document, list) else [document]
    found: list[MetricSeries] = []
    for answer in answers:
        kind = pick(answer, "data", "resultType")
        if kind not in ("matrix", "vector"):
            said = text(answer, "error")[:200]
            raise InvalidInput(f"it is no answer of Prometheus' query API{f': {said}' if said else ''}")
        bad = 0
        for result in objects(answer, "data", "result"):
            labels = {key: value for key, value in mapping(result, "metric").items() if isinstance(value, str)}
            listed = pick(result, "values")
            samples = _samples(listed if isinstance(listed, list) else [pick(result, "value")])
            if samples is None:
                bad += 1
                continue
            name = labels.pop("__name__", "") or PurePath(file).name.split(".")[0]
            found.append(MetricSeries.of(name, labels, samples[:, 0], samples[:, 1], source=file))
        if bad:
            unseen.append(f"{file}: {bad} series without a single sample were left out")
    return found


def read_types(document: object) -> dict[str, Kind] | None:
    """Of a saved answer of `/api/v1/metadata`, the kind of each series' name that it tells of without contradiction;
    None for any other document."""
    data = pick(document, "data")
    if not isinstance(data, dict) or "resultType" in data:
        return None
    found: dict[str, Kind] = {}
    for name, entries in data.items():
        told = {text(entry, "type") for entry in objects(data, name)}
        if not isinstance(name, str) or not isinstance(entries, list) or len(told) != 1:
            continue
        (kind,) = told
        if kind == "gauge":
            found[name] = Kind.GAUGE
        elif kind == "counter":  # OpenMetrics tells of a counter without its ending
            found |= {name: Kind.COUNTER, f"{name}_total": found.get(f"{name}_total", Kind.COUNTER)}
        elif kind in ("histogram", "summary"):
            found |= dict.fromkeys((f"{name}_count", f"{name}_sum", f"{name}_bucket"), Kind.COUNTER)
    return found


def _samples(listed: list[object]) -> FloatArray | None:
    """(n, 2) of time and value; None without any."""
    try:
        array = np.array(listed, dtype=np.float64)  # Prometheus' "NaN" and "+Inf" are Python's too
    except (TypeError, ValueError, OverflowError):
        pairs = [pair for item in listed if (pair := _pair(item)) is not None]
        array = np.array(pairs, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or not len(array):
        return None
    array = array[(array[:, 0] >= 0) & (array[:, 0] <= _LAST_SECOND)]
    return array if len(array) else None


def _pair(item: object) -> tuple[float, float] | None:
    if not isinstance(item, list) or len(item) != 2:
        return None
    try:
        return float(item[0]), float(item[1])
    except (TypeError, ValueError, OverflowError):
        return None
