"""What a load prediction says, as `/api/v1/predict` and `paramedic predict --json` give it. Loads are in the unit of
the configured query (usually requests a second); times are UTC, durations in seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from incidents.models import Frozen

SCHEMA_VERSION = "1"


class BackTestReport(Frozen):
    """How the answering forecast did on the service's own past, from many origins with what was known then."""

    range: Literal["hour", "day", "week"] = Field(description="Horizons of up to so long were tested together")
    members: list[str] = Field(description="The forecast is their mean")
    mae: float = Field(description="Mean absolute error, in load")
    seasonal_naive: str = Field(description="Which seasonal naive forecast it is compared with")
    seasonal_naive_mae: float
    skill: float = Field(description="1 - mae / seasonal_naive_mae: negative when seasonal naive is better")
    beats_seasonal_naive: bool
    mase: dict[str, float] = Field(description="Of each candidate: its error over that of the day before")
    origins: int
    coverage: float | None = Field(description="Measured share of loads at or below the upper quantile; null: too few")
    interval_coverage: float | None = Field(description="Measured share within the 80 % interval; null: too few")


class DriftReport(Frozen):
    """The newest day against what was forecast for it."""

    drifted: bool
    within: float = Field(description="Share of loads within the 80 % interval")
    mae: float
    usual_mae: float = Field(description="That of the back-test")


class Prediction(Frozen):
    """How many instances are needed, and why."""

    schema_version: str = SCHEMA_VERSION
    service: str | None = Field(description="null: none is configured")
    instances: int
    decided_by: Literal["reactive", "forecast", "minimum", "maximum"] = Field(
        description="The present load, the load to come, or a bound"
    )
    reactive_instances: int | None = Field(description="What the present load needs; null: it is not known")
    forecast_instances: int | None = Field(description="What the upper quantile needs; null: there is no forecast")
    per_instance: float = Field(description="Load that one instance bears")
    min_instances: int
    max_instances: int
    current_qps: float | None
    timestamp: datetime = Field(description="When the question is asked")
    target_time: datetime = Field(description="What the forecast is for: `timestamp` + `horizon`")
    horizon: float = Field(description="Seconds; by default the time until a new instance serves")
    forecast_qps: float | None = None
    lower_qps: float | None = Field(default=None, description="Of the 80 % interval")
    higher_qps: float | None = Field(default=None, description="Of the 80 % interval")
    upper_qps: float | None = Field(default=None, description="The quantile that is provided for")
    quantile: float
    confidence: float | None = Field(
        default=None, description="Measured coverage of `upper_qps` in the back-test; null: no forecast, or not asked"
    )
    model_version: str = Field(description="What answered, and when it was trained")
    trained_at: datetime | None = None
    history_days: float = 0.0
    back_test: BackTestReport | None = None
    drift: DriftReport | None = None
    features: dict[str, float | None] = Field(description="Loads of the history around the question; null: not known")
    reasons: list[str] = Field(description="Why the answer is no better than it is; empty: nothing is missing")


class TrendPoint(Frozen):
    timestamp: datetime
    qps: float
    lower_qps: float
    higher_qps: float
    upper_qps: float
    instances: int


class Trend(Frozen):
    """The load of the coming hours, a point an hour: of each the greatest within that hour."""

    schema_version: str = SCHEMA_VERSION
    service: str | None
    hours_ahead: int
    timestamp: datetime
    current_qps: float | None
    points: list[TrendPoint]
    max_instances_needed: int | None = Field(description="null: there is no forecast")
    quantile: float
    confidence: float | None
    model_version: str
    back_test: BackTestReport | None = None
    reasons: list[str]


class ServiceInfo(Frozen):
    """What is known of one configured service."""

    service: str
    source: Literal["prometheus", "csv"]
    per_instance: float
    min_instances: int
    max_instances: int
    lead_seconds: float
    target: str | None = Field(description="What proposals scale")
    trained_at: datetime | None = None
    history_days: float | None = None
    history_until: datetime | None = None
    step_seconds: float | None = None
    models: list[BackTestReport] = Field(default_factory=list)
    drift: DriftReport | None = None
    reasons: list[str] = Field(default_factory=list)


class ForecastInfo(Frozen):
    services: list[ServiceInfo]
    candidates: list[str]
    quantile: float
    history_days: float
    retrain_seconds: float


class ForecastHealth(Frozen):
    """`healthy`: every service has a forecast; `degraded`: some answer by their present load alone."""

    status: Literal["healthy", "degraded", "not_configured"]
    services: dict[str, str] = Field(description="`ready`, `not trained yet`, or why there is no forecast")


class KedaMetric(Frozen):
    """For KEDA's metrics-api scaler: `valueLocation: value`, `targetValue: "1"`."""

    value: int = Field(description="Instances")
    service: str | None
    decided_by: str
