"""Root-cause analysis of metrics: ask, look again, see the charts, and set what counts as a change."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema
from starlette.responses import Response

from agents.analyst import current_config, explained
from api.answers import RcaAnswer, rca_answer
from api.auth import Caller, Fixer, Reader
from api.dependencies import KnownIncident, checked_id, services_of
from api.fields import Body, Line, Namespace, Plain, Text
from api.problems import RESPONSES, UnusableField
from api.sse import Event, event_stream
from diagnosis.metrics.charts import render
from diagnosis.metrics.config import RcaConfig
from errors import NotFound, ParamedicError, ToolMissing
from incidents.database import utcnow
from incidents.metric_charts import MetricRun
from incidents.metric_runs import MetricRuns
from tools.prometheus.client import Prometheus
from tools.prometheus.rca.available import Available, available
from tools.prometheus.rca.look import Look, Question, look

if TYPE_CHECKING:
    from graph.services import Services

router = APIRouter(prefix="/api/v1", tags=["rca"], responses=RESPONSES)
DEFAULT_MINUTES = 30
_HEALTH_SECONDS = 5.0
_STREAM = "text/event-stream"
_DOCUMENTED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": f"One JSON document; with `Accept: {_STREAM}` events `step` on the way, then `done` or `error`",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/RcaAnswer"}}, _STREAM: {}},
    }
}
_log = structlog.get_logger(__name__)


def _time(value: str) -> str:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("must be a time of ISO 8601, such as 2026-11-20T10:00:00Z") from None
    if at.tzinfo is None:
        raise ValueError(f"has no time zone: write {value}Z for UTC, or an offset such as {value}+02:00")
    if not 1970 < at.year < 9999:
        raise ValueError("must be a time between 1971 and 9998")
    return value


Time = Annotated[str, Plain, AfterValidator(_time), WithJsonSchema({"type": "string", "format": "date-time"})]
Metric = Annotated[str, Field(min_length=1, max_length=4000), Plain]


class _Range(Body):
    start_time: Time | None = Field(default=None, examples=["2026-11-20T10:00:00Z"])
    end_time: Time | None = Field(default=None, description="Default: now")
    time_range_minutes: int = Field(
        default=DEFAULT_MINUTES, ge=1, le=44_640, description="Before the end, where no start is given"
    )
    namespace: Namespace | None = Field(default=None, description="Default: all that Prometheus has")

    def span(self) -> tuple[datetime, datetime]:
        length = timedelta(minutes=self.time_range_minutes)
        start = datetime.fromisoformat(self.start_time) if self.start_time else None
        end = datetime.fromisoformat(self.end_time) if self.end_time else None
        if end is None:
            end = utcnow() if start is None or "time_range_minutes" not in self.model_fields_set else start + length
        start = start or end - length
        if end <= start:
            raise UnusableField("end_time", f"{end.isoformat()} is not after start_time {start.isoformat()}")
        return start, end


class RcaBody(_Range):
    """What to look at. Without `metrics`: all that Prometheus has and that is known how to read."""

    metrics: Annotated[list[Metric], Field(max_length=50)] = Field(
        default=[], description="Names or PromQL", examples=[["container_memory_working_set_bytes"]]
    )
    symptom: Text | None = Field(default=None, description="What was noticed", examples=["checkout is slow"])


class RcaIncidentBody(_Range):
    """An incident in words."""

    affected_services: Annotated[list[Line], Field(min_length=1, max_length=50)]
    symptoms: Annotated[list[Line], Field(max_length=50)] = Field(default=[], examples=[["high latency"]])


class RcaMetrics(BaseModel):
    """What an analysis without `metrics` looks at, as Prometheus has it now."""

    metrics: list[Available]


class RcaHealth(BaseModel):
    status: Literal["ok", "unavailable"]
    prometheus: str = Field(description="ok, or what is wrong")
    models: str


@router.post("/rca", response_model=RcaAnswer, responses=_DOCUMENTED)
async def analyse_metrics(
    request: Request, caller: Reader, body: RcaBody, accept: Annotated[str, Header(include_in_schema=False)] = ""
) -> Response:
    """Find the workload whose measurements changed first and most, or say that there is none. Changes nothing."""
    start, end = body.span()
    question = Question(start, end, body.namespace, body.metrics, body.symptom or "")
    return await _asked(request, caller, question, accept)


@router.post("/rca/incident", response_model=RcaAnswer, responses=_DOCUMENTED)
async def analyse_incident(
    request: Request,
    caller: Reader,
    body: RcaIncidentBody,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """The same for an incident in words: the affected services are where the symptom shows."""
    start, end = body.span()
    symptom = f"{', '.join(body.affected_services)}: {'; '.join(body.symptoms) or 'affected'}"
    question = Question(start, end, body.namespace, symptom=symptom, affected=body.affected_services)
    return await _asked(request, caller, question, accept)


@router.get("/rca/metrics")
async def rca_metrics(
    request: Request, _caller: Reader, namespace: Annotated[Namespace | None, Query()] = None
) -> RcaMetrics:
    """The metrics that are looked at by themselves, with how many series there are of each."""
    return RcaMetrics(metrics=await available(_prometheus(services_of(request)), namespace, utcnow()))


@router.get("/rca/health")
async def rca_health(request: Request, _caller: Reader) -> RcaHealth:
    """Whether an analysis can be made now; always 200."""
    services = services_of(request)
    state = "ok"
    try:
        async with asyncio.timeout(_HEALTH_SECONDS):
            await _prometheus(services).instant("vector(1)")
    except TimeoutError:
        state = f"no answer within {_HEALTH_SECONDS:.0f} s"
    except ParamedicError as error:
        state = str(error)
    models = "none configured" if services.models is None else "ok"
    return RcaHealth(status="ok" if state == "ok" else "unavailable", prometheus=state, models=models)


@router.get("/rca/config")
async def rca_config(request: Request, _caller: Reader) -> RcaConfig:
    """What counts as a change, and how much is told."""
    return await current_config(MetricRuns(services_of(request).database))


@router.put("/rca/config")
async def set_rca_config(request: Request, caller: Fixer, body: RcaConfig) -> RcaConfig:
    """Set what is given; the rest stays as it was. Kept over restarts, and written to the audit log."""
    services = services_of(request)
    runs = MetricRuns(services.database)
    changed = body.model_dump(mode="json", exclude_unset=True)
    if changed:
        await runs.set_config(changed, caller.identity, services.audit)
    return await current_config(runs)


@router.get("/rca/{run_id}")
async def get_rca(request: Request, _caller: Reader, run_id: Annotated[str, Path(max_length=80)]) -> RcaAnswer:
    """An analysis that was made before."""
    return rca_answer(await _kept(request, run_id))


@router.get(
    "/rca/{run_id}/chart.{form}",
    response_class=Response,
    responses={200: {"content": {"image/svg+xml": {}, "text/html": {}, "image/png": {}}}},
)
async def rca_chart(
    request: Request,
    _caller: Reader,
    run_id: Annotated[str, Path(max_length=80)],
    form: Literal["svg", "html", "png"],
) -> Response:
    """The measurements with the band they are usually in, the onset and the events."""
    run = await _kept(request, run_id)
    if form == "png":
        return Response(await asyncio.to_thread(render.png, run.report, run.charts), media_type="image/png")
    if form == "html":
        policy = f"default-src 'none'; style-src {render.STYLE_POLICY}; frame-ancestors 'none'"
        page = render.html(run.report, run.charts)
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": policy})
    return Response(render.svg(run.report, run.charts), media_type="image/svg+xml")


@router.get("/incidents/{incident_id}/metrics")
async def incident_metrics(request: Request, _caller: Reader, incident: KnownIncident) -> RcaAnswer:
    """The analysis that the analyst made of an incident. 404 when it made none."""
    run = await MetricRuns(services_of(request).database).of_incident(incident.id)
    if run is None:
        raise NotFound(f"no measurements were compared for incident {incident.id}")
    return rca_answer(run)


async def _asked(request: Request, caller: Caller, question: Question, accept: str) -> Response:
    _prometheus(services_of(request))  # without one it is a problem, not an event
    if _STREAM in accept:
        return event_stream(_events(request, caller, question), request.app.state.draining)
    answer = await _analysed(request, caller, question, lambda _: None)
    return Response(answer.model_dump_json(), media_type="application/json")


async def _events(request: Request, caller: Caller, question: Question) -> AsyncIterator[Event]:
    """What is being done, then the answer. The analysis ends with its listener."""
    steps: asyncio.Queue[str | None] = asyncio.Queue()
    work = asyncio.create_task(_analysed(request, caller, question, steps.put_nowait))
    work.add_done_callback(lambda _: steps.put_nowait(None))
    try:
        while (text := await steps.get()) is not None:
            yield Event("step", {"text": text})
        yield Event("done", json.loads((await work).model_dump_json()))
    except ParamedicError as error:  # headers are out: an error can only be an event
        yield Event("error", {"title": error.title, "status": error.status, "detail": str(error)})
    except Exception as error:
        _log.error("an analysis failed", exc_info=error)
        yield Event("error", {"title": "Internal error", "status": 500, "detail": "the log of the service has it"})
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def _analysed(request: Request, caller: Caller, question: Question, tell: Callable[[str], None]) -> RcaAnswer:
    services = services_of(request)
    runs = MetricRuns(services.database)
    turn: asyncio.Semaphore = request.app.state.rca_turn
    if turn.locked():
        tell("waiting for other analyses")
    async with turn:
        found: Look = await look(
            _prometheus(services),
            question,
            cluster=services.cluster,
            config=await current_config(runs),
            progress=tell,
        )
    if services.models is not None:
        tell("asking the model")
    report = await explained(services.models, found.report)
    return rca_answer(await runs.save(report, found.charts, requested_by=caller.identity))


def _prometheus(services: Services) -> Prometheus:
    if services.monitoring.prometheus is None:
        raise ToolMissing("no Prometheus is configured: set prometheus.url (PARAMEDIC_PROMETHEUS__URL)")
    return services.monitoring.prometheus


async def _kept(request: Request, run_id: str) -> MetricRun:
    return await MetricRuns(services_of(request).database).get(checked_id(run_id, "analysis"))
