"""From a plan to a verified change: the way where nothing goes wrong, and the one where it did not help."""

from __future__ import annotations

import hashlib
import json

from actions.objects import normalise
from incidents.plan import ApprovalState, PatchWrite
from tests.actions.conftest import NAME, NAMESPACE, World, probe_change


async def test_an_approved_probe_change_is_executed_and_verified(world: World) -> None:
    approval = await world.requested()
    assert approval.state is ApprovalState.PENDING
    assert "port: 8081" in approval.plan.diff and "port: 8080" in approval.plan.diff
    assert "hunter2" not in approval.plan.diff
    assert world.writes == []

    assert (await world.vote(approval)).state is ApprovalState.APPROVED
    assert (await world.gate.execute(approval.id)).state is ApprovalState.VERIFYING
    verdict = await world.gate.verify(approval.id)

    assert verdict.ok, verdict.summary
    assert (await world.approvals.get(approval.id)).state is ApprovalState.DONE
    live = world.api.get("Deployment", NAMESPACE, NAME)
    assert live is not None
    probe = live["spec"]["template"]["spec"]["containers"][1]["livenessProbe"]
    assert probe["httpGet"] == {"path": "/healthz", "port": 8080, "scheme": "HTTP"}
    assert world.steps == ["claimed", "undo_recorded", "applying:0", "applied:0", "verified"]
    assert await world.audit.verify_chain() >= 7


async def test_the_bytes_that_were_approved_are_the_bytes_that_are_sent(world: World) -> None:
    approval = await world.approved()
    await world.gate.execute(approval.id)

    write = approval.plan.writes[0]
    assert isinstance(write, PatchWrite)
    (sent,) = world.writes
    assert sent.body == write.body.encode()
    assert sent.query == {"fieldManager": "paramedic", "fieldValidation": "Strict"}
    operations = json.loads(sent.body)
    assert [item["path"] for item in operations[:2]] == ["/metadata/uid", "/metadata/generation"]
    assert {item["op"] for item in operations[:2]} == {"test"}
    assert hashlib.sha256(approval.plan.canonical()).hexdigest() == approval.digest


async def test_a_change_that_does_not_help_is_undone_and_proved_equal(world: World) -> None:
    before = normalise(world.api.get("Deployment", NAMESPACE, NAME) or {})
    approval = await world.approved()
    await world.gate.execute(approval.id)
    world.controllers.healthy, world.controllers.restarts = False, 3
    world.controllers.roll(world.api.get("Deployment", NAMESPACE, NAME) or {})

    verdict = await world.gate.verify(approval.id)
    assert not verdict.ok
    assert "crash again" in verdict.summary
    ended = await world.gate.undo(approval.id)

    assert ended.state is ApprovalState.UNDONE, ended.outcome
    assert normalise(world.api.get("Deployment", NAMESPACE, NAME) or {}) == before
    assert len(world.writes) == 2
    assert (await world.gate.undo(approval.id)).state is ApprovalState.UNDONE
    assert len(world.writes) == 2


async def test_a_status_update_does_not_make_an_approval_stale(world: World) -> None:
    approval = await world.approved()
    world.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["status"].update(readyReplicas=1))
    world.api.edit(
        "Deployment",
        NAMESPACE,
        NAME,
        lambda item: item["metadata"]["annotations"].update({"deployment.kubernetes.io/revision": "9"}),
    )
    assert (await world.gate.execute(approval.id)).state is ApprovalState.VERIFYING


async def test_the_same_plan_is_asked_for_once(world: World) -> None:
    plan = await world.plan(probe_change())
    first, second = await world.gate.request(plan), await world.gate.request(plan)
    assert first == second
    assert len(await world.approvals.list()) == 1
