"""Every route of the supervisor, as a table."""

from __future__ import annotations

import pytest

from agents.supervisor import MAX_HOPS, Notice, Route, Situation, allowed
from incidents.models import DiagnosisStatus
from incidents.plan import ApprovalState

TOLD = frozenset({Notice.DIAGNOSIS})
ASKED = TOLD | {Notice.REQUEST}
DIAGNOSED = DiagnosisStatus.DIAGNOSED

TABLE = [
    (Situation(core_known=True), Route.GDB_ANALYST),
    (Situation(on_cluster=True), Route.RESEARCHER),
    (Situation(on_cluster=True, core_known=True), Route.GDB_ANALYST),
    (Situation(on_cluster=True, core_known=True, core_analysed=True), Route.RESEARCHER),
    (Situation(on_cluster=True, researched=True, core_known=True), Route.GDB_ANALYST),
    (Situation(on_cluster=True, core_known=True, core_away=True), Route.RESEARCHER),
    (Situation(on_cluster=True, researched=True, core_known=True, core_away=True), Route.NOTIFIER),
    (Situation(on_cluster=True, researched=True, core_known=True, core_away=True, told=TOLD), Route.GDB_ANALYST),
    (Situation(core_known=True, core_away=True, core_analysed=True, told=TOLD), Route.FINISH),
    (Situation(on_cluster=True, researched=True, diagnosis=DIAGNOSED), Route.NOTIFIER),
    (Situation(), Route.NOTIFIER),
    (Situation(on_cluster=True, researched=True, diagnosis=DIAGNOSED, told=TOLD, can_act=True), Route.K8S_FIXER),
    (Situation(on_cluster=True, researched=True, diagnosis=DIAGNOSED, told=TOLD), Route.FINISH),
    (
        Situation(on_cluster=True, researched=True, diagnosis=DIAGNOSED, told=TOLD, can_act=True, fix_considered=True),
        Route.FINISH,
    ),
    (
        Situation(on_cluster=True, researched=True, diagnosis=DiagnosisStatus.HEALTHY, told=TOLD, can_act=True),
        Route.FINISH,
    ),
    (
        Situation(on_cluster=True, researched=True, diagnosis=DiagnosisStatus.UNKNOWN, told=TOLD, can_act=True),
        Route.FINISH,
    ),
    (Situation(diagnosis=DIAGNOSED, told=TOLD, can_act=True), Route.FINISH),  # a core alone: nothing to patch
    (Situation(on_cluster=True, researched=True, told=TOLD, plan_ready=True), Route.REQUEST_APPROVAL),
    (Situation(approval=ApprovalState.PENDING, told=TOLD), Route.NOTIFIER),
    (Situation(approval=ApprovalState.PENDING, told=ASKED), Route.APPROVAL),
    (Situation(approval=ApprovalState.APPROVED, told=ASKED), Route.EXECUTE),
    (Situation(approval=ApprovalState.CLAIMED, told=ASKED), Route.EXECUTE),
    (Situation(approval=ApprovalState.EXECUTING, told=ASKED), Route.EXECUTE),
    (Situation(approval=ApprovalState.VERIFYING, told=ASKED), Route.VERIFY),
    (Situation(approval=ApprovalState.VERIFYING, told=ASKED, verified=False), Route.UNDO),
]
ENDED = ("REJECTED", "EXPIRED", "SUPERSEDED", "STALE", "DONE", "UNDONE", "FAILED")


@pytest.mark.parametrize(("situation", "route"), TABLE)
def test_the_default_route(situation: Situation, route: Route) -> None:
    assert allowed(situation)[0].to is route


@pytest.mark.parametrize("state", ENDED)
def test_an_ended_approval_is_told_and_ends_the_incident(state: str) -> None:
    approval = ApprovalState[state]
    assert allowed(Situation(approval=approval, told=ASKED))[0].to is Route.NOTIFIER
    assert allowed(Situation(approval=approval, told=ASKED | {Notice.RESULT}))[0].to is Route.FINISH


@pytest.mark.parametrize("state", [*ENDED, "PENDING", "VERIFYING"])
def test_nothing_but_an_approval_leads_to_execution(state: str) -> None:
    for told in (frozenset(), TOLD, ASKED):
        hops = allowed(Situation(approval=ApprovalState[state], told=told, can_act=True, plan_ready=True))
        assert Route.EXECUTE not in {hop.to for hop in hops}


def test_without_an_approval_nothing_executes_whatever_else_is_true() -> None:
    for situation, _ in TABLE:
        if situation.approval is None:
            assert not {hop.to for hop in allowed(situation)} & {Route.EXECUTE, Route.VERIFY, Route.UNDO}


def test_a_model_may_choose_only_between_looking_first_at_the_core_or_the_cluster() -> None:
    choices = {tuple(hop.to for hop in allowed(situation)) for situation, _ in TABLE if len(allowed(situation)) > 1}
    assert choices == {(Route.GDB_ANALYST, Route.RESEARCHER)}


def test_the_step_limit_ends_everything() -> None:
    for situation, _ in TABLE:
        from dataclasses import replace

        assert [hop.to for hop in allowed(replace(situation, hops=MAX_HOPS))] == [Route.FINISH]
