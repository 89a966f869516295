"""Root-cause analysis over HTTP: a real Prometheus that scrapes real processes, one of which is really broken."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agents.analyst import Analyst
from api.routes.rca import RcaBody
from diagnosis.merge import merge
from incidents.audit import AuditLog
from incidents.metric_runs import MetricRuns
from incidents.models import Diagnosis, DiagnosisStatus, ObjectRef, Via
from settings import KubernetesSettings, PrometheusSettings
from tests.standins.kube_api import KubeApi
from tests.standins.metered_shop import CHAIN, SCRAPE, open_shop
from tests.standins.parts import Parts, Served
from tools.kubernetes.client import Cluster
from tools.prometheus.client import Prometheus
from tools.prometheus.measure import Monitoring

QUIET, BROKEN = 8.0, 2.5
"""Seconds of each. Prometheus scrapes a new target for the first time up to five seconds after its own start."""
BEFORE = 1.0


def written(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def declared() -> list[dict[str, Any]]:
    """The shop's objects: each service has the address of the next, and its pod an owner."""
    found: list[dict[str, Any]] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}]
    for name, callee in zip(CHAIN, (*CHAIN[1:], ""), strict=True):
        meta, labels = {"namespace": "shop", "name": name}, {"app": name}
        env = [{"name": "CALLEE", "value": f"http://{callee}:80"}] if callee else []
        template = {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "app", "image": "shop", "env": env}]},
        }
        spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
        found.append(
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {**meta, "uid": f"uid-{name}"}, "spec": spec}
        )
        service = {"selector": labels, "ports": [{"port": 80}]}
        found.append({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service})
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": f"uid-{name}", "controller": True}
        pod = {**meta, "name": f"{name}-5d5f8c7b9c-x2x4z", "labels": labels, "ownerReferences": [owner]}
        found.append({"apiVersion": "v1", "kind": "Pod", "metadata": pod, "spec": template["spec"]})
    return found


@pytest.mark.system
async def test_a_bad_rollout_is_found_with_its_event_and_charts(
    service: Served, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_shop(tmp_path) as shop, Prometheus(PrometheusSettings(url=shop.prometheus, timeout=60)) as server:
        parts.monitoring = Monitoring(server)
        await asyncio.sleep(QUIET)
        began = await shop.roll_out("db", "latency")
        await asyncio.sleep(BROKEN)

        async def ask(path: str = "/api/v1/rca", **body: Any) -> Any:
            answer = await service.client.post(path, json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        found = await ask(
            start_time=written(began - timedelta(seconds=BEFORE)),
            end_time=written(datetime.now(UTC)),
            namespace="shop",
            symptom="web is slow",
        )
        report = found["report"]
        assert (report["status"], report["workloads"][0]["entity"]) == ("found", "shop/db"), report["summary"]
        assert report["workloads"][0]["path"] == ["shop/web", "shop/cart", "shop/db"]
        onset = datetime.fromisoformat(report["onset"])
        run = await MetricRuns(parts.database).get(found["id"])
        slow = next(one for one in run.charts if one.name.endswith("seconds:mean") and one.entity == "shop/db")
        shown = next(at for at, value in zip(slow.times, slow.values, strict=True) if (value or 0) > 0.04)
        # a busy machine is slow by itself: the end-to-end test says how near it is, scraping less often
        latest = datetime.fromtimestamp(shown + 2 * SCRAPE, UTC)
        assert began - timedelta(seconds=BEFORE + 2 * SCRAPE) <= onset <= latest, (onset, began)
        beside = [event["moment"] for event in report["events"] if "The process of db" in event["moment"]["text"]]
        assert any(datetime.fromisoformat(moment["at"]) >= began for moment in beside)
        known = {item["id"] for item in report["evidence"]}
        cited = {
            *(change["evidence_id"] for one in report["workloads"] for change in one["metrics"]),
            *(name for event in report["events"] for name in event["moment"]["evidence_ids"]),
        }
        assert cited and cited <= known

        for form, begin in (("svg", b"<svg"), ("html", b"<!doctype html>"), ("png", b"\x89PNG")):
            chart = await service.client.get(found["links"][form])
            assert chart.status_code == 200 and chart.content.startswith(begin), form
        assert (await service.client.get(found["links"]["self"])).json() == found

        target = ObjectRef(kind="Deployment", namespace="shop", name="web")
        incident = await parts.incidents.create(target, "slow", requested_by="local", via=Via.API)
        monkeypatch.setattr("agents.analyst.BEFORE", incident.created_at - began + timedelta(seconds=BEFORE))
        async with (
            KubeApi() as api,
            await Cluster.connect(
                KubernetesSettings(kubeconfig=api.kubeconfig(tmp_path), request_timeout=60)
            ) as cluster,
        ):
            for item in declared():
                api.put(item)
            analyst = Analyst(parts.incidents, MetricRuns(parts.database), server, None, cluster)
            diagnosis = await analyst.run(incident, None)
        db = ObjectRef(kind="Deployment", namespace="shop", name="db")  # by the pod's owner: the measurements have none
        assert (diagnosis.status, diagnosis.causes[0].object) == ("unknown", db)
        assert diagnosis.causes[0].chain == ["shop/web", "shop/cart", "shop/db"]
        kept = {item.id for item in await parts.incidents.evidence(incident.id)}
        assert {name for item in diagnosis.findings for name in item.evidence_ids} <= kept
        healthy = Diagnosis(status=DiagnosisStatus.HEALTHY)
        assert merge(healthy, None, diagnosis).causes == diagnosis.causes
        detail = (await service.client.get(f"/api/v1/incidents/{incident.id}")).json()
        assert detail["metrics"]["report"]["workloads"][0]["entity"] == "shop/db"
        assert (await service.client.get(f"/api/v1/incidents/{incident.id}/metrics")).json() == detail["metrics"]

        words = await ask(
            "/api/v1/rca/incident", affected_services=["web", "nobody"], symptoms=["slow"], time_range_minutes=1
        )
        assert "nothing is measured of nobody" in words["report"]["data_quality"]["warnings"]
        named = await ask(
            start_time=written(began - timedelta(seconds=2)),
            metrics=["http_request_duration_seconds", 'rate(process_cpu_seconds_total{job="db"}[1s])', "nothing"],
        )
        assert named["report"]["data_quality"]["series"] == 7
        assert "the server has no metric nothing" in named["report"]["data_quality"]["warnings"]
        told = await streamed(service, start_time=written(began - timedelta(seconds=2)), metrics=["up"])
        assert told[0] == ("step", {"text": "asking Prometheus what it has"})
        assert ("step", {"text": "1 of 5: up"}) in told
        assert told[-1][0] == "done" and [name for name, _ in told[:-1]] == ["step"] * (len(told) - 1)
        assert (await service.client.get(told[-1][1]["links"]["self"])).json() == told[-1][1]
        listed = (await service.client.get("/api/v1/rca/metrics?namespace=shop")).json()["metrics"]
        assert {"process_cpu_seconds_total", "http_request_duration_seconds:p90"} <= {item["name"] for item in listed}
        assert (await service.client.get("/api/v1/rca/health")).json()["status"] == "ok"
        for query, word in (("sum(", "parse error"), ('{__name__=~".+"} + on() {__name__=~".+"}', "no PromQL")):
            refused = await service.client.post("/api/v1/rca", json={"metrics": [query]})
            assert (refused.status_code, word in refused.text) == (400, True), refused.text
        nothing = await service.client.post("/api/v1/rca", json={"namespace": "elsewhere"})
        assert nothing.status_code == 400 and "no series of namespace elsewhere" in nothing.json()["detail"]
        printed = await command(
            shop.prometheus, "--start", written(began - timedelta(seconds=BEFORE)), "-n", "shop", "--symptom", "slow"
        )
        assert "shop/db" in printed.splitlines()[0]


async def streamed(service: Served, **body: Any) -> list[tuple[str, Any]]:
    answer = await service.client.post("/api/v1/rca", json=body, headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    found = re.findall(r"^event: (.+)\ndata: (.+)$", answer.text, re.MULTILINE)
    return [(name, json.loads(data)) for name, data in found]


async def command(url: str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import cli; cli.main()", "rca", "--prometheus", url, *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PARAMEDIC_KUBERNETES__ENABLED": "false", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    printed, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert b"fetching" in said
    return printed.decode()


UTC_START = "2026-11-20T10:00:00Z"
BAD: list[tuple[dict[str, Any], int, str]] = [
    ({"start_time": "2026-11-20T10:00:00", "end_time": "2026-11-20T11:00:00"}, 422, "has no time zone: write"),
    ({"start_time": "yesterday"}, 422, "must be a time of ISO 8601"),
    ({"start_time": 1763632800}, 422, "start_time"),
    ({"start_time": UTC_START, "end_time": "2026-11-20T09:00:00Z"}, 422, "is not after start_time"),
    ({"start_time": UTC_START, "end_time": UTC_START}, 422, "is not after start_time"),
    ({"start_time": "2999-01-01T00:00:00Z", "end_time": "2999-01-01T01:00:00Z"}, 400, "lies in the future"),
    ({"start_time": "2020-01-01T00:00:00Z", "end_time": UTC_START}, 400, "longer than the 31 days"),
    ({"time_range_minutes": 0}, 422, "time_range_minutes"),
    ({"metrics": "up"}, 422, "metrics"),
    ({"metrics": [""]}, 422, "metrics"),
    ({"metrics": ["up"] * 51}, 422, "metrics"),
    ({"namespace": "../x"}, 422, "namespace"),
    ({"limit": 3}, 422, "unknown field"),
    ({"start_time": "0001-01-01T00:00:00+14:00"}, 422, "between 1971 and 9998"),
]


async def test_bad_input_is_one_problem_each(service: Served, parts: Parts) -> None:
    parts.monitoring = Monitoring()
    missing = await service.client.post("/api/v1/rca", json={})
    assert missing.status_code == 503 and "prometheus.url" in missing.json()["detail"]
    async with Prometheus(PrometheusSettings(url="http://127.0.0.1:1")) as server:
        parts.monitoring = Monitoring(server)
        for body, status, words in BAD:
            answer = await service.client.post("/api/v1/rca", json=body)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), body
            assert words in answer.text, (body, answer.text)
        down = await service.client.get("/api/v1/rca/health")
        assert down.json()["status"] == "unavailable"
        gone = await service.client.post("/api/v1/rca", json={})
        assert gone.status_code == 502 and gone.headers["content-type"] == "application/problem+json"
        told = await streamed(service)
        assert told[-1][0] == "error" and told[-1][1]["status"] == 502 and "Prometheus" in told[-1][1]["detail"]
    nobody = await service.client.post("/api/v1/rca/incident", json={"symptoms": ["slow"]})
    assert nobody.status_code == 422 and "affected_services" in nobody.text
    for path in ("/api/v1/rca/rca_0", "/api/v1/rca/..%2Fx", "/api/v1/rca/rca_0/chart.svg"):
        assert (await service.client.get(path)).status_code == 404, path
    assert (await service.client.get("/api/v1/rca/rca_0/chart.gif")).status_code == 422


def test_a_start_and_a_length_are_a_range_also_when_the_length_is_the_usual_one() -> None:
    start, end = RcaBody(start_time="2026-11-20T10:00:00Z", time_range_minutes=30).span()
    assert end - start == timedelta(minutes=30)
    start, end = RcaBody(start_time="2026-11-20T10:00:00Z").span()
    assert end - start > timedelta(hours=1), "without a length, until now"


async def test_the_configuration_is_kept_and_audited(service: Served, parts: Parts) -> None:
    parts.audit = AuditLog(parts.database)  # type: ignore[attr-defined]
    before = (await service.client.get("/api/v1/rca/config")).json()
    body = {"anomaly_threshold": 0.65, "correlation_threshold": 0.7}
    after = await service.client.put("/api/v1/rca/config", json=body)
    assert after.json() == {**before, **body}
    await service.client.put("/api/v1/rca/config", json={"max_workloads": 3})
    assert (await service.client.get("/api/v1/rca/config")).json() == {**before, **body, "max_workloads": 3}
    for wrong in ({"anomaly_threshold": -1}, {"correlation_threshold": 2}, {"detectors": ["magic"]}, {"what": 1}):
        assert (await service.client.put("/api/v1/rca/config", json=wrong)).status_code == 422, wrong
    entries = await parts.audit.entries()  # type: ignore[attr-defined]
    assert [(entry.actor, entry.action, entry.data["after"]) for entry in entries] == [
        ("local", "rca.config", body),
        ("local", "rca.config", {"max_workloads": 3}),
    ]
    assert await MetricRuns(parts.database).config() == {**body, "max_workloads": 3}


async def test_an_incident_without_measurements_has_none(service: Served, parts: Parts) -> None:
    target = ObjectRef(kind="Deployment", namespace="shop", name="cart")
    incident = await parts.incidents.create(target, "slow", requested_by="local", via=Via.API)
    assert (await service.client.get(f"/api/v1/incidents/{incident.id}/metrics")).status_code == 404


@pytest.fixture(autouse=True)
def unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
