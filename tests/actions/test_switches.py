"""Services, paused rollouts, suspended CronJobs, nodes, restarts: what has no generation is bound all the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actions.objects import normalise
from actions.ownership import Managed
from errors import Refused
from incidents.actions import (
    Action,
    ChangeService,
    CordonNode,
    DeletePod,
    Restart,
    ResumeCronJob,
    ResumeRollout,
    Scale,
)
from incidents.models import CauseClass, ObjectRef
from incidents.plan import ApprovalState, EvidenceNeed, PatchWrite
from tests.actions.conftest import NAME, NAMESPACE, World, diagnosis

TARGET = ObjectRef(kind="Deployment", namespace=NAMESPACE, name=NAME)
SERVICE = ObjectRef(kind="Service", namespace=NAMESPACE, name="cart-svc")
CRON = ObjectRef(kind="CronJob", namespace=NAMESPACE, name="nightly")
NODE = ObjectRef(kind="Node", name="n1")


def _live(world: World, target: ObjectRef) -> dict[str, Any]:
    found = world.api.get(target.kind, target.namespace or "", target.name)
    assert found is not None
    return found


@pytest.fixture
def stopped(world: World) -> World:
    """A Service that leads nowhere, a paused rollout, a suspended CronJob, a cordoned node and a good one."""

    def declare(item: dict[str, Any]) -> None:
        item["spec"]["template"]["spec"]["containers"][1]["ports"] = [
            {"containerPort": 8080, "name": "web", "protocol": "TCP"},
            {"containerPort": 53, "protocol": "UDP"},
        ]

    world.api.edit("Deployment", NAMESPACE, NAME, declare)
    world.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["spec"].update(paused=True))
    ports = [{"name": "http", "port": 80, "targetPort": 9999, "protocol": "TCP"}]
    spec = {"type": "ClusterIP", "selector": {"app": "crat"}, "ports": ports}
    meta = {"name": SERVICE.name, "namespace": NAMESPACE}
    world.api.put({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
    world.api.put(
        {
            "apiVersion": "batch/v1beta1",
            "kind": "CronJob",
            "metadata": {"name": CRON.name, "namespace": NAMESPACE},
            "spec": {"schedule": "0 3 * * *", "suspend": True, "jobTemplate": {}},
        }
    )
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    for name, node in (("n1", {"unschedulable": True}), ("n2", {})):
        world.api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": node, "status": ready})
    world.new_gate(nodes=True)
    return world


def _service(**fields: Any) -> ChangeService:
    return ChangeService(target=SERVICE, **({"selector": {"app": NAME}, "target_port": 8080} | fields))


GOOD = [
    pytest.param(_service(), id="selector-and-port"),
    pytest.param(_service(port=80, protocol="TCP"), id="that-port"),
    pytest.param(_service(target_port=53, protocol="UDP"), id="protocol"),
    pytest.param(ResumeRollout(target=TARGET), id="rollout"),
    pytest.param(ResumeCronJob(target=CRON), id="cron-job"),
    pytest.param(CordonNode(target=NODE, unschedulable=False), id="uncordon"),
    pytest.param(CordonNode(target=NODE.model_copy(update={"name": "n2"}), unschedulable=True), id="cordon"),
]


def _others(world: World, action: Action) -> None:
    """Cordoning n2 needs n1 to take pods."""
    if isinstance(action, CordonNode) and action.unschedulable:
        world.api.edit("Node", "", "n1", lambda item: item["spec"].pop("unschedulable"))


@pytest.mark.parametrize("action", GOOD)
async def test_undo_leaves_the_spec_as_it_was_and_done_again_it_verifies(stopped: World, action: Action) -> None:
    _others(stopped, action)
    before = normalise(_live(stopped, action.target))
    approval = await stopped.approved(action)
    assert (await stopped.gate.execute(approval.id)).state is ApprovalState.VERIFYING
    assert normalise(_live(stopped, action.target)) != before
    ended = await stopped.gate.undo(approval.id)
    assert ended.state is ApprovalState.UNDONE, ended.outcome
    assert normalise(_live(stopped, action.target)) == before
    assert len(stopped.writes) == 2
    again = await stopped.approved(action)
    await stopped.gate.execute(again.id)
    verdict = await stopped.gate.verify(again.id)
    assert verdict.ok, verdict.summary
    assert len(stopped.writes) == 3


@pytest.mark.parametrize("action", [_service(), ResumeRollout(target=TARGET), ResumeCronJob(target=CRON)])
async def test_a_target_that_was_made_again_is_left_alone(stopped: World, action: Action) -> None:
    _others(stopped, action)
    approval = await stopped.approved(action)
    stopped.api.recreate(action.target.kind, action.target.namespace or "", action.target.name)
    assert (await stopped.gate.execute(approval.id)).state is ApprovalState.STALE
    assert stopped.writes == []


@pytest.mark.parametrize("when", ["before", "at"])
async def test_an_edit_of_an_object_without_generation_stops_the_write(stopped: World, when: str) -> None:
    """At the write itself it is the API server that refuses: the patch tests the whole spec."""
    approval = await stopped.approved(_service())

    def edit() -> None:
        stopped.api.edit("Service", NAMESPACE, SERVICE.name, lambda item: item["spec"].update(type="NodePort"))

    if when == "before":
        edit()
    else:
        stopped.api.before("PATCH", edit, dry_run=False)
    ended = await stopped.gate.execute(approval.id)
    assert ended.state is ApprovalState.STALE, ended.outcome
    assert stopped.writes == []
    assert _live(stopped, SERVICE)["spec"]["selector"] == {"app": "crat"}


async def test_a_patch_without_generation_tests_uid_and_spec(stopped: World) -> None:
    plan = await stopped.plan(_service())
    write = plan.writes[0]
    assert isinstance(write, PatchWrite)
    tests = [item["path"] for item in json.loads(write.body) if item["op"] == "test"]
    assert tests[:2] == ["/metadata/uid", "/spec"]
    assert write.generation == 0


async def test_a_lost_answer_is_recognised_by_the_spec(stopped: World) -> None:
    approval = await stopped.approved(_service())
    stopped.api.lose_answers = 1
    assert (await stopped.gate.execute(approval.id)).state is ApprovalState.VERIFYING
    assert len(stopped.api.attempts) == 1


async def test_an_edit_after_the_write_is_not_undone(stopped: World) -> None:
    approval = await stopped.approved(_service())
    await stopped.gate.execute(approval.id)
    stopped.api.edit("Service", NAMESPACE, SERVICE.name, lambda item: item["spec"]["selector"].update(app="neighbour"))
    verdict = await stopped.gate.verify(approval.id)
    assert not verdict.ok and "edited by somebody else" in verdict.summary
    ended = await stopped.gate.undo(approval.id)
    assert ended.state is ApprovalState.FAILED
    assert _live(stopped, SERVICE)["spec"]["selector"] == {"app": "neighbour"}


async def test_a_service_without_a_ready_endpoint_afterwards_is_not_good(stopped: World) -> None:
    approval = await stopped.approved(_service())
    stopped.controllers.asleep = True
    await stopped.gate.execute(approval.id)
    verdict = await stopped.gate.verify(approval.id)
    assert not verdict.ok
    assert "no ready endpoint" in verdict.summary


async def test_a_cordon_survives_the_taint_that_its_controller_adds(stopped: World) -> None:
    action = CordonNode(target=ObjectRef(kind="Node", name="n2"), unschedulable=True)
    _others(stopped, action)
    approval = await stopped.approved(action)
    await stopped.gate.execute(approval.id)
    taint = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    stopped.api.edit("Node", "", "n2", lambda item: item["spec"].update(taints=[taint]))
    assert (await stopped.gate.verify(approval.id)).ok


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (_service(selector={"app": "nosuch"}), "no ready pod carries the labels app=nosuch"),
        (_service(selector={}), "no selector"),
        (_service(target_port=1234), "not every ready pod"),
        (_service(target_port=8080, protocol="UDP"), "not every ready pod"),
        (_service(port=81), "has 0 port"),
        (_service(selector={"app": NAME}, target_port="nosuch"), "not every ready pod"),
        (ResumeRollout(target=TARGET.model_copy(update={"name": "neighbour"})), "not paused"),
        (CordonNode(target=NODE, unschedulable=True), "cordoned already"),
        (CordonNode(target=NODE.model_copy(update={"name": "n2"}), unschedulable=False), "not cordoned"),
        (CordonNode(target=NODE.model_copy(update={"name": "n2"}), unschedulable=True), "the last node"),
    ],
)
async def test_what_makes_no_sense_is_refused(stopped: World, action: Action, why: str) -> None:
    with pytest.raises(Refused, match=why):
        await stopped.plan(action)
    assert stopped.api.attempts == []


async def test_a_node_that_is_not_well_stays_cordoned(stopped: World) -> None:
    conditions = [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]
    stopped.api.edit("Node", "", "n1", lambda item: item["status"].update(conditions=conditions))
    with pytest.raises(Refused, match="DiskPressure"):
        await stopped.plan(CordonNode(target=NODE, unschedulable=False))


async def test_a_node_counts_as_observed_when_a_rule_named_it(stopped: World) -> None:
    action = CordonNode(target=NODE, unschedulable=False)
    options: dict[str, Any] = {"evidence_need": EvidenceNeed.NONE, "evidence_sha256": None}
    incident = await stopped.incident()
    named = diagnosis(TARGET, CauseClass.NODE_CORDONED, node="n1")
    assert (await stopped.gate.plan(incident, action, named, **options)).writes
    for found in (
        diagnosis(TARGET, CauseClass.NODE_CORDONED),
        diagnosis(TARGET, CauseClass.NODE_CORDONED, source="model", node="n1"),
    ):
        with pytest.raises(Refused, match="not observed"):
            await stopped.gate.plan(incident, action, found, **options)


async def test_nodes_are_left_alone_unless_the_policy_names_them(stopped: World) -> None:
    approval = await stopped.approved(CordonNode(target=NODE, unschedulable=False))
    stopped.new_gate(nodes=False)
    with pytest.raises(Refused, match=r"gate\.nodes is false"):
        await stopped.plan(CordonNode(target=NODE, unschedulable=False))
    assert (await stopped.gate.execute(approval.id)).state is ApprovalState.STALE
    assert stopped.writes == []


@pytest.mark.parametrize("action", [_service(), ResumeCronJob(target=CRON)])
async def test_what_a_helm_release_or_gitops_owns_gets_a_proposal(stopped: World, action: Action) -> None:
    for marks in (
        {"annotations": {"meta.helm.sh/release-name": "shop"}},
        {"labels": {"kustomize.toolkit.fluxcd.io/name": "shop"}},
    ):
        target = action.target
        stopped.api.edit(target.kind, NAMESPACE, target.name, lambda item, marks=marks: item["metadata"].update(marks))  # type: ignore[misc]
        with pytest.raises(Managed):
            await stopped.plan(action)
    assert stopped.api.attempts == []


def _autoscaler(low: int, high: int) -> dict[str, Any]:
    reference = {"kind": "Deployment", "name": NAME, "apiVersion": "apps/v1"}
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "auto", "namespace": NAMESPACE},
        "spec": {"scaleTargetRef": reference, "minReplicas": low, "maxReplicas": high},
    }


async def test_an_autoscaler_is_given_back_what_it_scales_within_its_bounds(world: World) -> None:
    world.api.put(_autoscaler(2, 4))
    world.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["spec"].update(replicas=0))
    approval = await world.approved(Scale(target=TARGET, replicas=2))
    await world.gate.execute(approval.id)
    assert (await world.gate.verify(approval.id)).ok
    world.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["spec"].update(replicas=0))
    for replicas in (1, 5):
        with pytest.raises(Refused, match="auto sets the replicas"):
            await world.plan(Scale(target=TARGET, replicas=replicas))


def _claim(world: World, mode: str) -> None:
    spec = {"accessModes": [mode]}
    meta = {"name": "data", "namespace": NAMESPACE}
    world.api.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec})
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]
    world.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["spec"]["template"]["spec"].update(volumes=volumes))


@pytest.mark.parametrize(
    ("mode", "strategy", "refused"),
    [
        ("ReadWriteOnce", {"type": "RollingUpdate"}, True),
        ("ReadWriteOnce", {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}}, True),
        ("ReadWriteOnce", {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "50%"}}, False),
        ("ReadWriteOnce", {"type": "Recreate"}, False),
        ("ReadWriteMany", {"type": "RollingUpdate"}, False),
    ],
)
async def test_a_restart_that_could_wait_for_its_own_volume_is_refused(
    world: World, mode: str, strategy: dict[str, Any], refused: bool
) -> None:
    _claim(world, mode)
    world.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["spec"].update(strategy=strategy))
    if refused:
        with pytest.raises(Refused, match="claim data can be on one node only"):
            await world.plan(Restart(target=TARGET))
    else:
        assert (await world.plan(Restart(target=TARGET))).writes


@pytest.mark.parametrize("kind", ["restart", "delete"])
async def test_a_restart_does_not_throw_away_the_volume_that_may_hold_the_core(world: World, kind: str) -> None:
    volumes = [{"name": "cores", "emptyDir": {}}]
    world.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["spec"]["template"]["spec"].update(volumes=volumes))
    pod = next(key[3] for key in world.api.objects if key[1] == "Pod" and key[3].startswith(NAME))
    action: Action = Restart(target=TARGET)
    if kind == "delete":
        action = DeletePod(target=ObjectRef(kind="Pod", namespace=NAMESPACE, name=pod))
    options: dict[str, Any] = {"cause": CauseClass.NATIVE_CRASH, "need": EvidenceNeed.CORE}
    incident = await world.incident()
    with pytest.raises(Refused, match="cores"):
        await world.plan(action, incident=incident, **options)
    assert (await world.plan(action, incident=incident, evidence="ab" * 32, **options)).writes
