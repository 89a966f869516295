"""A gate on a real database, a real client and the API stand-in over HTTP."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from actions.gate import Gate
from incidents.approvals import ApprovalStore
from incidents.audit import AuditEntry, AuditLog
from incidents.database import Database
from incidents.models import (
    Cause,
    CauseClass,
    Diagnosis,
    DiagnosisStatus,
    Evidence,
    EvidenceKind,
    Finding,
    Incident,
    ObjectRef,
    Via,
)
from incidents.plan import Action, Approval, ChangeProbe, EvidenceNeed, Plan, ProbeKind
from incidents.store import IncidentStore
from settings import GateSettings, KubernetesSettings
from tests.standins.kube_api import KubeApi, Write
from tests.standins.rollout import Controllers, deployment
from tools.helm.client import Helm
from tools.kubernetes.client import Cluster

NAMESPACE = "shop-7f"
NAME = "cart-x1"
WHEN = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


class Clock:
    """The one clock of a test's gate."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.time

    def move(self, **by: float) -> None:
        self.time += timedelta(**by)


def policy(**changes: Any) -> GateSettings:
    fast = {"verify_seconds": 0.5, "verify_stable_seconds": 0.05, "verify_poll_seconds": 0.02}
    people = {"api:ann": ["approver"], "api:bob": ["approver"], "feishu:t/ou_c": ["admin"]}
    return GateSettings.model_validate({"approvers": people, **fast, **changes})


@dataclass
class World:
    api: KubeApi
    controllers: Controllers
    cluster: Cluster
    database: Database
    incidents: IncidentStore
    clock: Clock
    settings: GateSettings
    folder: Path
    helm: Helm | None = None
    steps: list[str] = field(default_factory=list)
    on_step: Callable[[str], None] | None = None
    _gate: Gate | None = None

    @property
    def gate(self) -> Gate:
        if self._gate is None:
            self._gate = self.new_gate()
        return self._gate

    def new_gate(self, **changes: Any) -> Gate:
        """A gate as a restarted process would have it."""
        if changes:
            self.settings = self.settings.model_copy(update=changes)
        self._gate = Gate(
            self.database,
            self.settings,
            self.cluster,
            self.helm,
            now=self.clock,
            lease_seconds=60,
            on_step=self._stepped,
        )
        return self._gate

    def _stepped(self, step: str) -> None:
        self.steps.append(step)
        if self.on_step:
            self.on_step(step)

    @property
    def writes(self) -> list[Write]:
        return self.api.writes

    @property
    def approvals(self) -> ApprovalStore:
        return ApprovalStore(self.database, now=self.clock)

    @property
    def audit(self) -> AuditLog:
        return AuditLog(self.database, now=self.clock)

    async def audited(self) -> list[AuditEntry]:
        return await self.audit.entries()

    @property
    def target(self) -> ObjectRef:
        return ObjectRef(kind="Deployment", namespace=NAMESPACE, name=NAME)

    async def incident(self, target: ObjectRef | None = None, requested_by: str = "api:robot") -> Incident:
        return await self.incidents.create(target or self.target, "crash", requested_by=requested_by, via=Via.API)

    async def plan(
        self,
        action: Action | None = None,
        *,
        cause: CauseClass = CauseClass.WRONG_LIVENESS_PROBE,
        need: EvidenceNeed = EvidenceNeed.NONE,
        evidence: str | None = None,
        incident: Incident | None = None,
        **facts: Any,
    ) -> Plan:
        action = action or probe_change()
        incident = incident or await self.incident(action.target)
        found = diagnosis(action.target, cause, **facts)
        return await self.gate.plan(incident, action, found, evidence_need=need, evidence_sha256=evidence)

    async def requested(self, action: Action | None = None, **options: Any) -> Approval:
        return await self.gate.request(await self.plan(action, **options))

    async def vote(self, approval: Approval, identity: str = "api:ann", **changes: Any) -> Approval:
        ballot: dict[str, Any] = {
            "identity": identity,
            "verdict": "approve",
            "digest": approval.digest,
            "waive_evidence": False,
            "channel": "api",
            "reason": None,
        }
        return await self.gate.decide(approval.id, **(ballot | changes))

    async def approved(self, action: Action | None = None, **options: Any) -> Approval:
        return await self.vote(await self.requested(action, **options))


def probe_change(port: int | None = 8080, **changes: Any) -> ChangeProbe:
    target = ObjectRef(kind="Deployment", namespace=NAMESPACE, name=NAME)
    fields: dict[str, Any] = {"container": "main", "probe": ProbeKind.LIVENESS, "port": port, **changes}
    return ChangeProbe(target=fields.pop("target", target), **fields)


def diagnosis(target: ObjectRef, cause: CauseClass, source: str = "rule", **facts: Any) -> Diagnosis:
    seen = Evidence.of(EvidenceKind.OBJECT, "GET /x", "{}", WHEN)
    finding = Finding.of("test.rule", "it is so", [seen]).model_copy(update={"source": source})
    located = target.model_copy(update={"container": "main"})
    return Diagnosis(
        status=DiagnosisStatus.DIAGNOSED,
        causes=[
            Cause(
                cause_class=cause,
                object=located,
                confidence=0.9,
                summary="the probe asks the wrong port",
                finding_ids=[finding.id],
                facts=facts,
            )
        ],
        findings=[finding],
        evidence=[seen],
    )


@pytest.fixture
async def world(
    database: Database, incidents: IncidentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """A Deployment with two containers, its controllers, a neighbour, and a gate in front of them."""
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)  # the stand-in speaks plain HTTP: loading authorities takes time
    async with KubeApi() as api:
        controllers = Controllers(api)
        api.controller = controllers
        for name in (NAME, "neighbour"):
            api.put(
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": f"{name}-config", "namespace": NAMESPACE},
                    "data": {"level": "info"},
                }
            )
            api.put(deployment(name, NAMESPACE))
        api.log.clear()
        kube = KubernetesSettings(kubeconfig=api.kubeconfig(tmp_path), request_timeout=60.0)
        async with await Cluster.connect(kube) as cluster:
            yield World(api, controllers, cluster, database, incidents, Clock(), policy(), tmp_path)
