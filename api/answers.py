"""Response documents: the vocabulary as the API shows it, with links."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from incidents.models import Diagnosis, Incident
from incidents.plan import Approval, ApprovalState, Plan, Proposal, Vote

if TYPE_CHECKING:
    from graph.services import Services


class IncidentLinks(BaseModel):
    self: str
    events: str
    evidence: str
    page: str


class IncidentAnswer(Incident):
    """An incident and where to go on from it."""

    links: IncidentLinks


class ApprovalAnswer(BaseModel):
    """An approval request. Decide with exactly the `digest` that belongs to the `diff` you have read."""

    id: str
    incident_id: str
    state: ApprovalState
    digest: str
    title: str
    diff: str
    risk: str
    reversible: bool
    blast_radius: str
    evidence_missing: bool = Field(description="The gate wants a core that is not captured; approving must waive it")
    quorum: int
    votes: list[Vote]
    requested_by: str
    issued_at: datetime
    expires_at: datetime
    outcome: str | None
    plan: Plan | None = Field(default=None, description="The whole plan; not in lists")


class EvidenceLink(BaseModel):
    id: str
    kind: str
    source: str
    truncated: bool
    href: str


class IncidentDetail(IncidentAnswer):
    """Everything on record about an incident but the timeline, which `links.events` streams."""

    diagnosis: Diagnosis | None
    proposals: list[Proposal]
    approvals: list[ApprovalAnswer]
    evidence: list[EvidenceLink]


def incident_answer(incident: Incident) -> IncidentAnswer:
    here = f"/api/v1/incidents/{incident.id}"
    links = IncidentLinks(self=here, events=f"{here}/events", evidence=f"{here}/evidence", page=f"/#{incident.id}")
    return IncidentAnswer(**_fields(incident), links=links)


def _fields(incident: Incident) -> dict[str, Any]:
    return {name: getattr(incident, name) for name in Incident.model_fields}


def approval_answer(approval: Approval, *, whole: bool = False) -> ApprovalAnswer:
    """Without the nonce: it is the executor's, and nobody else needs it."""
    plan = approval.plan
    same = (
        "id",
        "incident_id",
        "state",
        "digest",
        "quorum",
        "votes",
        "requested_by",
        "issued_at",
        "expires_at",
        "outcome",
    )
    shown: dict[str, Any] = {name: getattr(approval, name) for name in same}
    return ApprovalAnswer(
        **shown,
        title=plan.title,
        diff=plan.diff,
        risk=plan.risk.value,
        reversible=plan.reversible,
        blast_radius=plan.blast_radius,
        evidence_missing=plan.evidence_need != "none" and plan.evidence_sha256 is None,
        plan=plan if whole else None,
    )


async def incident_detail(services: Services, incident: Incident) -> IncidentDetail:
    base = incident_answer(incident)
    return IncidentDetail(
        **_fields(incident),
        links=base.links,
        diagnosis=await services.incidents.diagnosis(incident.id),
        proposals=await services.incidents.proposals(incident.id),
        approvals=[approval_answer(item) for item in await services.approvals.list(incident_id=incident.id)],
        evidence=[
            EvidenceLink(
                id=item.id,
                kind=item.kind.value,
                source=item.source,
                truncated=item.truncated,
                href=f"{base.links.evidence}/{item.id}",
            )
            for item in await services.incidents.evidence(incident.id)
        ],
    )
