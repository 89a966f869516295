"""CloudEvents in: collected cores, from our node agents or from CoreDog. Each becomes a job that can be followed."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from api.auth import Fixer, Reader
from api.dependencies import services_of
from api.problems import RESPONSES
from errors import InvalidInput
from incidents.collected import CollectedCore
from incidents.core_jobs import CoreJob, CoreJobState
from incidents.models import Incident, IncidentStatus
from tools.cloudevents.event import BATCH, STRUCTURED, read_events

router = APIRouter(prefix="/api/v1", tags=["events"], responses=RESPONSES)


class JobLinks(BaseModel):
    self: str
    incident: str | None = None


class JobAnswer(BaseModel):
    """What became of one collected core."""

    kind: Literal["AnalysisJob"] = "AnalysisJob"
    id: str
    phase: Literal["Pending", "Running", "Completed", "Failed", "Noted"] = Field(
        description="Noted: nothing to analyse, such as a text called core"
    )
    event_type: str
    event_id: str
    created_at: datetime
    finished_at: datetime | None = None
    incident_id: str | None = None
    core: CollectedCore | None = Field(default=None, description="The node agent's record; null for CoreDog's events")
    status: IncidentStatus | None = Field(default=None, description="Of the incident")
    summary: str | None = None
    signature: str | None = None
    error: str | None = None
    links: JobLinks


class TakenEvent(BaseModel):
    job: JobAnswer
    duplicate: bool = Field(description="The core was told before; nothing is done twice")


class EventsAnswer(BaseModel):
    """One entry an event, in the order of the request."""

    events: list[TakenEvent]


@router.post(
    "/events",
    status_code=202,
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "Structured, batched, or binary (attributes in `ce-` headers, the data as body)",
            "content": {
                kind: {"schema": {"type": shape}} for kind, shape in ((STRUCTURED, "object"), (BATCH, "array"))
            },
        }
    },
)
async def take_events(request: Request, caller: Fixer) -> EventsAnswer:
    """Take CloudEvents of type `io.paramedic.core.collected` or `coredog.coredump.uploaded`; all or none."""
    services = services_of(request)
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        if name in headers and name.startswith("ce-"):
            raise InvalidInput(f"the header {name} is given twice")
        headers[name] = value
    events = read_events(headers, await request.body())
    taken = await services.core_events.accept(events, caller.identity)
    return EventsAnswer(events=[TakenEvent(job=_answer(item.job, None), duplicate=not item.fresh) for item in taken])


@router.get("/jobs/{job_id}")
async def job(request: Request, _: Reader, job_id: str) -> JobAnswer:
    """How far the analysis of a collected core has come."""
    services = services_of(request)
    found = await services.core_jobs.get(job_id)
    incident = await services.incidents.get(found.incident_id) if found.incident_id else None
    return _answer(found, incident)


def _answer(found: CoreJob, incident: Incident | None) -> JobAnswer:
    ended = incident is not None and incident.status.ended
    phases: dict[CoreJobState, Literal["Pending", "Running", "Completed", "Failed", "Noted"]] = {
        CoreJobState.QUEUED: "Pending",
        CoreJobState.TAKEN: "Completed" if ended else "Running",
        CoreJobState.NOTED: "Noted",
        CoreJobState.FAILED: "Failed",
    }
    phase = phases[found.state]
    if incident is not None and incident.status is IncidentStatus.FAILED:
        phase = "Failed"
    return JobAnswer(
        id=found.id,
        phase=phase,
        event_type=found.event_type,
        event_id=found.event_id,
        created_at=found.created_at,
        finished_at=incident.updated_at if incident is not None and ended else None,
        incident_id=found.incident_id,
        core=CollectedCore.model_validate(found.document) if "completeness" in found.document else None,
        status=incident.status if incident else None,
        summary=incident.summary if incident else None,
        signature=incident.signature if incident else None,
        error=found.error,
        links=JobLinks(
            self=f"/api/v1/jobs/{found.id}",
            incident=f"/api/v1/incidents/{found.incident_id}" if found.incident_id else None,
        ),
    )
