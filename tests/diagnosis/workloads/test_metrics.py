"""Measurements and alerts in a snapshot: as Prometheus and Alertmanager write them, damaged, many, saved and read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from diagnosis.workloads.load import load_snapshot
from diagnosis.workloads.metrics import MAX_SERIES, Alert, Metrics, Series, read_alerts, read_answer
from diagnosis.workloads.snapshot import Snapshot
from tools.kubernetes.save import save_snapshot

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "cart-0", "namespace": "shop"}, "status": {}}
AT = 1_790_000_000
RANGE = {
    "status": "success",
    "data": {
        "resultType": "matrix",
        "result": [
            {
                "metric": {
                    "__name__": "container_memory_working_set_bytes", "exported_namespace": "shop", "pod_name": "cart-0"
                },
                "values": [[AT, "100"], [AT + 60.5, "200.5"], [AT + 30, "NaN"], [AT + 90, "+Inf"]],
            },
            {"metric": {"__name__": "up", "pod": "db-0"}, "values": [[AT, "1"]]},
        ],
    },
}  # fmt: skip
INSTANT = {
    "status": "success",
    "data": {"resultType": "vector", "result": [{"metric": {"deployment": "cart"}, "value": [AT, "0.25"]}]},
}
ALERT = {
    "labels": {"alertname": "KubePodCrashLooping", "namespace": "shop", "severity": "warning"},
    "annotations": {"summary": "cart keeps restarting, password=hunter2"},
    "status": {"state": "active", "inhibitedBy": [], "silencedBy": []},
    "startsAt": "2026-11-21T07:00:00.000Z",
    "endsAt": "2026-11-21T08:00:00.000Z",
    "fingerprint": "abc",
}


def folder_with(folder: Path, **files: object) -> Path:
    (folder / "metrics").mkdir(exist_ok=True)
    (folder / "pods.json").write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": [POD]}))
    for name, content in files.items():
        where = folder / (f"metrics/{name}.json" if name != "alerts" else "alerts.json")
        where.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_ranges_and_instants_are_found_by_name_and_labels(tmp_path: Path) -> None:
    snapshot = load_snapshot(folder_with(tmp_path, memory=RANGE, cpu_throttling=INSTANT, alerts=[ALERT]))
    found = snapshot.series.find("container_memory_working_set_bytes", namespace="shop", pod="cart-0")
    assert [value for _, value in found[0].points] == [100.0, 200.5], "numbers only, in time order"
    assert found[0].points[0][0] == datetime.fromtimestamp(AT, UTC)
    assert found[0].source == "metrics/memory.json"
    assert snapshot.series.find("container_memory_working_set_bytes", namespace="other") == []
    rate = snapshot.series.find("cpu_throttling", workload="cart")
    assert [series.last for series in rate] == [0.25], "what has no name is called as its file"
    alert = snapshot.alerts[0]
    assert (alert.name, alert.active, alert.labels["namespace"]) == ("KubePodCrashLooping", True, "shop")
    assert "hunter2" not in str(alert.annotations)
    assert not [line for line in snapshot.unseen if "metrics" in line or "alerts" in line]


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    first = load_snapshot(folder_with(tmp_path, memory=RANGE, cpu_throttling=INSTANT, alerts=[ALERT]))
    save_snapshot(first, tmp_path / "out")
    second = load_snapshot(tmp_path / "out")
    assert [(s.name, s.labels, s.points) for s in second.series.all()] == [
        (s.name, s.labels, s.points) for s in first.series.all()
    ]
    assert second.alerts == first.alerts


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[]",
        "{}",
        '{"status": "error", "errorType": "bad_data", "error": "parse error"}',
        '{"data": {"resultType": "matrix", "result": [null, 7, {"metric": 3, "values": [[1], "x", [null, "1"]]}]}}',
        '{"data": {"resultType": "matrix", "result": [{"metric": {"a": 1}, "values": [[1e300, "1"], ["x", {}]]}]}}',
        '{"data": {"resultType": "vector", "result": {"metric": {}}}}',
        '{"data": {"resultType": "scalar", "result": "x"}}',
    ],
)
def test_garbage_is_no_series_and_no_error(tmp_path: Path, content: str) -> None:
    snapshot = load_snapshot(folder_with(tmp_path, odd=content, alerts=content))
    assert len(snapshot.series) == 0 and snapshot.alerts == []
    assert snapshot.get("Pod", "shop", "cart-0") is not None, "the rest is read"


def test_too_many_series_are_cut_and_said(tmp_path: Path) -> None:
    results = [{"metric": {"__name__": "up", "pod": f"p{n}"}, "value": [AT, "1"]} for n in range(MAX_SERIES + 5)]
    snapshot = load_snapshot(folder_with(tmp_path, up={"data": {"resultType": "vector", "result": results}}))
    assert len(snapshot.series) == MAX_SERIES
    assert any(f"only the first {MAX_SERIES}" in line for line in snapshot.unseen)


def test_alerts_of_prometheus_itself_and_damaged_ones() -> None:
    document: dict[str, Any] = {"status": "success", "data": {"alerts": [{**ALERT, "state": "firing", "status": None}]}}
    assert [alert.active for alert in read_alerts(document)] == [True]
    assert read_alerts([{}, None, {"labels": {"alertname": 4}}, {"labels": {"alertname": "A", "x": None}}]) == [
        Alert("A", {"alertname": "A"})
    ]
    assert read_answer({"data": None}, "n", "s", 5)[0] == []


def test_evidence_shows_the_extremes() -> None:
    points = [(datetime.fromtimestamp(AT + n, UTC), 1e9 if n == 500 else float(n)) for n in range(1000)]
    series = Series("memory", {"pod": 'a"b'}, points, "metrics/m.json")
    shown = series.evidence(datetime.fromtimestamp(AT, UTC))
    assert "1e+09" in shown.excerpt and shown.excerpt.endswith(" 999")
    assert len(shown.excerpt.split("\n")) < 20
    assert shown.source == 'metrics/m.json: memory{pod="a\\"b"}'


def test_a_series_without_points_does_not_exist() -> None:
    assert not Metrics([Series("up", {}, [])])
    assert len(Snapshot([POD], series=[Series("up", {}, [(datetime(2026, 1, 1, tzinfo=UTC), 1.0)])]).series) == 1
