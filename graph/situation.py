"""What the supervisor may look at, out of an incident's state and record."""

from __future__ import annotations

from agents.supervisor import Notice, Situation
from graph.state import State
from incidents.models import Diagnosis, Incident, Via
from incidents.plan import Approval, ApprovalState


def situation_of(
    state: State,
    incident: Incident,
    approval: Approval | None,
    diagnosis: Diagnosis | None,
    *,
    core_known: bool,
    researcher: bool,
    analyst: bool,
    fixer: bool,
) -> Situation:
    """The situation of an incident. `researcher`, `analyst` and `fixer`: whether this service has one."""
    on_cluster = incident.target.kind != "Process"
    return Situation(
        hops=state.get("hops", 0),
        on_cluster=on_cluster and researcher,
        researched=state.get("researched", False),
        measurable=on_cluster and analyst,
        measured=state.get("measured", False),
        core_known=core_known,
        core_analysed=state.get("core_analysed", False),
        core_away=state.get("core_until") is not None,
        diagnosis=diagnosis.status if diagnosis else None,
        told=frozenset(Notice(name) for name in state.get("told", [])),
        can_act=fixer,
        fix_considered=state.get("fix_considered", False),
        plan_ready=state.get("plan_ready", False),
        approval=approval.state if approval else None,
        verified=state.get("verified"),
        repairs=state.get("repairs", 0),
        looked_again=state.get("looked_again", False),
        storm=incident.via is Via.POLICY,
    )


def due_notice(approval: Approval | None) -> Notice:
    """What the notifier is to tell when it is its turn."""
    if approval is None:
        return Notice.DIAGNOSIS
    return Notice.REQUEST if approval.state is ApprovalState.PENDING else Notice.RESULT
