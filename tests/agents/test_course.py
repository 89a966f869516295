"""Every cause has an answer: a typed action where facts say enough, else one question and why people must answer."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actions.gate import Gate
from agents.k8s_fixer import K8sFixer, Offer
from agents.remedies import OFFERS, course, remedies
from agents.remedies.people import PEOPLE, ask
from diagnosis.merge import CODE_FAULTS
from incidents.actions import (
    AddPullSecret,
    ChangeConfigReference,
    ChangeProbe,
    ChangeResources,
    ChangeScheduling,
    ChangeService,
    ChangeVariable,
    Combined,
    CordonNode,
    DeletePod,
    Restart,
    ResumeCronJob,
    ResumeRollout,
    RevertImage,
    Scale,
    Toleration,
)
from incidents.database import Database
from incidents.models import (
    Cause,
    CauseClass,
    Diagnosis,
    DiagnosisStatus,
    Evidence,
    EvidenceKind,
    Fact,
    Finding,
    ObjectRef,
    Via,
)
from incidents.store import IncidentStore
from settings import GateSettings, KubernetesSettings
from tests.actions.conftest import WHEN
from tests.standins.kube_api import KubeApi
from tests.standins.rollout import Controllers, deployment
from tools.kubernetes.client import Cluster

API = ObjectRef(kind="Deployment", namespace="shop", name="api", container="main")
BARE = API.model_copy(update={"container": None})
SERVICE = ObjectRef(kind="Service", namespace="shop", name="web")
CRON = ObjectRef(kind="CronJob", namespace="shop", name="nightly")
NODE = ObjectRef(kind="Node", name="n1")
EVIDENCE = Evidence.of(EvidenceKind.OBJECT, "GET …", "seen", WHEN)
FINDING = Finding.of("rule", "claim", [EVIDENCE])
_ADDRESS: dict[str, Any] = {"variable": "DB", "dependency": "db", "suggested_value": "x"}


def cause(kind: CauseClass, ref: ObjectRef = API, confidence: float = 0.9, **facts: Any) -> Cause:
    return Cause(
        cause_class=kind, object=ref, confidence=confidence, summary="It.", finding_ids=[FINDING.id], facts=facts
    )


def diagnosis(*causes: Cause) -> Diagnosis:
    return Diagnosis(status=DiagnosisStatus.DIAGNOSED, causes=list(causes), findings=[FINDING], evidence=[EVIDENCE])


TABLE: list[tuple[Cause, object]] = [
    (
        cause(
            CauseClass.MISSING_CONFIG_MAP, key=None, suggested_name="conf",
            reference_kind="ConfigMap", reference_name="cfg",
        ),
        ChangeConfigReference(target=BARE, kind="ConfigMap", name="cfg", to_name="conf"),
    ),
    (
        cause(
            CauseClass.MISSING_CONFIG_KEY, key="pasword", suggested_key="password",
            reference_kind="Secret", reference_name="s",
        ),
        ChangeConfigReference(target=BARE, kind="Secret", name="s", key="pasword", to_name="s", to_key="password"),
    ),
    (
        cause(CauseClass.MISSING_PULL_SECRET, missing_secrets=["regcrd"], suggested_secret="regcred"),
        AddPullSecret(target=BARE, secret="regcred", replaces="regcrd"),
    ),
    (
        cause(CauseClass.MISSING_PULL_SECRET, suggested_secret="regcred"),
        AddPullSecret(target=BARE, secret="regcred"),
    ),
    (
        cause(CauseClass.BAD_IMAGE, image="r/a:2", previous_image="r/a:1"),
        RevertImage(target=BARE, container="main", image="r/a:1"),
    ),
    (
        cause(CauseClass.INSUFFICIENT_RESOURCES, suggested_cpu_request="200m", suggested_memory_request="64Mi"),
        ChangeResources(target=BARE, container="main", cpu_request="200m", memory_request="64Mi"),
    ),
    (
        cause(CauseClass.UNTOLERATED_TAINT, taint_key="team", taint_value="shop", taint_effect="NoSchedule", node="n1"),
        ChangeScheduling(target=BARE, toleration=Toleration(key="team", value="shop", effect="NoSchedule")),
    ),
    (
        cause(
            CauseClass.NODE_SELECTOR_MISMATCH, node_selector=["disk=sdd", "a=b"],
            suggested_node_selector=["disk=ssd", "a=b"],
        ),
        ChangeScheduling(target=BARE, node_selector={"disk": "ssd"}),
    ),
    (cause(CauseClass.NODE_CORDONED, node="n1"), CordonNode(target=NODE, unschedulable=False)),
    (cause(CauseClass.KUBE_PROXY_DOWN, NODE), CordonNode(target=NODE, unschedulable=True)),
    (
        cause(CauseClass.SERVICE_SELECTOR_MISMATCH, SERVICE, suggested_selector=["app=web", "tier=x=y"]),
        ChangeService(target=SERVICE, selector={"app": "web", "tier": "x=y"}),
    ),
    (
        cause(CauseClass.SERVICE_WRONG_TARGET_PORT, SERVICE, port=80, suggested_target_port=8080),
        ChangeService(target=SERVICE, port=80, target_port=8080),
    ),
    (
        cause(CauseClass.SERVICE_WRONG_TARGET_PORT, SERVICE, port=80, suggested_target_port="http"),
        ChangeService(target=SERVICE, port=80, target_port="http"),
    ),
    (
        cause(CauseClass.SERVICE_WRONG_PROTOCOL, SERVICE, port=53, suggested_protocol="UDP"),
        ChangeService(target=SERVICE, port=53, protocol="UDP"),
    ),
    (
        cause(
            CauseClass.SERVICE_WRONG_PROTOCOL, **_ADDRESS, field="scheme", value="http://db:1", observed="http",
            suggested="https", dependency_port=1,
        ),
        ChangeVariable(
            target=BARE, container="main", variable="DB", old="http://db", new="https://db", host="db", port=1
        ),
    ),
    (
        cause(
            CauseClass.WRONG_DEPENDENCY_ADDRESS, **{**_ADDRESS, "dependency": "dbb"}, field="host", value="dbb:5432",
            observed="dbb", suggested="db", dependency_port=5432,
        ),
        ChangeVariable(target=BARE, container="main", variable="DB", old="dbb", new="db", host="db", port=5432),
    ),
    (
        cause(
            CauseClass.WRONG_DEPENDENCY_ADDRESS, **_ADDRESS, field="port", value="pg://db:1/x", observed="1",
            suggested="5432", dependency_port=1,
        ),
        ChangeVariable(target=BARE, container="main", variable="DB", old="db:1", new="db:5432", host="db", port=5432),
    ),
    (
        cause(
            CauseClass.WRONG_DEPENDENCY_ADDRESS, **_ADDRESS, field="port", value="1", observed="1",
            suggested="5432", dependency_port=1,
        ),
        ChangeVariable(target=BARE, container="main", variable="DB", old="1", new="5432", host="db", port=5432),
    ),
    (cause(CauseClass.ZERO_REPLICAS, BARE, suggested_replicas=3), Scale(target=BARE, replicas=3)),
    (cause(CauseClass.ROLLOUT_STUCK, BARE, paused=True), ResumeRollout(target=BARE)),
    (
        cause(CauseClass.STATEFUL_SET_BLOCKED, BARE, pod="api-0", template_corrected=True),
        DeletePod(target=ObjectRef(kind="Pod", namespace="shop", name="api-0")),
    ),
    (cause(CauseClass.CRON_JOB_SUSPENDED, CRON), ResumeCronJob(target=CRON)),
    (cause(CauseClass.WRONG_CREDENTIALS, restart_because="The Secret was corrected since."), Restart(target=BARE)),
    (
        cause(CauseClass.CPU_THROTTLED, suggested_cpu_limit="500m", cpu_limit="100m"),
        ChangeResources(target=BARE, container="main", cpu_limit="500m"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("found", "action"), TABLE)
def test_facts_become_a_typed_action(found: Cause, action: object) -> None:
    first = remedies(diagnosis(found), {})[0]
    assert first.action == action
    assert first.title and "It." in first.reason


@pytest.mark.parametrize("kind", [item for item in CauseClass if item not in CODE_FAULTS])
def test_every_cause_has_a_question_and_a_reason_for_people(kind: CauseClass) -> None:
    (only,) = remedies(diagnosis(cause(kind)), {})
    question, why = ask(cause(kind))
    assert (only.title, only.action) == (question, None)
    assert question.endswith("?") and why.endswith(".") and why in only.reason
    assert "{" not in question + why


def test_every_class_is_answered() -> None:
    assert set(PEOPLE) | CODE_FAULTS == set(CauseClass)
    assert set(OFFERS) <= set(PEOPLE)


@pytest.mark.parametrize("value", ["", 7, None, True, ["x"], ["a=b"]])
@pytest.mark.parametrize("kind", sorted(OFFERS))
def test_facts_of_a_wrong_type_make_no_action_and_no_error(kind: CauseClass, value: Fact) -> None:
    facts = [
        name
        for found, _ in TABLE
        for name in found.facts
        if name not in ("paused", "suggested_replicas", "node", "template_corrected")
    ]
    found = remedies(diagnosis(cause(kind, **dict.fromkeys(facts, value))), {})
    if value in ("", None):
        assert [remedy.action for remedy in found] == [None]


@pytest.mark.parametrize(
    "found",
    [
        cause(CauseClass.MISSING_PULL_SECRET, suggested_secret="../../kube-system/secrets/x"),
        cause(CauseClass.MISSING_CONFIG_MAP, reference_kind="ConfigMap", reference_name="a", suggested_name="b\nc"),
        cause(CauseClass.WRONG_LIVENESS_PROBE, field="port", suggested=["x"]),
        cause(CauseClass.WRONG_LIVENESS_PROBE, field="timing", suggested_failure_threshold=0),
        cause(CauseClass.SERVICE_WRONG_TARGET_PORT, SERVICE, port=0, suggested_target_port=8080),
        cause(CauseClass.ZERO_REPLICAS, BARE, suggested_replicas=100_000),
        cause(CauseClass.UNTOLERATED_TAINT, taint_key="a", taint_effect="Whatever"),
    ],
)
def test_facts_that_make_no_valid_action_become_a_question(found: Cause) -> None:
    (only,) = remedies(diagnosis(found), {})
    assert only.action is None and only.title.endswith("?")


def _probe(kind: CauseClass, port: int, confidence: float = 0.9) -> Cause:
    return cause(kind, confidence=confidence, field="port", observed=1, suggested=port)


def test_causes_of_one_template_are_one_action_and_others_are_next_steps() -> None:
    found = diagnosis(
        _probe(CauseClass.WRONG_LIVENESS_PROBE, 8080),
        _probe(CauseClass.WRONG_READINESS_PROBE, 8080),
        cause(CauseClass.SERVICE_WRONG_TARGET_PORT, SERVICE, port=80, suggested_target_port=8080),
        _probe(CauseClass.WRONG_STARTUP_PROBE, 8080, confidence=0.6),
        cause(CauseClass.OOM_KILLED, confidence=0.2, suggested_memory_limit="1Gi"),
    )
    steps = course(found, {})
    first = steps.now[0].action
    assert isinstance(first, Combined)
    assert [part.probe.value for part in first.parts if isinstance(part, ChangeProbe)] == ["liveness", "readiness"]
    assert steps.now[1].action == first.parts[0]
    assert [type(remedy.action) for remedy in steps.later] == [ChangeService, ChangeProbe]


def test_the_same_change_for_two_causes_is_made_once() -> None:
    one = _probe(CauseClass.WRONG_LIVENESS_PROBE, 8080)
    steps = course(diagnosis(one, one.model_copy(update={"summary": "Again."})), {})
    assert [type(remedy.action) for remedy in steps.now] == [ChangeProbe]
    assert steps.later == []


def test_a_doubtful_first_cause_stops_everything() -> None:
    doubtful = _probe(CauseClass.WRONG_LIVENESS_PROBE, 8080, confidence=0.4)
    steps = course(diagnosis(doubtful, _probe(CauseClass.WRONG_READINESS_PROBE, 8080)), {})
    assert (steps.now, steps.later) == ([], [])


class Bench:
    """A fixer in front of a gate and the API stand-in."""

    def __init__(self, api: KubeApi, incidents: IncidentStore, gate: Gate) -> None:
        self.api, self.incidents = api, incidents
        self.fixer = K8sFixer(incidents, gate, None)

    async def offer(self, *causes: Cause) -> Offer:
        incident = await self.incidents.create(BARE, "down", requested_by="api:robot", via=Via.API)
        return await self.fixer.run(incident, diagnosis(*causes))


@pytest.fixture
async def bench(
    database: Database, incidents: IncidentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    async with KubeApi() as api:
        api.controller = Controllers(api)
        meta = {"name": "api-config", "namespace": "shop"}
        api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"level": "info"}})
        made = deployment("api", "shop")
        probe = {"httpGet": {"path": "/ready", "port": 8081, "scheme": "HTTP"}}
        made["spec"]["template"]["spec"]["containers"][1]["readinessProbe"] = probe
        api.put(made)
        kube = KubernetesSettings(kubeconfig=api.kubeconfig(tmp_path), request_timeout=60.0)
        async with await Cluster.connect(kube) as cluster:
            yield Bench(api, incidents, Gate(database, GateSettings(), cluster, None))


async def test_two_probes_are_one_plan_and_its_parts_are_no_alternatives(bench: Bench) -> None:
    offer = await bench.offer(
        _probe(CauseClass.WRONG_LIVENESS_PROBE, 8080), _probe(CauseClass.WRONG_READINESS_PROBE, 8080)
    )
    assert offer.plan is not None and isinstance(offer.plan.action, Combined)
    assert offer.plan.diff.count("port: 8080") == 2
    assert len(offer.plan.writes) == 1
    assert offer.proposals == []


async def test_when_the_whole_is_refused_the_first_part_is_offered(bench: Bench) -> None:
    """The second cause asks for what the gate refuses: the first is still repaired, and people read why."""
    offer = await bench.offer(
        _probe(CauseClass.WRONG_LIVENESS_PROBE, 8080), cause(CauseClass.OOM_KILLED, suggested_memory_limit="lots")
    )
    assert offer.plan is not None and isinstance(offer.plan.action, ChangeProbe)
    assert [("lots" in item.reason, item.title.startswith("Set")) for item in offer.proposals] == [(True, True)]


async def test_alternatives_are_told_with_risk_reach_and_undo(bench: Bench) -> None:
    def spoil(item: dict[str, Any]) -> None:
        item["spec"]["template"]["spec"]["containers"][1]["image"] = "example.test/app:3"

    bench.api.edit("Deployment", "shop", "api", spoil)
    facts: dict[str, Any] = {"previous_image": "example.test/app:2", "healthy_revision": 1}
    offer = await bench.offer(cause(CauseClass.BAD_IMAGE, **facts))
    assert offer.plan is not None and isinstance(offer.plan.action, RevertImage)
    (other,) = offer.proposals
    assert other.title.startswith("Instead: Roll Deployment shop/api back")
    assert "Risk medium" in other.reason and "it can be undone" in other.reason
    assert other.change == offer.plan.diff


async def test_a_cause_of_no_certain_container_is_a_step_of_its_own(bench: Bench) -> None:
    facts: dict[str, Any] = {"field": "port", "suggested": 8080, "suggested_memory_limit": "1Gi"}
    offer = await bench.offer(
        cause(CauseClass.OOM_KILLED, **facts), cause(CauseClass.WRONG_LIVENESS_PROBE, BARE, **facts)
    )
    assert offer.plan is not None and isinstance(offer.plan.action, ChangeResources)
    assert [item.title.split(":")[0] for item in offer.proposals] == ["Step 2"]


async def test_no_action_becomes_one_question(bench: Bench) -> None:
    offer = await bench.offer(cause(CauseClass.ZERO_REPLICAS, BARE))
    assert offer.plan is None
    assert [item.title for item in offer.proposals] == ["How many replicas should Deployment api have?"]
