"""What an incident comes to: how it ends, whether a verified repair leaves another cause, what went wrong in words."""

from __future__ import annotations

from agents.remedies.choose import TOGETHER_CONFIDENCE
from errors import ParamedicError
from incidents.models import Diagnosis, DiagnosisStatus, IncidentStatus
from incidents.plan import Approval, ApprovalState

_END = {
    ApprovalState.REJECTED: IncidentStatus.DECLINED,
    ApprovalState.EXPIRED: IncidentStatus.EXPIRED,
    ApprovalState.SUPERSEDED: IncidentStatus.STALE,
    ApprovalState.STALE: IncidentStatus.STALE,
    ApprovalState.DONE: IncidentStatus.FIXED,
    ApprovalState.UNDONE: IncidentStatus.NOT_FIXED,
}


def end_status(diagnosis: Diagnosis | None, approval: Approval | None) -> IncidentStatus:
    """How an incident ends. An approval that is neither refused nor settled needs a person."""
    if approval is not None:
        return _END.get(approval.state, IncidentStatus.ESCALATED)
    if diagnosis is None or diagnosis.status is DiagnosisStatus.FAILED:
        return IncidentStatus.FAILED
    return IncidentStatus(diagnosis.status.value)


def another_cause(before: Diagnosis, found: Diagnosis) -> bool:
    """Whether the likeliest cause is certain enough to act upon, and is not the one that was repaired."""
    if found.status is not DiagnosisStatus.DIAGNOSED or not found.causes or not before.causes:
        return False
    first, repaired = found.causes[0], before.causes[0]
    same = (first.cause_class, first.object) == (repaired.cause_class, repaired.object)
    return not same and first.confidence >= TOGETHER_CONFIDENCE


def words(error: Exception) -> str:
    """One sentence for the timeline. What is not ours may hold anything, so only its type is told."""
    return str(error) if isinstance(error, ParamedicError) else f"internal error ({type(error).__name__})"
