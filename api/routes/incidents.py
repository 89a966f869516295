"""Incidents: list, one with everything on record, its evidence, its timeline as a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import BaseModel
from starlette.responses import PlainTextResponse, Response

from api.answers import EvidenceLink, IncidentDetail, evidence_links, incident_detail
from api.auth import Reader
from api.dependencies import KnownIncident, checked_id, services_of
from api.fields import Namespace
from api.problems import RESPONSES, UnusableField
from api.sse import Event, event_stream, last_event_id
from diagnosis.crashes.export.formats import MEDIA_TYPES, ReportFormat, rendered
from errors import NotFound
from incidents.models import Incident, IncidentStatus

if TYPE_CHECKING:
    from graph.services import Services

router = APIRouter(prefix="/api/v1/incidents", tags=["incidents"], responses=RESPONSES)


class IncidentPage(BaseModel):
    """Newest first. `next` is the `before` of the next page, null on the last."""

    incidents: list[Incident]
    next: str | None


@router.get("")
async def list_incidents(
    request: Request,
    _caller: Reader,
    namespace: Annotated[Namespace | None, Query()] = None,
    status: Annotated[IncidentStatus | None, Query()] = None,
    open: Annotated[bool, Query(description="Only incidents that have not ended")] = False,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[str | None, Query(max_length=80, description="`next` of the page before")] = None,
) -> IncidentPage:
    """List incidents, newest first."""
    store = services_of(request).incidents
    try:
        cursor = checked_id(before, "incident") if before is not None else None
        found = await store.recent(namespace=namespace, status=status, open_only=open, limit=limit + 1, before=cursor)
    except NotFound:
        raise UnusableField("before", "no such page; use the `next` of an answer") from None
    page = found[:limit]
    return IncidentPage(incidents=page, next=page[-1].id if len(found) > limit else None)


@router.get("/{incident_id}")
async def get_incident(request: Request, _caller: Reader, incident: KnownIncident) -> IncidentDetail:
    """One incident with its diagnosis, proposals, approvals and links to its evidence."""
    return await incident_detail(services_of(request), incident)


@router.get(
    "/{incident_id}/report",
    response_class=Response,
    responses={
        200: {"description": "The document", "content": {kind: {} for kind in sorted(set(MEDIA_TYPES.values()))}}
    },
)
async def crash_report(
    request: Request,
    _caller: Reader,
    incident: KnownIncident,
    format: Annotated[Literal["json", "markdown", "casrep", "sarif"], Query()] = "markdown",
) -> Response:
    """The incident's crash report for other tools: a ticket (Markdown), CASR (casrep), code scanning (SARIF)."""
    diagnosis = await services_of(request).incidents.diagnosis(incident.id)
    if diagnosis is None or diagnosis.crash is None:
        raise NotFound(f"incident {incident.id} has no crash report")
    chosen = ReportFormat(format)
    return Response(rendered(diagnosis, chosen), media_type=MEDIA_TYPES[chosen])


@router.get("/{incident_id}/evidence")
async def list_evidence(request: Request, _caller: Reader, incident: KnownIncident) -> list[EvidenceLink]:
    """What was observed: where each piece was read, and a link to its whole text."""
    return await evidence_links(services_of(request), incident)


@router.get(
    "/{incident_id}/evidence/{evidence_id}",
    response_class=PlainTextResponse,
    responses={200: {"description": "The whole text; `ETag` is its sha256", "content": {"text/plain": {}}}},
)
async def get_evidence(
    request: Request, _caller: Reader, incident: KnownIncident, evidence_id: Annotated[str, Path(max_length=80)]
) -> Response:
    """The whole text of one piece of evidence, as it was observed."""
    store = services_of(request).incidents
    checked_id(evidence_id, "evidence")
    found = [item for item in await store.evidence(incident.id) if item.id == evidence_id]
    if not found:
        raise NotFound(f"incident {incident.id} has no evidence {evidence_id!r}")
    text = await store.whole_text(found[0])
    # outside text: never to be taken for a page
    headers = {"ETag": f'"{found[0].sha256}"', "Content-Disposition": f'inline; filename="{found[0].id}.txt"'}
    return PlainTextResponse(text.encode("utf-8", "backslashreplace"), headers=headers)


@router.get(
    "/{incident_id}/events",
    response_class=Response,
    responses={
        200: {"description": "Steps as server-sent events; `end` is the last", "content": {"text/event-stream": {}}}
    },
)
async def follow_incident(
    request: Request,
    _caller: Reader,
    incident: KnownIncident,
    last_event: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> Response:
    """The timeline from the beginning (or after `Last-Event-ID`) and on, until the incident has ended.

    Each event is named as its step's `type` and has the step as data; event `end` carries the final status.
    """
    after = last_event_id(last_event)
    return event_stream(_timeline(services_of(request), incident.id, after), request.app.state.draining)


async def _timeline(services: Services, incident_id: str, after: int) -> AsyncIterator[Event]:
    async for step in services.incidents.follow(incident_id, after):
        yield Event(step.type, step.model_dump(mode="json"), id=str(step.seq))
    incident = await services.incidents.get(incident_id)
    yield Event("end", {"status": incident.status.value, "summary": incident.summary})
