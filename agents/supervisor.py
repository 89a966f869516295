"""The supervisor: which specialist is next, and why.

The routes are a closed table over what is known. A model, where one is configured, may only choose among the routes
that the table allows at that moment; it cannot add one, skip the gate or end an incident.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from incidents.models import DiagnosisStatus
from incidents.plan import ApprovalState

MAX_HOPS = 40
"""An incident that needs more hops than this is stuck; the longest regular one takes 19, and 8 for each more repair."""

MAX_REPAIRS = 3
"""So many plans, one after the other, each with an approval of its own."""


class Route(StrEnum):
    RESEARCHER = "researcher"
    ANALYST = "analyst"
    GDB_ANALYST = "gdb_analyst"
    K8S_FIXER = "k8s_fixer"
    NOTIFIER = "notifier"
    REQUEST_APPROVAL = "request_approval"
    APPROVAL = "approval"
    EXECUTE = "execute"
    VERIFY = "verify"
    UNDO = "undo"
    LOOK_AGAIN = "look_again"
    FINISH = "finish"


class Notice(StrEnum):
    """What the notifier tells, each at most once an incident."""

    DIAGNOSIS = "diagnosis"
    REQUEST = "request"
    RESULT = "result"


@dataclass(frozen=True)
class Situation:
    """All that routing may look at."""

    hops: int = 0
    on_cluster: bool = False  # the target is a Kubernetes object or helm release, and a cluster is connected
    researched: bool = False
    measurable: bool = False  # there is a Prometheus, and the target is something that it may measure
    measured: bool = False
    core_known: bool = False  # a core was given, or one was found for the crashed container
    core_analysed: bool = False
    core_away: bool = False  # our store has it, and could not be reached
    diagnosis: DiagnosisStatus | None = None
    told: frozenset[Notice] = frozenset()
    can_act: bool = False  # there is a gate
    fix_considered: bool = False
    plan_ready: bool = False
    approval: ApprovalState | None = None
    verified: bool | None = None  # None: not yet
    repairs: int = 0  # verified before the present one
    looked_again: bool = False  # since the last was verified
    storm: bool = False  # more crashes than the policy allows: it may be stopped without a known cause


@dataclass(frozen=True)
class Hop:
    to: Route
    reason: str


def allowed(situation: Situation) -> list[Hop]:
    """The next hops that make sense now, the default first. Never empty."""
    if situation.hops >= MAX_HOPS:
        return [Hop(Route.FINISH, f"stopped after {MAX_HOPS} hops")]
    if situation.approval is not None:
        return [_after_request(situation, situation.approval)]
    looking = _looking(situation)
    if looking:
        return looking
    waiting = situation.core_away and not situation.core_analysed
    if Notice.DIAGNOSIS not in situation.told:
        return [Hop(Route.NOTIFIER, "the diagnosis is complete" if not waiting else "what is known is told")]
    if waiting:
        return [Hop(Route.GDB_ANALYST, "its core is in a store that could not be reached: wait for it")]
    if situation.plan_ready:
        return [Hop(Route.REQUEST_APPROVAL, "a plan is ready, and only a person may approve it")]
    known = situation.diagnosis is DiagnosisStatus.DIAGNOSED
    stop = situation.storm and situation.diagnosis is not DiagnosisStatus.HEALTHY
    if (known or stop) and situation.on_cluster and not situation.fix_considered:
        why = "the cause is known" if known else "it crashes again and again, the cause is not known"
        if situation.can_act:
            return [Hop(Route.K8S_FIXER, f"{why}; look for a fix")]
        return [Hop(Route.FINISH, f"{why}; acting is switched off")]
    return [Hop(Route.FINISH, "nothing more to do")]


def _looking(situation: Situation) -> list[Hop]:
    hops = []
    if situation.core_known and not situation.core_analysed and not situation.core_away:
        hops.append(Hop(Route.GDB_ANALYST, "there is a core dump to read"))
    if situation.on_cluster and not situation.researched:
        hops.append(Hop(Route.RESEARCHER, "the cluster has not been looked at"))
    if situation.measurable and not situation.measured:
        hops.append(Hop(Route.ANALYST, "what is measured has not been compared with what is usual"))
    return hops


_EXECUTABLE = {ApprovalState.APPROVED, ApprovalState.CLAIMED}
_ENDED = {
    ApprovalState.REJECTED: "a person said no",
    ApprovalState.EXPIRED: "nobody decided in time",
    ApprovalState.SUPERSEDED: "a newer plan for the same object took its place",
    ApprovalState.STALE: "something changed since the approval; nothing was written",
    ApprovalState.DONE: "the fix is verified",
    ApprovalState.UNDONE: "the fix did not help and was undone",
    ApprovalState.FAILED: "a person has to look",
}


def _after_request(situation: Situation, approval: ApprovalState) -> Hop:
    if approval in _ENDED:
        if Notice.RESULT not in situation.told:
            return Hop(Route.NOTIFIER, _ENDED[approval])
        # what a core tells is of the past, and stays so whatever was repaired
        may_look = situation.on_cluster and situation.can_act and not situation.core_analysed
        left = not situation.looked_again and situation.repairs + 1 < MAX_REPAIRS
        if approval is ApprovalState.DONE and may_look and left:
            return Hop(Route.LOOK_AGAIN, "the fix is verified; see whether another cause shows now")
        return Hop(Route.FINISH, _ENDED[approval])
    if approval is ApprovalState.PENDING:
        if Notice.REQUEST not in situation.told:
            return Hop(Route.NOTIFIER, "ask the approvers")
        return Hop(Route.APPROVAL, "wait for a person's decision")
    if approval in _EXECUTABLE:
        return Hop(Route.EXECUTE, "approved")
    if approval is ApprovalState.EXECUTING:
        return Hop(Route.EXECUTE, "an execution was interrupted; find out what happened and finish it")
    if situation.verified is False:
        return Hop(Route.UNDO, "the fix did not help")
    return Hop(Route.VERIFY, "the write was made; see whether it helped")
