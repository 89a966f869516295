"""Everything that may go wrong, or be tried, between a plan and its execution ends with zero writes."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import OperationalError

from actions.gate import Gate
from errors import Conflict, Forbidden, NotFound, ParamedicError, Refused, ToolFailed
from incidents.database import Database
from incidents.plan import Approval, ApprovalState, EvidenceNeed
from incidents.tables import ApprovalRow, VoteRow
from tests.actions.conftest import NAME, NAMESPACE, World, probe_change


async def _refused(world: World, approval: Approval, why: str) -> None:
    """Execution ends as stale for this reason, and nothing was sent in earnest."""
    ended = await world.gate.execute(approval.id)
    assert ended.state is ApprovalState.STALE, ended
    assert why in (ended.outcome or ""), ended.outcome
    assert world.api.attempts == []
    assert (await world.gate.execute(approval.id)).state is ApprovalState.STALE
    assert world.api.attempts == []
    await world.audit.verify_chain()


# votes


async def test_a_hundred_presses_and_a_hundred_executions_make_one_write(world: World) -> None:
    approval = await world.requested()
    votes = await asyncio.gather(*(world.vote(approval) for _ in range(100)))
    assert {item.state for item in votes} == {ApprovalState.APPROVED}
    ended = await asyncio.gather(*(world.gate.execute(approval.id) for _ in range(100)))
    assert {item.state for item in ended} == {ApprovalState.VERIFYING}
    assert len(world.api.attempts) == 1


async def test_two_processes_execute_one_approval_once(world: World) -> None:
    approval = await world.approved()
    gates = [world.new_gate(), world.new_gate()]
    await asyncio.gather(*(gate.execute(approval.id) for gate in gates))
    assert len(world.api.attempts) == 1


async def test_a_replayed_vote_after_the_end_changes_nothing(world: World) -> None:
    approval = await world.approved()
    await world.gate.execute(approval.id)
    await world.gate.verify(approval.id)
    assert (await world.vote(approval)).state is ApprovalState.DONE  # the same press again
    with pytest.raises(Conflict, match="done"):
        await world.vote(approval, "api:bob")
    assert (await world.gate.execute(approval.id)).state is ApprovalState.DONE
    assert len(world.api.attempts) == 1


async def test_approving_after_the_expiry_is_refused(world: World) -> None:
    approval = await world.requested()
    world.clock.move(seconds=901)
    with pytest.raises(Conflict, match="expired"):
        await world.vote(approval)
    assert (await world.approvals.get(approval.id)).state is ApprovalState.EXPIRED
    with pytest.raises(Conflict):
        await world.vote(approval)
    assert (await world.gate.execute(approval.id)).state is ApprovalState.EXPIRED
    assert world.api.attempts == []


async def test_an_approval_that_is_begun_too_late_is_void(world: World) -> None:
    approval = await world.approved()
    world.clock.move(minutes=10)
    world.clock.move(minutes=10)
    await _refused(world, approval, "used up, or its time is over")


@pytest.mark.parametrize("minutes", [10, -10])
async def test_a_clock_that_jumps_gives_nobody_more_time(world: World, minutes: int) -> None:
    approval = await world.requested()
    world.clock.move(minutes=minutes)
    if minutes < 0:
        with pytest.raises(Refused, match="clock went back"):
            await world.vote(approval)
        assert world.api.attempts == []
        return
    await world.vote(approval)
    world.clock.move(minutes=minutes)  # 20 minutes after the request
    await _refused(world, approval, "its time is over")


async def test_a_clock_that_goes_back_after_the_vote_stops_the_execution(world: World) -> None:
    approval = await world.approved()
    world.clock.move(minutes=-10)
    await _refused(world, approval, "clock went back")


@pytest.mark.parametrize("identity", ["api:eve", "", "local", "api:ann ", "API:ANN"])
async def test_who_is_not_an_approver_decides_nothing(world: World, identity: str) -> None:
    approval = await world.requested()
    for verdict in ("approve", "reject"):
        with pytest.raises(Forbidden):
            await world.vote(approval, identity, verdict=verdict)
    assert (await world.approvals.get(approval.id)).state is ApprovalState.PENDING
    with pytest.raises(Conflict, match="not decided"):
        await world.gate.execute(approval.id)
    assert world.api.attempts == []
    refused = [entry for entry in await world.audited() if entry.action == "vote.refused"]
    assert len(refused) == 2
    assert refused[0].actor == identity


async def test_the_requester_cannot_approve(world: World) -> None:
    approval = await world.requested(incident=await world.incident(requested_by="api:ann"))
    with pytest.raises(Forbidden, match="cannot approve"):
        await world.vote(approval, "api:ann")
    assert (await world.vote(approval, "api:ann", verdict="reject")).state is ApprovalState.REJECTED
    assert world.api.attempts == []


async def test_a_policy_may_allow_it_and_the_audit_says_so(world: World) -> None:
    world.new_gate(allow_self_approval=True)
    approval = await world.requested(incident=await world.incident(requested_by="api:ann"))
    assert (await world.vote(approval, "api:ann")).state is ApprovalState.APPROVED
    (counted,) = [entry for entry in await world.audited() if entry.action == "vote.counted"]
    assert counted.data["self_approval"] is True


async def test_a_vote_for_another_digest_is_refused(world: World) -> None:
    approval = await world.requested()
    with pytest.raises(Refused, match="another plan"):
        await world.vote(approval, digest="0" * 64)
    assert (await world.approvals.get(approval.id)).votes == []


async def test_an_unknown_approval_starts_nothing(world: World) -> None:
    approval = await world.requested()
    unknown = approval.model_copy(update={"id": "apr_" + "0" * 32})
    with pytest.raises(NotFound):
        await world.vote(unknown)
    with pytest.raises(NotFound):
        await world.gate.execute(unknown.id)
    assert [entry.action for entry in await world.audited()][-1] == "vote.refused"
    assert world.api.attempts == []


async def test_one_rejection_ends_it(world: World) -> None:
    approval = await world.requested()
    assert (await world.vote(approval, verdict="reject")).state is ApprovalState.REJECTED
    with pytest.raises(Conflict):
        await world.vote(approval, "api:bob")
    assert (await world.gate.execute(approval.id)).state is ApprovalState.REJECTED
    assert world.api.attempts == []


async def test_voting_otherwise_later_is_a_conflict(world: World) -> None:
    approval = await world.approved()
    with pytest.raises(Conflict, match="voted already"):
        await world.vote(approval, verdict="reject")


# the row in the database


async def _set(world: World, approval: Approval, **values: Any) -> None:
    async with world.database.write() as session:
        await session.execute(update(ApprovalRow).where(ApprovalRow.id == approval.id).values(**values))


def _other_port(plan: dict[str, Any]) -> dict[str, Any]:
    edited = copy.deepcopy(plan)
    edited["writes"][0]["body"] = edited["writes"][0]["body"].replace("8080", "6666")
    return edited


async def test_a_plan_edited_in_the_row_is_refused_at_the_vote(world: World) -> None:
    approval = await world.requested()
    await _set(world, approval, plan=_other_port(approval.plan.model_dump(mode="json")))
    with pytest.raises(Refused, match="was changed"):
        await world.vote(approval)
    assert world.api.attempts == []


async def test_a_plan_edited_after_the_vote_is_refused_at_the_execution(world: World) -> None:
    approval = await world.approved()
    await _set(world, approval, plan=_other_port(approval.plan.model_dump(mode="json")))
    await _refused(world, approval, "was changed")


async def test_editing_the_digest_as_well_does_not_help(world: World) -> None:
    approval = await world.approved()
    plan = type(approval.plan).model_validate(_other_port(approval.plan.model_dump(mode="json")))
    await _set(world, approval, plan=plan.model_dump(mode="json"), digest=plan.digest())
    await _refused(world, approval, "needs 1 approver")


async def test_a_row_set_to_approved_by_hand_lacks_the_votes(world: World) -> None:
    approval = await world.requested()
    await _set(world, approval, state="approved")
    await _refused(world, approval, "needs 1 approver")


async def test_a_vote_row_of_somebody_unknown_does_not_count(world: World) -> None:
    approval = await world.approved()
    async with world.database.write() as session:
        await session.execute(update(VoteRow).values(identity="api:eve"))
    await _refused(world, approval, "needs 1 approver")


async def test_a_lowered_quorum_in_the_row_is_refused(world: World) -> None:
    approval = await world.requested()
    await _set(world, approval, quorum=0)
    with pytest.raises(Refused, match="was changed"):
        await world.vote(approval)


async def test_a_plan_for_another_cluster_is_refused(world: World) -> None:
    plan = (await world.plan()).model_copy(update={"cluster_id": "another"})
    approval = await world.vote(await world.gate.request(plan))
    await _refused(world, approval, "another cluster")


async def test_a_plan_for_another_executor_is_refused(world: World) -> None:
    plan = (await world.plan()).model_copy(update={"executor_version": "0"})
    approval = await world.vote(await world.gate.request(plan))
    await _refused(world, approval, "version of the executor")


# the policy


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kill_switch": True}, "kill switch"),
        ({"approvers": {"api:bob": ["approver"]}}, "needs 1 approver"),
        ({"max_executions_per_hour": 0}, "the limit is 0"),
        ({"verify_seconds": 6.0}, "policy was changed"),
        ({"protected_namespaces": [NAMESPACE]}, "policy was changed"),
    ],
)
async def test_a_policy_that_changed_after_the_vote_stops_it(world: World, change: dict[str, Any], why: str) -> None:
    approval = await world.approved()
    world.new_gate(**change)
    await _refused(world, approval, why)


async def test_the_rate_limit_counts_executions_of_an_hour(world: World) -> None:
    world.new_gate(max_executions_per_hour=1)
    first = await world.approved()
    await world.gate.execute(first.id)
    await world.gate.verify(first.id)
    second = await world.approved(probe_change(9090))
    ended = await world.gate.execute(second.id)
    assert ended.state is ApprovalState.STALE
    assert "within the hour" in (ended.outcome or "")
    assert len(world.api.attempts) == 1
    world.clock.move(minutes=61)
    third = await world.approved(probe_change(9091))
    assert (await world.gate.execute(third.id)).state is ApprovalState.VERIFYING


# the target, between the vote and the write


def _edit(world: World) -> None:
    world.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["spec"].update(replicas=3))


def _relabel(world: World) -> None:
    world.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["metadata"]["labels"].update(team="x"))


def _recreate(world: World) -> None:
    world.api.recreate("Deployment", NAMESPACE, NAME)


def _remove(world: World) -> None:
    world.api.remove("Deployment", NAMESPACE, NAME)


def _edit_config(world: World) -> None:
    world.api.edit("ConfigMap", NAMESPACE, f"{NAME}-config", lambda item: item.update(data={"level": "debug"}))


def _remove_config(world: World) -> None:
    world.api.remove("ConfigMap", NAMESPACE, f"{NAME}-config")


def _webhook(world: World) -> None:
    def mutate(obj: dict[str, Any]) -> None:
        obj["spec"]["template"]["spec"]["containers"][0]["image"] = "evil.test/x:1"

    world.api.mutate = mutate


@pytest.mark.parametrize(
    ("meddle", "why"),
    [
        (_edit, "was edited"),
        (_relabel, "was edited"),
        (_recreate, "created again"),
        (_remove, "is gone"),
        (_edit_config, "ConfigMap, Secret or image"),
        (_remove_config, "ConfigMap, Secret or image"),
        (_webhook, "dry run now says something else"),
    ],
)
async def test_a_change_between_vote_and_execution_makes_it_stale(
    world: World, meddle: Callable[[World], None], why: str
) -> None:
    approval = await world.approved()
    meddle(world)
    await _refused(world, approval, why)


@pytest.mark.parametrize("meddle", [_edit, _recreate, _remove])
async def test_a_change_right_before_the_write_is_refused_by_the_server_itself(
    world: World, meddle: Callable[[World], None]
) -> None:
    approval = await world.approved()
    world.api.before("PATCH", lambda: meddle(world), dry_run=False)
    ended = await world.gate.execute(approval.id)
    assert ended.state is ApprovalState.STALE, ended.outcome
    assert world.writes == []
    assert len(world.api.attempts) == 1


async def test_a_cluster_that_is_away_at_the_last_look_ends_it(world: World) -> None:
    approval = await world.approved()
    world.api.before("PATCH", lambda: setattr(world.api, "down", True), dry_run=True)
    ended = await world.gate.execute(approval.id)
    assert ended.state is ApprovalState.STALE
    assert world.api.attempts == []


# several plans, evidence, the database


async def test_a_new_plan_supersedes_a_pending_one_on_the_same_object(world: World) -> None:
    first = await world.requested(probe_change(8080))
    second = await world.requested(probe_change(9090))
    assert (await world.approvals.get(first.id)).state is ApprovalState.SUPERSEDED
    with pytest.raises(Conflict, match="superseded"):
        await world.vote(first)
    await world.vote(second)
    await world.gate.execute(second.id)
    assert b"9090" in world.writes[0].body
    assert len(world.api.attempts) == 1


async def test_two_approved_plans_on_one_object_execute_once(world: World) -> None:
    first = await world.approved(probe_change(8080))
    second = await world.approved(probe_change(9090))
    ended = await asyncio.gather(world.gate.execute(first.id), world.gate.execute(second.id))
    assert sorted(item.state for item in ended) == [ApprovalState.STALE, ApprovalState.VERIFYING]
    assert len(world.writes) == 1


async def test_while_one_action_is_watched_no_other_touches_its_target(world: World) -> None:
    first = await world.approved(probe_change(8080))
    await world.gate.execute(first.id)
    second = await world.approved(probe_change(9090))  # made of what the first one left
    ended = await world.gate.execute(second.id)
    assert ended.state is ApprovalState.STALE
    assert "not over yet" in (ended.outcome or "")
    assert len(world.api.attempts) == 1
    assert (await world.gate.undo(first.id)).state is ApprovalState.UNDONE
    third = await world.approved(probe_change(9090))
    assert (await world.gate.execute(third.id)).state is ApprovalState.VERIFYING


async def test_a_missing_core_needs_a_waiver(world: World) -> None:
    approval = await world.requested(need=EvidenceNeed.CORE)
    with pytest.raises(Refused, match="waive"):
        await world.vote(approval)
    assert (await world.approvals.get(approval.id)).state is ApprovalState.PENDING
    await world.vote(approval, waive_evidence=True)
    assert (await world.gate.execute(approval.id)).state is ApprovalState.VERIFYING
    (vote,) = (await world.approvals.get(approval.id)).votes
    assert vote.waive_evidence


async def test_the_executor_checks_the_evidence_again(world: World) -> None:
    approval = await world.requested(need=EvidenceNeed.CORE)
    await world.vote(approval, waive_evidence=True)
    async with world.database.write() as session:
        await session.execute(update(VoteRow).values(waive_evidence=False))
    await _refused(world, approval, "core is not captured")


async def test_a_captured_core_needs_none(world: World) -> None:
    approval = await world.approved(need=EvidenceNeed.CORE, evidence="ab" * 32)
    assert (await world.gate.execute(approval.id)).state is ApprovalState.VERIFYING


async def _call(action: Callable[[], Awaitable[object]]) -> ParamedicError | None:
    try:
        await action()
    except ParamedicError as error:
        return error
    return None


@pytest.mark.parametrize("table", ["audit", "executions", "approvals", "locks"])
async def test_a_database_that_fails_means_no_action(world: World, table: str) -> None:
    approval = await world.approved()
    async with world.database.write() as session:
        await session.execute(text(f"ALTER TABLE {table} RENAME TO lost"))
    error = await _call(lambda: world.gate.execute(approval.id))
    assert isinstance(error, ToolFailed)
    assert "database" in str(error)
    assert world.api.attempts == []


async def test_a_database_that_is_gone_means_no_vote(world: World, database: Database) -> None:
    approval = await world.requested()

    def gone(*_: object) -> None:
        raise OperationalError("x", None, Exception("gone"))

    from sqlalchemy import event

    event.listen(database.engine.sync_engine, "before_cursor_execute", gone)
    error = await _call(lambda: world.vote(approval))
    assert isinstance(error, ToolFailed)
    event.remove(database.engine.sync_engine, "before_cursor_execute", gone)
    assert (await world.approvals.get(approval.id)).votes == []


async def test_undo_after_somebody_else_edited_leaves_their_edit_alone(world: World) -> None:
    approval = await world.approved()
    await world.gate.execute(approval.id)
    _edit(world)
    verdict = await world.gate.verify(approval.id)
    assert not verdict.ok
    assert "somebody else" in verdict.summary
    ended = await world.gate.undo(approval.id)
    assert ended.state is ApprovalState.FAILED
    assert "somebody else" in (ended.outcome or "")
    assert len(world.api.attempts) == 1


async def test_the_kill_switch_also_stops_an_undo(world: World) -> None:
    approval = await world.approved()
    await world.gate.execute(approval.id)
    gate: Gate = world.new_gate(kill_switch=True)
    assert (await gate.undo(approval.id)).state is ApprovalState.FAILED
    assert len(world.api.attempts) == 1


async def test_nothing_is_verified_or_undone_that_was_not_executed(world: World) -> None:
    approval = await world.approved()
    for call in (world.gate.verify, world.gate.undo):
        with pytest.raises(Conflict):
            await call(approval.id)
    assert world.api.attempts == []
