"""Probes, metrics, and the committed description of the API."""

from __future__ import annotations

import json

from api.openapi import COMMITTED, document
from api.routes import health
from diagnosis.closure import with_closure
from incidents.database import utcnow
from incidents.models import (
    Diagnosis,
    DiagnosisStatus,
    Evidence,
    EvidenceKind,
    Finding,
    ModelStatements,
    ObjectRef,
    Via,
)
from tests.standins.parts import Listing, Served


async def test_readiness_depends_on_the_cluster_and_is_cached(service: Served, monkeypatch):
    cluster = service.parts.cluster = Listing()
    assert (await service.client.get("/readyz")).json()["components"] == {"database": "ok", "cluster": "ok"}
    cluster.silent = True
    assert (await service.client.get("/readyz")).status_code == 200  # still the look of a moment ago
    monkeypatch.setattr(health, "CACHE_SECONDS", 0.0)
    answer = await service.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["components"]["cluster"] == "failed: The cluster cannot be reached"
    assert (await service.client.get("/livez")).status_code == 200
    assert (await service.client.get("/api/v1/health")).json()["status"] == "degraded"


async def test_a_lost_database_makes_it_unready_not_dead(service: Served, monkeypatch):
    monkeypatch.setattr(health, "CACHE_SECONDS", 0.0)

    class Gone:
        def read(self) -> None:
            raise OSError("gone")

    service.parts.database, database = Gone(), service.parts.database
    assert (await service.client.get("/readyz")).status_code == 503
    assert (await service.client.get("/livez")).status_code == 200
    service.parts.database = database


async def test_autofix_health_names_what_is_missing(service: Served):
    components = (await service.client.get("/api/v1/autofix/health")).json()["components"]
    assert components == {"database": "ok", "gate": "no cluster", "models": "none configured"}


async def test_metrics_count_by_template_and_never_by_name(service: Served):
    await service.client.post(
        "/api/v1/autofix", json={"deployment": "very-secret", "namespace": "hidden", "event": "x"}
    )
    await service.client.get("/api/v1/incidents/inc_1")
    await service.client.get("/wp-admin.php")
    await service.client.request("BREW", "/livez")
    text = (await service.client.get("/metrics")).text
    assert 'paramedic_incidents{status="received"} 1.0' in text
    assert 'paramedic_approvals{state="pending"} 0.0' in text
    assert 'method="GET",route="/api/v1/incidents/{incident_id}"' in text
    assert 'route="unmatched"' in text and 'method="other"' in text
    for word in ("very-secret", "hidden", "inc_1", "wp-admin", "BREW"):
        assert word not in text


async def test_metrics_tell_what_share_of_statements_is_borne(service: Served):
    store = service.parts.incidents
    target = ObjectRef(kind="Deployment", namespace="shop", name="api")
    evidence = Evidence.of(EvidenceKind.LOG, "log", "text", utcnow())
    ruled = Diagnosis(
        status=DiagnosisStatus.UNKNOWN, findings=[Finding.of("r", "claim", [evidence])], evidence=[evidence]
    )
    lied_to = ruled.model_copy(update={"model_statements": ModelStatements(kept=1, total=4)})
    for diagnosis in (ruled, ruled, lied_to, Diagnosis(status=DiagnosisStatus.HEALTHY)):
        incident = await store.create(target, "x", requested_by="local", via=Via.API)
        await store.update(incident.id, diagnosis=with_closure(diagnosis))
    text = (await service.client.get("/metrics")).text
    for line in (
        'paramedic_diagnosis_closure_bucket{le="0.99",stated_by="rules"} 0.0',
        'paramedic_diagnosis_closure_bucket{le="1.0",stated_by="rules"} 2.0',
        'paramedic_diagnosis_closure_count{stated_by="rules"} 2.0',
        'paramedic_diagnosis_closure_bucket{le="0.25",stated_by="rules and model"} 0.0',
        'paramedic_diagnosis_closure_bucket{le="0.5",stated_by="rules and model"} 1.0',
        'paramedic_diagnosis_closure_sum{stated_by="rules and model"} 0.4',
        'paramedic_model_statements_total{borne="true"} 1.0',
        'paramedic_model_statements_total{borne="false"} 3.0',
    ):
        assert f"\n{line}\n" in text, line


def test_the_committed_description_is_the_real_one():
    assert COMMITTED.read_text() == document(), "run: python -m api.openapi"


def test_every_operation_is_described_with_its_problems():
    paths = json.loads(document())["paths"]
    seen = []
    for path, operations in paths.items():
        for operation in operations.values():
            seen.append(operation["operationId"])
            assert operation["tags"], path
            if path != "/api/v1/feishu/callback":
                assert "default" in operation["responses"], path
    assert len(seen) == len(set(seen))
    for path in (
        "/api/v1/autofix",
        "/api/v1/autofix/diagnose",
        "/api/v1/autofix/workflow",
        "/api/v1/autofix/notify",
        "/api/v1/autofix/health",
        "/api/v1/incidents",
        "/api/v1/incidents/{incident_id}",
        "/api/v1/incidents/{incident_id}/events",
        "/api/v1/approvals",
        "/api/v1/approvals/{approval_id}/decision",
        "/diagnose",
        "/api/v1/diagnose",
        "/api/v1/feishu/callback",
        "/livez",
        "/readyz",
        "/metrics",
        "/api/v1/health",
    ):
        assert path in paths, path
