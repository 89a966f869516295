"""Addresses in ConfigMaps: what a snapshot keeps of them, and which of them are wrong. Real cases, some changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diagnosis.hosts_in_text import only_hosts
from diagnosis.redaction import redact_object
from diagnosis.workloads.fields import Object
from diagnosis.workloads.snapshot import Snapshot
from incidents.models import CauseClass, DiagnosisStatus
from tests.snapshot_cases import SNAPSHOTS, changed, classes, loaded, of_case, only, truth

NAME = "config_address_name"


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("url", "http://app:pw@orders:80/v1?key=secret", "http://orders:80"),
        (
            "application.yaml",
            "a: 1\ndb:\n  url: jdbc:postgresql://db.shop:5432/x?password=y\n",
            "postgresql://db.shop:5432",
        ),
        ("brokers", "kafka-0:9092,kafka-1:9092", "kafka-0:9092 kafka-1:9092"),
        ("DB_HOST", "db.shop.svc", "db.shop.svc"),
        ("db-host", "db", "db"),
        ("DB_HOST", "not a host", ""),
        ("login", "admin:123456", ""),  # no key of a place: perhaps a password
        ("app.conf", "user admin:123456\nserver x:8080\n", ""),  # only URLs of files
        ("api_token", "http://orders:80", ""),
        ("note", "token hunter2hunter2", ""),
        ("hook", "https://hooks.example.com/services/T0/B0/hunter2hunter2", "https://hooks.example.com"),
        ("url", "http://" + "a" * 70_000, ""),
        ("urls", " ".join(f"http://s{number}:80" for number in range(99)), None),
    ],
)
def test_of_a_value_hosts_and_ports_are_kept(key: str, value: str, kept: str | None) -> None:
    found = only_hosts(key, value) if key != "api_token" else _through_an_object(key, value)
    if kept is None:
        assert len(found.split()) == 40
    else:
        assert found == kept
    assert only_hosts(key, found) == found


def _through_an_object(key: str, value: str) -> str:
    return str(redact_object({"kind": "ConfigMap", "data": {key: value}})["data"][key])


def test_nothing_of_a_secret_is_kept() -> None:
    item = {"kind": "Secret", "data": {"url": "http://orders:80"}, "stringData": {"url": "http://orders:80"}}
    assert "orders" not in json.dumps(redact_object(item))
    binary = {"kind": "ConfigMap", "binaryData": {"url": "http://orders:80"}, "data": {"url": 5, "x": None}}
    assert redact_object(binary) == {**binary, "binaryData": {"url": ""}, "data": {"url": "", "x": ""}}


@pytest.mark.parametrize("name", [NAME, "healthy_config_address"])
def test_the_fixture_has_no_other_content(name: str) -> None:
    whole = "".join(path.read_text() for path in Path(SNAPSHOTS / name).rglob("*") if path.is_file())
    assert "order" in whole
    assert "hunter2" not in whole
    assert "hello there" not in whole


def test_the_chain_leads_from_the_workload_to_the_map() -> None:
    cause = only(of_case(NAME), CauseClass.WRONG_DEPENDENCY_ADDRESS)
    assert cause.object.kind == "ConfigMap"
    assert any(truth(NAME)["facts"]["workload"] in line for line in [*cause.facts["explains"], *cause.chain])  # type: ignore[misc]


def as_file(item: Object) -> None:
    """Transformed: the same key as a file of a volume."""
    for holder in (item, item.get("spec", {}).get("template") or {}):
        for container in holder.get("spec", {}).get("containers") or []:
            for variable in container.pop("env", []):
                name = variable["valueFrom"]["configMapKeyRef"]["name"]
                holder["spec"].setdefault("volumes", []).append({"name": "v", "configMap": {"name": name}})
                container["volumeMounts"] = [{"name": "v", "mountPath": "/etc/app"}]


def all_keys(item: Object) -> None:
    """Transformed: all keys as variables."""
    for holder in (item, item.get("spec", {}).get("template") or {}):
        for container in holder.get("spec", {}).get("containers") or []:
            for variable in container.pop("env", []):
                container["envFrom"] = [{"configMapRef": {"name": variable["valueFrom"]["configMapKeyRef"]["name"]}}]


@pytest.mark.parametrize("change", [as_file, all_keys])
def test_files_and_whole_maps_are_read_too(change: object) -> None:
    found = of_case(NAME, changed(NAME, change))  # type: ignore[arg-type]
    assert only(found, CauseClass.WRONG_DEPENDENCY_ADDRESS).facts["suggested"] == truth(NAME)["facts"]["suggested"]


def test_a_file_of_which_the_log_says_nothing_is_left_alone() -> None:
    snapshot = changed(NAME, as_file)
    quiet = Snapshot(snapshot.items(), observed_at=snapshot.observed_at, complete=snapshot.complete)
    assert CauseClass.WRONG_DEPENDENCY_ADDRESS not in classes(of_case(NAME, quiet))


def test_a_corrected_map_is_no_cause() -> None:
    def corrected(item: Object) -> None:
        if item["kind"] == "ConfigMap" and "orders-url" in item.get("data", {}):
            item["data"]["orders-url"] = f"http://{truth(NAME)['facts']['suggested']}"

    assert CauseClass.WRONG_DEPENDENCY_ADDRESS not in classes(of_case(NAME, changed(NAME, corrected)))


def test_a_map_that_a_healthy_pod_reads_is_left_alone() -> None:
    held = loaded("healthy_config_address").all("ConfigMap")
    assert any("http://order-" in str(item.get("data")) for item in held)
    assert of_case("healthy_config_address").status is DiagnosisStatus.HEALTHY
