"""What each action derives, refuses, and takes back: do and undo leave the spec as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actions.objects import normalise
from actions.patches import value_at
from errors import Refused
from incidents.models import ObjectRef
from incidents.plan import (
    Action,
    ApprovalState,
    ChangeResources,
    DeletePod,
    DeleteWrite,
    PatchWrite,
    ProbeKind,
    Restart,
    Risk,
    RollbackRevision,
    Scale,
)
from tests.actions.conftest import NAME, NAMESPACE, World, probe_change
from tests.standins.rollout import deployment

TARGET = ObjectRef(kind="Deployment", namespace=NAMESPACE, name=NAME)
_MAIN = "/spec/template/spec/containers/1"


def _live(world: World) -> dict[str, Any]:
    found = world.api.get("Deployment", NAMESPACE, NAME)
    assert found is not None
    return found


def _second_revision(world: World) -> None:
    """The Deployment as it is becomes revision 1; a worse one is revision 2."""

    def worse(item: dict[str, Any]) -> None:
        item["spec"]["template"]["spec"]["containers"][1]["image"] = "example.test/app:3"
        item["spec"]["template"]["spec"]["containers"][1]["env"][1]["value"] = "hunter3"

    world.api.edit("Deployment", NAMESPACE, NAME, worse)


def _actions() -> list[Any]:
    def change(**fields: Any) -> Action:
        return ChangeResources(target=TARGET, container="main", **fields)

    return [
        pytest.param(probe_change(8080, path="/ok", scheme="HTTPS"), id="probe"),
        pytest.param(probe_change(8081, initial_delay_seconds=20, period_seconds=5), id="probe-timing"),
        pytest.param(change(memory_limit="256Mi"), id="memory"),
        pytest.param(change(memory_limit="256Mi", cpu_request="100m", cpu_limit="1"), id="memory-and-cpu"),
        pytest.param(ChangeResources(target=TARGET, container="proxy", memory_limit="64Mi"), id="no-limits-before"),
        pytest.param(Restart(target=TARGET), id="restart"),
        pytest.param(Scale(target=TARGET, replicas=4), id="scale-up"),
        pytest.param(Scale(target=TARGET, replicas=0), id="scale-to-nothing"),
        pytest.param(RollbackRevision(target=TARGET, revision=1), id="rollback"),
    ]


@pytest.mark.parametrize("action", _actions())
async def test_undo_leaves_the_spec_as_it_was_and_done_again_it_verifies(world: World, action: Action) -> None:
    _second_revision(world)
    before = normalise(_live(world))
    approval = await world.approved(action)
    assert (await world.gate.execute(approval.id)).state is ApprovalState.VERIFYING
    assert normalise(_live(world)) != before
    ended = await world.gate.undo(approval.id)
    assert ended.state is ApprovalState.UNDONE, ended.outcome
    assert normalise(_live(world)) == before
    if isinstance(action, RollbackRevision):
        action = action.model_copy(update={"revision": 3})  # what the first rollback made of revision 1
    again = await world.approved(action)
    await world.gate.execute(again.id)
    verdict = await world.gate.verify(again.id)
    assert verdict.ok, verdict.summary
    to_nothing = isinstance(action, Scale) and action.replicas == 0
    assert ("is scaled to zero, and no pod of it is left" in verdict.summary) is to_nothing


async def test_a_rollback_takes_the_whole_earlier_template_and_nothing_else(world: World) -> None:
    earlier = _live(world)["spec"]["template"]
    _second_revision(world)
    world.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["spec"].update(replicas=3))
    plan = await world.plan(RollbackRevision(target=TARGET, revision=1))
    write = plan.writes[0]
    assert isinstance(write, PatchWrite)
    *tests, replacement = json.loads(write.body)
    assert {item["op"] for item in tests} == {"test"}
    assert replacement == {"op": "replace", "path": "/spec/template", "value": earlier}
    assert "app:3" in plan.diff and "app:2" in plan.diff
    assert "hunter" not in plan.diff
    assert "<masked, and changed>" in plan.diff
    assert plan.affected_pods == 3


async def test_deleting_a_pod_is_not_undone_and_its_replacement_is_watched(world: World) -> None:
    (name,) = [key[3] for key in world.api.objects if key[1] == "Pod" and key[3].startswith(NAME)][:1]
    pod = ObjectRef(kind="Pod", namespace=NAMESPACE, name=name)
    approval = await world.approved(DeletePod(target=pod), incident=await world.incident())
    assert not approval.plan.reversible
    write = approval.plan.writes[0]
    assert isinstance(write, DeleteWrite)
    assert (await world.gate.execute(approval.id)).state is ApprovalState.VERIFYING
    assert json.loads(world.writes[0].body)["preconditions"] == {"uid": write.uid}
    assert world.api.get("Pod", NAMESPACE, name) is None
    verdict = await world.gate.verify(approval.id)
    assert verdict.ok, verdict.summary
    assert (await world.gate.execute(approval.id)).state is ApprovalState.DONE


async def test_a_pod_that_was_made_again_is_not_deleted(world: World) -> None:
    (name,) = [key[3] for key in world.api.objects if key[1] == "Pod" and key[3].startswith(NAME)][:1]
    pod = ObjectRef(kind="Pod", namespace=NAMESPACE, name=name)
    approval = await world.approved(DeletePod(target=pod), incident=await world.incident())
    world.api.before("DELETE", lambda: _void(world.api.recreate("Pod", NAMESPACE, name)), dry_run=False)
    ended = await world.gate.execute(approval.id)
    assert ended.state is ApprovalState.STALE
    assert world.writes == []


def _void(_: object) -> None:
    return None


async def test_a_lost_answer_to_a_deletion_is_recognised(world: World) -> None:
    (name,) = [key[3] for key in world.api.objects if key[1] == "Pod" and key[3].startswith(NAME)][:1]
    pod = ObjectRef(kind="Pod", namespace=NAMESPACE, name=name)
    approval = await world.approved(DeletePod(target=pod), incident=await world.incident())
    world.api.lose_answers = 1
    assert (await world.gate.execute(approval.id)).state is ApprovalState.VERIFYING
    assert len(world.api.attempts) == 1


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (probe_change(8081), "already"),
        (probe_change(70000), "no port"),
        (probe_change("nosuch"), "no port named"),
        (probe_change(8080, path="no slash"), "no HTTP path"),
        (probe_change(8080, path="/a b"), "no HTTP path"),
        (probe_change(8080, container="nosuch"), "no container"),
        (probe_change(8080, probe=ProbeKind.STARTUP), "no startup probe"),
        (ChangeResources(target=TARGET, container="main", memory_limit="64Mi"), "already"),
        (ChangeResources(target=TARGET, container="main", memory_limit="65536Ki"), "already"),
        (ChangeResources(target=TARGET, container="main", memory_limit="16Mi"), "exceed the limit"),
        (ChangeResources(target=TARGET, container="main", memory_limit="lots"), "no quantity"),
        (ChangeResources(target=TARGET, container="main", memory_limit="0"), "more than nothing"),
        (Scale(target=TARGET, replicas=2), "already"),
        (RollbackRevision(target=TARGET, revision=7), "no revision 7"),
        (RollbackRevision(target=TARGET, revision=1), "already"),
    ],
)
async def test_what_makes_no_sense_is_refused(world: World, action: Action, why: str) -> None:
    with pytest.raises(Refused, match=why):
        await world.plan(action)
    assert world.api.attempts == []


async def test_scaling_to_nothing_is_a_high_risk_and_explicit(world: World) -> None:
    plan = await world.plan(Scale(target=TARGET, replicas=0))
    assert plan.risk is Risk.HIGH
    assert plan.affected_pods == 2


async def test_replicas_that_an_autoscaler_sets_are_left_alone(world: World) -> None:
    reference = {"kind": "Deployment", "name": NAME, "apiVersion": "apps/v1"}
    world.api.put(
        {
            "apiVersion": "autoscaling/v1",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "auto", "namespace": NAMESPACE},
            "spec": {"scaleTargetRef": reference, "maxReplicas": 9},
        }
    )
    with pytest.raises(Refused, match="auto"):
        await world.plan(Scale(target=TARGET, replicas=4))


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [("paused", True, "paused"), ("strategy", {"type": "OnDelete"}, "OnDelete")],
)
async def test_a_change_that_would_not_reach_the_pods_is_refused(
    world: World, field: str, value: Any, why: str
) -> None:
    world.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["spec"].update({field: value}))
    with pytest.raises(Refused, match=why):
        await world.plan()


async def test_a_rollback_to_a_template_whose_config_is_gone_is_refused(world: World) -> None:
    def other_config(item: dict[str, Any]) -> None:
        source = item["spec"]["template"]["spec"]["containers"][1]["env"][2]["valueFrom"]
        source["configMapKeyRef"]["name"] = "neighbour-config"

    world.api.edit("Deployment", NAMESPACE, NAME, other_config)
    world.api.remove("ConfigMap", NAMESPACE, f"{NAME}-config")
    with pytest.raises(Refused, match=f"ConfigMap {NAME}-config is not there"):
        await world.plan(RollbackRevision(target=TARGET, revision=1))


async def test_a_server_that_changes_more_than_the_action_is_refused(world: World) -> None:
    world.api.mutate = lambda item: item["spec"]["template"]["spec"].update(hostNetwork=True)
    with pytest.raises(Refused, match="hostNetwork"):
        await world.plan()


async def test_secrets_that_cannot_be_read_cannot_be_bound(world: World) -> None:
    world.api.forbidden_kinds.add("ConfigMap")
    with pytest.raises(Refused, match="cannot be read"):
        await world.plan()


async def test_a_pod_without_a_controller_is_not_deleted(world: World) -> None:
    (key,) = [key for key in world.api.objects if key[1] == "Pod" and key[3].startswith(NAME)][:1]
    world.api.edit("Pod", NAMESPACE, key[3], lambda item: item["metadata"].pop("ownerReferences"))
    with pytest.raises(Refused, match="no controller"):
        await world.plan(DeletePod(target=ObjectRef(kind="Pod", namespace=NAMESPACE, name=key[3])))


async def test_values_with_slashes_are_addressed_rightly() -> None:
    from actions.patches import pointer

    assert pointer("a", "b/c~d", 0) == "/a/b~1c~0d/0"
    assert value_at({"a": {"b/c~d": [7]}}, "/a/b~1c~0d/0") == 7


def _stateful(world: World, *, ready: bool, policy: str | None = None) -> ObjectRef:
    made = deployment("db-k3", NAMESPACE, replicas=1) | {"kind": "StatefulSet"}
    made["spec"]["template"]["spec"]["containers"][1]["env"] = []
    made["spec"] |= {"podManagementPolicy": policy} if policy else {}
    stored = world.api.put(made)
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db-k3", "uid": stored["metadata"]["uid"]}
    meta = {"name": "db-k3-0", "namespace": NAMESPACE, "labels": {"app": "db-k3"}}
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    world.api.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta | {"ownerReferences": [owner | {"controller": True}]},
            "spec": stored["spec"]["template"]["spec"],
            "status": {"phase": "Running", "conditions": [condition]},
        }
    )
    return ObjectRef(kind="StatefulSet", namespace=NAMESPACE, name="db-k3")


@pytest.mark.parametrize(
    ("ready", "management", "deletions"), [(False, None, 1), (True, None, 0), (False, "Parallel", 0)]
)
async def test_a_pod_that_would_hold_up_a_stateful_set_is_deleted_after_the_patch(
    world: World, ready: bool, management: str | None, deletions: int
) -> None:
    target = _stateful(world, ready=ready, policy=management)
    world.controllers.asleep = True
    approval = await world.approved(probe_change(8080, target=target))
    assert [write.type for write in approval.plan.writes] == ["patch", *["delete"] * deletions]
    assert approval.plan.diff.count("makes a new one") == deletions
    assert approval.plan.quorum == 1
    assert (await world.gate.execute(approval.id)).state is ApprovalState.VERIFYING
    assert [write.method for write in world.writes] == ["PATCH", *["DELETE"] * deletions]
    assert approval.plan.reversible


async def test_a_second_write_that_somebody_else_made_already_is_no_failure(world: World) -> None:
    target = _stateful(world, ready=False)
    world.controllers.asleep = True
    approval = await world.approved(probe_change(8080, target=target))
    world.api.before("DELETE", lambda: world.api.remove("Pod", NAMESPACE, "db-k3-0"), dry_run=False)
    ended = await world.gate.execute(approval.id)
    assert ended.state is ApprovalState.VERIFYING, ended.outcome
    assert [write.method for write in world.writes] == ["PATCH"]


async def test_a_second_write_that_is_refused_is_told_to_a_person(world: World) -> None:
    target = _stateful(world, ready=False)
    world.controllers.asleep = True
    approval = await world.approved(probe_change(8080, target=target))
    world.api.after("PATCH", lambda: world.api.forbidden_kinds.add("Pod"), dry_run=False)
    world.api.after("DELETE", world.api.forbidden_kinds.clear, dry_run=False)
    ended = await world.gate.execute(approval.id)
    assert ended.state is ApprovalState.FAILED
    assert "write 2 of 2 was not made" in (ended.outcome or "")
