"""What counts as fixed, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from errors import ToolFailed
from incidents.models import CauseClass
from incidents.plan import Approval, ApprovalState
from tests.actions.conftest import NAME, NAMESPACE, World


async def _executed(world: World, cause: CauseClass = CauseClass.WRONG_LIVENESS_PROBE) -> Approval:
    approval = await world.approved(cause=cause)
    return await world.gate.execute(approval.id)


def _roll(world: World, name: str = NAME) -> None:
    found = world.api.get("Deployment", NAMESPACE, name)
    assert found is not None
    world.controllers.roll(found)


async def test_one_more_crash_by_a_signal_is_enough_for_a_native_crash(world: World) -> None:
    approval = await _executed(world, CauseClass.NATIVE_CRASH)
    world.controllers.healthy, world.controllers.restarts, world.controllers.exit_code = False, 1, 139
    _roll(world)
    verdict = await world.gate.verify(approval.id)
    assert not verdict.ok
    assert "signal again" in verdict.summary
    assert verdict.checks["core_signals"] == 2


async def test_restarts_of_a_container_that_is_not_watched_do_not_count(world: World) -> None:
    approval = await _executed(world)
    assert approval.plan.containers == ["main"]
    for key in [key for key in world.api.objects if key[1] == "Pod" and key[3].startswith(NAME)]:
        world.api.edit(
            "Pod", NAMESPACE, key[3], lambda item: item["status"]["containerStatuses"][0].update(restartCount=5)
        )
    assert (await world.gate.verify(approval.id)).ok


async def test_a_rollout_that_never_ends_is_not_good(world: World) -> None:
    world.new_gate(verify_seconds=0.3)
    approval = await world.approved()
    world.controllers.asleep = True
    await world.gate.execute(approval.id)
    verdict = await world.gate.verify(approval.id)
    assert not verdict.ok
    assert "not seen the change" in verdict.summary


async def test_a_missed_progress_deadline_ends_it_early(world: World) -> None:
    approval = await _executed(world)
    world.controllers.healthy = False
    _roll(world)
    missed = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    world.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["status"].update(conditions=[missed]))
    verdict = await world.gate.verify(approval.id)
    assert "within its deadline" in verdict.summary


async def test_a_neighbour_that_gets_worse_is_not_good(world: World) -> None:
    world.new_gate(verify_seconds=0.3)
    approval = await _executed(world)
    world.controllers.healthy = False
    _roll(world, "neighbour")
    world.controllers.healthy = True
    verdict = await world.gate.verify(approval.id)
    assert not verdict.ok
    assert "neighbour got worse" in verdict.summary


async def test_a_neighbour_that_was_bad_before_does_not_matter(world: World) -> None:
    world.controllers.healthy = False
    _roll(world, "neighbour")
    world.controllers.healthy = True
    approval = await _executed(world)
    assert (await world.gate.verify(approval.id)).ok


async def test_the_first_verdict_stands(world: World) -> None:
    approval = await _executed(world)
    first = await world.gate.verify(approval.id)
    world.controllers.healthy = False
    _roll(world)
    assert await world.gate.verify(approval.id) == first


async def test_a_cluster_that_cannot_be_watched_gives_no_verdict(world: World) -> None:
    world.new_gate(verify_seconds=0.1)
    approval = await _executed(world)
    world.api.down = True
    with pytest.raises(ToolFailed):
        await world.gate.verify(approval.id)
    world.api.down = False
    assert (await world.approvals.get(approval.id)).state is ApprovalState.VERIFYING
    world.new_gate()
    assert (await world.gate.verify(approval.id)).ok


async def test_the_undo_of_something_that_grew_defaults_is_not_called_equal(world: World) -> None:
    """A webhook that leaves its mark on our undo makes the proof fail, and a person is told."""
    approval = await _executed(world)

    def mark(item: dict[str, Any]) -> None:
        item["spec"]["template"]["spec"]["hostNetwork"] = True

    world.api.mutate = mark
    ended = await world.gate.undo(approval.id)
    assert ended.state is ApprovalState.FAILED
    assert "not undone" in (ended.outcome or "")


async def test_a_webhook_that_changes_more_at_the_write_than_at_the_dry_run_is_noticed(world: World) -> None:
    approval = await world.approved()

    def meddle() -> None:
        world.api.mutate = lambda item: item["spec"]["template"]["spec"].update(hostNetwork=True)

    world.api.before("PATCH", meddle, dry_run=False)
    ended = await world.gate.execute(approval.id)
    assert ended.state is ApprovalState.FAILED
    assert "something else" in (ended.outcome or "")
