"""Response documents: the vocabulary as the API shows it, with links."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from agents.notice import cores_of
from diagnosis.redaction import redact_json
from incidents.metric_charts import MetricRun
from incidents.metric_report import MetricReport
from incidents.metric_runs import MetricRuns
from incidents.models import Diagnosis, Incident
from incidents.plan import Approval, ApprovalState, EvidenceNeed, PatchWrite, Plan, Proposal, Vote, Write

if TYPE_CHECKING:
    from graph.services import Services


class IncidentLinks(BaseModel):
    self: str
    events: str
    evidence: str
    page: str


class IncidentAnswer(BaseModel):
    """An incident and where to go on from it."""

    incident: Incident
    links: IncidentLinks


class ApprovalAnswer(BaseModel):
    """An approval request. Decide with exactly the `digest` of the plan whose `diff` you have read."""

    id: str
    incident_id: str
    state: ApprovalState
    digest: str
    title: str
    plan: Plan = Field(description="What the digest binds; see `masked`")
    masked: bool = Field(description="Secrets are masked in `plan`, which then does not hash to `digest`")
    evidence_missing: bool = Field(description="The gate wants a core that is not captured; approving must waive it")
    quorum: int
    votes: list[Vote]
    requested_by: str
    issued_at: datetime
    expires_at: datetime
    outcome: str | None


class EvidenceLink(BaseModel):
    id: str
    kind: str
    source: str
    truncated: bool
    href: str


class RcaLinks(BaseModel):
    self: str
    svg: str
    html: str
    png: str


class RcaAnswer(BaseModel):
    """An analysis of metrics as it is kept, and where its charts are."""

    id: str
    created_at: datetime
    incident_id: str | None
    report: MetricReport
    links: RcaLinks


class IncidentDetail(IncidentAnswer):
    """Everything on record about an incident but the timeline, which `links.events` streams."""

    diagnosis: Diagnosis | None
    nodes: list[str] = Field(description="Nodes whose agents collected cores of this crash, so far")
    metrics: RcaAnswer | None = Field(description="What the analyst made of measurements; null without Prometheus")
    proposals: list[Proposal]
    approvals: list[ApprovalAnswer]
    evidence: list[EvidenceLink]


def incident_answer(incident: Incident) -> IncidentAnswer:
    here = f"/api/v1/incidents/{incident.id}"
    links = IncidentLinks(self=here, events=f"{here}/events", evidence=f"{here}/evidence", page=f"/#{incident.id}")
    return IncidentAnswer(incident=incident, links=links)


def approval_answer(approval: Approval) -> ApprovalAnswer:
    """Without the nonce: it is the executor's, and nobody else needs it."""
    plan = approval.plan
    shown = _without_secrets(plan)
    shared = {name: getattr(approval, name) for name in ApprovalAnswer.model_fields if name in Approval.model_fields}
    missing = plan.evidence_need is not EvidenceNeed.NONE and plan.evidence_sha256 is None
    return ApprovalAnswer(**{**shared, "plan": shown}, masked=shown != plan, title=plan.title, evidence_missing=missing)


def _without_secrets(plan: Plan) -> Plan:
    """The preimage and the patches carry whole pod templates, inline environment included."""
    return plan.model_copy(
        update={
            "preimage": redact_json(plan.preimage) if plan.preimage else "",
            "writes": [_masked(write) for write in plan.writes],
            "inverse": [_masked(write) for write in plan.inverse],
        }
    )


def _masked(write: Write) -> Write:
    if not isinstance(write, PatchWrite):
        return write
    return write.model_copy(update={"body": redact_json(write.body)})


async def incident_detail(services: Services, incident: Incident) -> IncidentDetail:
    links = incident_answer(incident).links
    approvals = await services.approvals.list(incident_id=incident.id)
    run = await MetricRuns(services.database).of_incident(incident.id)
    cores = await cores_of(services.database, incident.id)
    return IncidentDetail(
        incident=incident,
        links=links,
        diagnosis=await services.incidents.diagnosis(incident.id),
        nodes=list(cores.nodes),
        metrics=rca_answer(run) if run else None,
        proposals=await services.incidents.proposals(incident.id),
        approvals=[approval_answer(item) for item in approvals],
        evidence=await evidence_links(services, incident),
    )


def rca_answer(run: MetricRun) -> RcaAnswer:
    here = f"/api/v1/rca/{run.id}"
    charts = {form: f"{here}/chart.{form}" for form in ("svg", "html", "png")}
    return RcaAnswer(
        id=run.id,
        created_at=run.created_at,
        incident_id=run.incident_id,
        report=run.report,
        links=RcaLinks(self=here, **charts),
    )


async def evidence_links(services: Services, incident: Incident) -> list[EvidenceLink]:
    base = incident_answer(incident).links.evidence
    return [
        EvidenceLink(
            id=item.id,
            kind=item.kind.value,
            source=item.source,
            truncated=item.truncated,
            href=f"{base}/{item.id}",
        )
        for item in await services.incidents.evidence(incident.id)
    ]
