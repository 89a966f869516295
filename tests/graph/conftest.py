"""The real graph, runner, gate, fixer and notifier on a real database and the API stand-in.

Only the looking is fixed: the researcher answers with a given diagnosis, so that a run depends on nothing else.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from actions.gate import Gate
from agents.gdb_analyst import GdbAnalyst
from agents.k8s_fixer import K8sFixer
from agents.notifier import Notifier
from agents.recall import Recall
from graph.build import build_graph
from graph.core_wait import CoreWait
from graph.nodes import Nodes
from graph.runner import Runner
from incidents.approvals import ApprovalStore
from incidents.database import Database, utcnow
from incidents.drafts import Drafts
from incidents.memory import Memory
from incidents.models import (
    Cause,
    CauseClass,
    Diagnosis,
    DiagnosisStatus,
    Evidence,
    EvidenceKind,
    Finding,
    Incident,
    IncidentStatus,
    ObjectRef,
    Via,
)
from incidents.plan import Approval
from incidents.store import IncidentStore
from incidents.storms import StormStore
from settings import EventsSettings, GateSettings, KubernetesSettings, Settings
from tests.standins.kube_api import KubeApi, Write
from tests.standins.rollout import Controllers, deployment
from tools.kubernetes.client import Cluster

SPACE = "shop-3c"


class FixedResearcher:
    """Answers every incident with `diagnosis`, and counts how often it was asked."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        self.diagnosis = diagnosis
        self.asked = 0
        self.trouble: list[Exception] = []
        self.remember: Callable[[Incident, Diagnosis], Awaitable[Diagnosis]] | None = None

    async def run(self, incident: Incident) -> Diagnosis:
        self.asked += 1
        if self.trouble:
            raise self.trouble.pop(0)
        ref = incident.target.model_copy(update={"container": "main"})
        causes = [cause.model_copy(update={"object": ref}) for cause in self.diagnosis.causes]
        found = self.diagnosis.model_copy(update={"causes": causes})
        return await self.remember(incident, found) if self.remember else found


def wrong_port() -> Diagnosis:
    seen = Evidence.of(EvidenceKind.EVENT, "GET /events", "connection refused", utcnow())
    finding = Finding.of("wrong_probe", "the probe asks a port where nothing listens", [seen])
    cause = Cause(
        cause_class=CauseClass.WRONG_LIVENESS_PROBE,
        object=ObjectRef(kind="Deployment", namespace=SPACE, name="cart", container="main"),
        confidence=0.95,
        summary="The liveness probe asks port 8081, where nothing listens.",
        finding_ids=[finding.id],
        facts={"probe": "liveness", "field": "port", "observed": 8081, "suggested": 8080},
    )
    return Diagnosis(status=DiagnosisStatus.DIAGNOSED, causes=[cause], findings=[finding], evidence=[seen])


@dataclass
class Service:
    """One process's worth of objects; `restart()` makes the next one on the same files."""

    folder: Path
    api: KubeApi
    controllers: Controllers
    settings: GateSettings
    researcher: FixedResearcher
    on_step: Callable[[str], None] | None = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    clock: datetime = field(default_factory=utcnow)  # of the storms alone
    events: EventsSettings = field(default_factory=EventsSettings)
    ahead: timedelta = timedelta()  # of the notifier alone
    patience: float = 0.0  # seconds an incident waits for its core

    async def open(self) -> None:
        self.database = await Database.open(f"sqlite+aiosqlite:///{self.folder / 'paramedic.db'}")
        self.stack.push_async_callback(self.database.close)
        saver = await self.stack.enter_async_context(
            AsyncSqliteSaver.from_conn_string(str(self.folder / "checkpoints.db"))
        )
        await saver.conn.execute("PRAGMA synchronous=OFF")  # see tests/conftest.py
        kube = KubernetesSettings(kubeconfig=self.api.kubeconfig(self.folder), request_timeout=60.0)
        self.cluster = cluster = await self.stack.enter_async_context(await Cluster.connect(kube))
        self.incidents = IncidentStore(self.database, self.folder / "evidence")
        self.approvals = ApprovalStore(self.database)
        settings = Settings(data_dir=self.folder, events=self.events)
        self.notifier = Notifier(settings, self.database, now=lambda: utcnow() + self.ahead)
        self.stack.push_async_callback(self.notifier.close)
        self.gate = Gate(
            self.database, self.settings, cluster, None, lease_seconds=60, on_step=lambda step: self._stepped(step)
        )
        self.storms = StormStore(self.database, now=lambda: self.clock)
        self.recall = Recall(Memory(self.database))
        nodes = Nodes(
            self.incidents,
            self.approvals,
            Drafts(self.database),
            self.researcher,  # type: ignore[arg-type]
            GdbAnalyst(self.incidents, settings, self.folder, None),
            K8sFixer(self.incidents, self.gate, None, self.recall, self.storms),
            self.gate,
            self.notifier,
            None,
            max_analyses=4,
            core_wait=CoreWait(settings.store, self.patience),
        )
        self.graph = build_graph(nodes, saver)
        self.runner = Runner(self.graph, self.incidents, self.approvals, self.gate, notifier=self.notifier)
        self.stack.push_async_callback(self.runner.drain)

    def _stepped(self, step: str) -> None:
        if self.on_step:
            self.on_step(step)

    async def restart(self) -> None:
        await self.stack.aclose()
        self.stack = AsyncExitStack()
        await self.open()
        await self.runner.start()

    @property
    def writes(self) -> list[Write]:
        return self.api.writes

    async def report(self, name: str = "cart", **options: Any) -> Incident:
        target = ObjectRef(kind="Deployment", namespace=SPACE, name=name)
        return await self.runner.submit(target, "it restarts", requested_by="api:robot", via=Via.API, **options)

    async def until(self, incident: Incident, *statuses: IncidentStatus) -> Incident:
        """Wait (bounded) until the incident has one of the statuses, or has ended."""
        for _ in range(500):
            now = await self.incidents.get(incident.id)
            if now.status in statuses or now.status.ended:
                return now
            await self.incidents.wait_change(incident.id, 0.2)
        raise AssertionError(f"still {now.status}: {[step.text for step in await self.incidents.steps(now.id)]}")

    async def asked(self, incident: Incident) -> Approval:
        """The approval that the incident waits for."""
        found = await self.until(incident, IncidentStatus.AWAITING_APPROVAL)
        assert found.status is IncidentStatus.AWAITING_APPROVAL, found
        (approval,) = await self.approvals.list(incident_id=incident.id)
        for _ in range(2000):  # until the graph rests at its interrupt
            if (await self.graph.aget_state({"configurable": {"thread_id": incident.id}})).interrupts:
                return approval
            await asyncio.sleep(0.05)
        raise AssertionError("the graph never came to its interrupt")

    async def vote(
        self, approval: Approval, verdict: str = "approve", identity: str = "api:ann", reason: str | None = None
    ) -> Approval:
        return await self.runner.decide(
            approval.id,
            identity=identity,
            verdict=verdict,
            digest=approval.digest,
            waive_evidence=False,
            channel="api",
            reason=reason,
        )

    def port(self, name: str = "cart") -> int:
        live = self.api.objects["apps/v1", "Deployment", SPACE, name]
        return int(live["spec"]["template"]["spec"]["containers"][1]["livenessProbe"]["httpGet"]["port"])


@pytest.fixture
async def service(migrated: Path, tmp_path: Path) -> AsyncIterator[Service]:
    shutil.copy(migrated, tmp_path / "paramedic.db")
    async with KubeApi() as api:
        controllers = Controllers(api)
        api.controller = controllers
        for name in ("cart", "pay", "mail"):
            settings_map = {"metadata": {"name": f"{name}-config", "namespace": SPACE}, "data": {"level": "info"}}
            api.put({"apiVersion": "v1", "kind": "ConfigMap", **settings_map})
            api.put(deployment(name, SPACE))
        api.log.clear()
        policy = GateSettings(
            approvers={"api:ann": ["approver"], "api:bob": ["approver"]},
            verify_seconds=0.4,
            verify_stable_seconds=0.05,
            verify_poll_seconds=0.02,
        )
        service = Service(tmp_path, api, controllers, policy, FixedResearcher(wrong_port()))
        await service.open()
        yield service
        await service.stack.aclose()
