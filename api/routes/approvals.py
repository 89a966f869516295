"""Approvals: what waits for people, and their decisions."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field, StringConstraints

from api.answers import ApprovalAnswer, approval_answer
from api.auth import Approver, Reader
from api.dependencies import checked_id, services_of
from api.fields import Body, Plain
from api.problems import RESPONSES
from errors import ToolMissing
from incidents.plan import ApprovalState

router = APIRouter(prefix="/api/v1/approvals", tags=["approvals"], responses=RESPONSES)
ApprovalId = Annotated[str, Path(max_length=80)]


class ApprovalList(BaseModel):
    """Newest first, at most a hundred."""

    approvals: list[ApprovalAnswer]


@router.get("")
async def list_approvals(
    request: Request,
    _caller: Reader,
    state: Annotated[ApprovalState | None, Query()] = None,
    incident_id: Annotated[str | None, Query(max_length=80)] = None,
) -> ApprovalList:
    """List approval requests; those waiting for a decision have the state `pending`."""
    if incident_id is not None:
        checked_id(incident_id, "incident")
    found = await services_of(request).approvals.list(state=state, incident_id=incident_id)
    return ApprovalList(approvals=[approval_answer(item) for item in found])


@router.get("/{approval_id}")
async def get_approval(request: Request, _caller: Reader, approval_id: ApprovalId) -> ApprovalAnswer:
    """One approval request with its whole plan: exactly what would be written, and how it is undone."""
    found = await services_of(request).approvals.get(checked_id(approval_id, "approval"))
    return approval_answer(found)


class DecisionBody(Body):
    """A decision about exactly the plan with this digest."""

    verdict: Literal["approve", "reject"]
    digest: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")] = Field(
        description="The `digest` of the approval whose diff you have read"
    )
    waive_evidence: bool = Field(default=False, description="Go on although the crash's core was not captured")
    reason: Annotated[str, StringConstraints(max_length=1000), Plain] | None = None


@router.post("/{approval_id}/decision")
async def decide(request: Request, caller: Approver, approval_id: ApprovalId, body: DecisionBody) -> ApprovalAnswer:
    """Approve or reject. The gate decides whether this caller may; what was approved is executed in the background."""
    services = services_of(request)
    checked_id(approval_id, "approval")
    if services.gate is None:
        raise ToolMissing("no cluster is connected, so nothing can be decided or executed here")
    decided = await services.runner.decide(
        approval_id,
        identity=caller.identity,
        verdict=body.verdict,
        digest=body.digest,
        waive_evidence=body.waive_evidence,
        channel="api",
        reason=body.reason,
    )
    return approval_answer(decided)
