"""Load prediction: how many instances the load to come needs, as an answer, a trend, a metric for KEDA, or a plan."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, BaseModel, Field

from agents.forecast_report import LONGEST
from api.answers import IncidentLinks, incident_answer
from api.auth import Fixer, Reader
from api.dependencies import services_of
from api.fields import Body
from api.problems import RESPONSES, UnusableField
from errors import ToolMissing
from incidents.database import utcnow
from incidents.forecast import ForecastHealth, ForecastInfo, KedaMetric, Prediction, Trend

if TYPE_CHECKING:
    from agents.forecaster import Forecaster

router = APIRouter(prefix="/api/v1/predict", tags=["predict"], responses=RESPONSES)

_MAX_HORIZON = LONGEST.total_seconds()
Load = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False, description="The present load")]
Moment = Annotated[
    AwareDatetime,
    Field(strict=False, description="When the question is asked, with a time zone; by default now"),
]
Horizon = Annotated[
    float,
    Field(ge=0, le=_MAX_HORIZON, allow_inf_nan=False, description="Seconds; by default until a new instance serves"),
]
Hours = Annotated[int, Field(ge=1, le=168)]
Service = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$", description="By default the first configured")]


class PredictRequest(Body):
    current_qps: Load | None = None
    timestamp: Moment | None = None
    service: Service | None = None
    horizon: Horizon | None = None
    include_confidence: bool = True


class TrendRequest(Body):
    hours_ahead: Hours = 24
    current_qps: Load | None = None
    service: Service | None = None


class ProposeRequest(Body):
    service: Service | None = None
    current_qps: Load | None = None
    horizon: Horizon | None = None


class ReloadRequest(Body):
    service: Service | None = Field(default=None, description="By default all")


class ReloadAnswer(BaseModel):
    """Until the new forecasts are trained the older ones answer; `/predict/info` tells when that was."""

    services: list[str]


class ProposeAnswer(BaseModel):
    """An incident that waits for approval. Nothing is scaled before."""

    incident_id: str
    replicas: int
    title: str = Field(description="Of the plan")
    diff: str = Field(description="What would change, from the server's dry run")
    prediction: Prediction
    links: IncidentLinks


@router.get("")
async def predict(
    request: Request,
    _: Reader,
    current_qps: Annotated[Load | None, Query()] = None,
    timestamp: Annotated[Moment | None, Query()] = None,
    service: Annotated[Service | None, Query()] = None,
    horizon: Annotated[Horizon | None, Query()] = None,
    include_confidence: Annotated[bool, Query()] = True,
) -> Prediction:
    """Instances for max(present load, upper quantile of the load when a new instance could serve), and why."""
    return await _predict(
        _forecaster(request), service, current_qps, timestamp, horizon, include_confidence=include_confidence
    )


@router.post("")
async def predict_with_body(request: Request, _: Reader, body: PredictRequest) -> Prediction:
    """The same, with the question in the body."""
    return await _predict(
        _forecaster(request), body.service, body.current_qps, body.timestamp, body.horizon,
        include_confidence=body.include_confidence,
    )  # fmt: skip


@router.get("/trend")
async def trend(
    request: Request,
    _: Reader,
    hours_ahead: Annotated[Hours, Query()] = 24,
    current_qps: Annotated[Load | None, Query()] = None,
    service: Annotated[Service | None, Query()] = None,
) -> Trend:
    """The load of the coming hours, and instances for it. Without a forecast there are no points, and why."""
    return await _forecaster(request).trend(service, hours_ahead, current_qps)


@router.post("/trend")
async def trend_with_body(request: Request, _: Reader, body: TrendRequest) -> Trend:
    """The same, with the question in the body."""
    return await _forecaster(request).trend(body.service, body.hours_ahead, body.current_qps)


@router.get("/info")
async def forecast_info(request: Request, _: Reader) -> ForecastInfo:
    """The configured services: what answers for each, and how it did in the back-test."""
    return _forecaster(request).info()


@router.get("/health")
async def forecast_health(request: Request, _: Reader) -> ForecastHealth:
    """Which services have a forecast. Nothing is asked for it."""
    return _forecaster(request).health()


@router.get("/keda")
async def keda_metric(request: Request, _: Reader, service: Annotated[Service | None, Query()] = None) -> KedaMetric:
    """Instances as a number, for KEDA's metrics-api scaler (`valueLocation: value`, `targetValue: "1"`). An error,
    which KEDA's `fallback` is for, when neither the present load nor a forecast is known."""
    found = await _forecaster(request).predict(service)
    return KedaMetric(value=found.instances, service=found.service, decided_by=found.decided_by)


@router.post("/models/reload", status_code=202)
async def reload_models(request: Request, _: Fixer, body: ReloadRequest | None = None) -> ReloadAnswer:
    """Have forecasts trained anew now, before that is due."""
    return ReloadAnswer(services=_forecaster(request).retrain(body.service if body else None))


@router.post("/propose", status_code=202)
async def propose_scale(request: Request, caller: Fixer, body: ProposeRequest) -> ProposeAnswer:
    """Ask people to scale the service's workload to what is predicted: a plan that needs an approval like any other."""
    services = services_of(request)
    forecaster = _forecaster(request)
    if services.scaling is None:
        raise ToolMissing("no cluster is connected, so there is nothing to scale")
    service = forecaster.service(body.service)
    horizon = timedelta(seconds=body.horizon) if body.horizon is not None else None
    found = await forecaster.predict(service.name, current=body.current_qps, horizon=horizon)
    stated = body.current_qps is not None
    proposed = await services.scaling.propose(found, service, caller.identity, stated=stated)
    return ProposeAnswer(
        incident_id=proposed.incident.id,
        replicas=found.instances,
        title=proposed.plan.title,
        diff=proposed.plan.diff,
        prediction=found,
        links=incident_answer(proposed.incident).links,
    )


async def _predict(
    forecaster: Forecaster,
    service: str | None,
    current: float | None,
    timestamp: datetime | None,
    horizon: float | None,
    *,
    include_confidence: bool,
) -> Prediction:
    now = utcnow()
    if timestamp is not None and not datetime(1970, 1, 2, tzinfo=UTC) <= timestamp <= now + LONGEST:
        raise UnusableField("timestamp", "must be between 1970 and a week from now")
    at = timestamp.astimezone(UTC) if timestamp is not None else None
    ahead = timedelta(seconds=horizon) if horizon is not None else None
    found = await forecaster.predict(service, current=current, at=at, horizon=ahead)
    return found if include_confidence else found.model_copy(update={"confidence": None})


def _forecaster(request: Request) -> Forecaster:
    forecaster = services_of(request).forecaster
    if forecaster is None:
        raise ToolMissing("load prediction is not running here")
    return forecaster
