"""Measurements and alerts beside the objects: Prometheus' HTTP API answers and Alertmanager's alerts (API v2).

https://prometheus.io/docs/prometheus/latest/querying/api/ (`data.resultType` vector, matrix or scalar) and
https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml (GettableAlert). Whatever else stands in such a
file is left out, never an error.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from diagnosis.redaction import redact
from diagnosis.workloads.fields import mapping, objects, pick, text, when
from incidents.models import Evidence, EvidenceKind

MAX_SERIES = 5_000
MAX_POINTS = 11_000  # of one series; Prometheus gives no more
MAX_ALERTS = 2_000
_MAX_TEXT = 2_000
_POINTS_CITED = 12
_LAST_SECOND = 253_402_300_799  # 9999-12-31: later ones are no times

ALIASES = {
    "namespace": ("namespace", "exported_namespace", "kubernetes_namespace", "kube_namespace"),
    "pod": ("pod", "exported_pod", "pod_name", "kubernetes_pod_name"),
    "container": ("container", "exported_container", "container_name"),
    "node": ("node", "exported_node", "kubernetes_node", "nodename"),
    "workload": ("workload", "deployment", "statefulset", "daemonset", "job_name", "exported_workload", "owner_name"),
    "service": ("service", "exported_service", "kubernetes_service", "service_name"),
}
"""The labels under which the usual exporters and scrape configurations name the same thing."""


@dataclass(frozen=True)
class Series:
    """One time series. `points` are (UTC, value), oldest first, without NaN and infinities. `source` is the file or
    query that it comes from."""

    name: str
    labels: dict[str, str]
    points: list[tuple[datetime, float]]
    source: str = ""

    def about(self, label: str) -> str:
        """What the series is about: the value of "namespace", "pod", "container", "node", "workload" or "service" under
        any of its usual names, or the empty string."""
        return next((self.labels[key] for key in ALIASES.get(label, (label,)) if self.labels.get(key)), "")

    @property
    def last(self) -> float:
        return self.points[-1][1]

    def evidence(self, now: datetime) -> Evidence:
        """The series with a few of its points: first, last, lowest, highest, and some between."""
        labels = ",".join(
            f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in sorted(self.labels.items())
        )
        step = max(1, len(self.points) // _POINTS_CITED)
        chosen = {*range(0, len(self.points), step), len(self.points) - 1}
        by_value = sorted(range(len(self.points)), key=lambda index: self.points[index][1])
        chosen |= {by_value[0], by_value[-1]}
        shown = "\n".join(
            f"{self.points[index][0]:%Y-%m-%dT%H:%M:%SZ} {self.points[index][1]:.6g}" for index in sorted(chosen)
        )
        return Evidence.of(EvidenceKind.METRIC, f"{self.source}: {self.name}{{{labels[:600]}}}", shown, now)


class Metrics:
    """The series of a snapshot, found by name and labels."""

    def __init__(self, series: Iterable[Series] = ()) -> None:
        self._by_name: dict[str, list[Series]] = defaultdict(list)
        for item in series:
            if item.points:
                self._by_name[item.name].append(item)

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def __len__(self) -> int:
        return sum(map(len, self._by_name.values()))

    def names(self) -> list[str]:
        return sorted(self._by_name)

    def all(self) -> list[Series]:
        return [series for name in sorted(self._by_name) for series in self._by_name[name]]

    def find(self, *names: str, **labels: str) -> list[Series]:
        """Series of any of these metric names that carry all these labels; a label of `ALIASES` under any of its names.

        Example: `find("container_memory_working_set_bytes", namespace="shop", pod="cart-0")`.
        """
        return [
            series
            for name in names
            for series in self._by_name.get(name, [])
            if all(series.about(label) == value for label, value in labels.items())
        ]


@dataclass(frozen=True)
class Alert:
    """One alert. `state` is active, suppressed, unprocessed, pending, firing or resolved."""

    name: str
    labels: dict[str, str]
    annotations: dict[str, str] = field(default_factory=dict)
    state: str = "active"
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def active(self) -> bool:
        return self.state in ("active", "firing")

    def evidence(self, now: datetime) -> Evidence:
        shown = json.dumps(
            {"labels": self.labels, "annotations": self.annotations, "state": self.state}, ensure_ascii=False
        )
        since = f" since {self.started:%Y-%m-%dT%H:%M:%SZ}" if self.started else ""
        return Evidence.of(EvidenceKind.METRIC, f"alerts.json: {self.name}{since}", shown, now)


def is_answer(document: object) -> bool:
    """Whether a document is an answer of Prometheus' query API."""
    return pick(document, "data", "resultType") in ("vector", "matrix", "scalar", "string")


def read_answer(document: object, name: str, source: str, room: int) -> tuple[list[Series], list[str]]:
    """The series of an answer, at most `room`, and sentences about what was left out.

    A result without a metric name (a rate, a quantile) is called `name`.
    """
    if not is_answer(document):
        said = text(document, "error")[:200]
        return [], [f"no answer of Prometheus{f': {redact(said)}' if said else ''}"]
    missed: list[str] = []
    if pick(document, "data", "resultType") == "scalar":
        results = [{"metric": {}, "value": pick(document, "data", "result")}]
    else:
        results = objects(document, "data", "result")
    if len(results) > room:
        missed.append(f"only the first {room} of {len(results)} series were read")
    found = []
    for result in results[:room]:
        labels = _strings(result, "metric")
        values = pick(result, "values") if isinstance(pick(result, "values"), list) else [pick(result, "value")]
        points = sorted(point for point in map(_point, values[-MAX_POINTS:]) if point is not None)
        if points:
            found.append(Series(labels.pop("__name__", "") or name, labels, points, source))
    return found, missed


def read_alerts(document: object) -> list[Alert]:
    """Alerts of Alertmanager's API v2 (a list) or of Prometheus' own `/api/v1/alerts`."""
    listed = document if isinstance(document, list) else pick(document, "data", "alerts") or pick(document, "alerts")
    found = []
    for item in (listed if isinstance(listed, list) else [])[: MAX_ALERTS + 1]:
        labels = _strings(item, "labels")
        if not labels.get("alertname"):
            continue
        state = text(item, "status", "state") or text(item, "status") or text(item, "state") or "active"
        ended = when(item, "endsAt")
        started = when(item, "startsAt") or when(item, "activeAt")
        annotations = _strings(item, "annotations")
        found.append(Alert(labels["alertname"], labels, annotations, state[:40], started, ended))
    return found


def _point(value: object) -> tuple[datetime, float] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    try:
        seconds, measured = float(value[0]), float(value[1])
    except (TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(measured) or not 0 <= seconds <= _LAST_SECOND:
        return None
    return datetime.fromtimestamp(seconds, UTC), measured


def _strings(item: object, key: str) -> dict[str, str]:
    return {
        name[:_MAX_TEXT]: redact(value[:_MAX_TEXT])
        for name, value in mapping(item, key).items()
        if isinstance(name, str) and isinstance(value, str)
    }
