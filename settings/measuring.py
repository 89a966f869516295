"""Servers of measurements and alerts, and what is forecast from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from settings.section import Section, distinct

_SERVER = r"^https?://[^/@\s?#]+(/[^\s?#]*)?$"


class MonitoringSettings(Section):
    """A server that measurements or alerts are read from, never written to."""

    url: Annotated[str, Field(pattern=_SERVER)] | None = Field(default=None, description="Empty: it is not asked")
    bearer_token_file: Path | None = Field(default=None, description="Read at each request; a mounted one is renewed")
    ca: Path | None = Field(default=None, description="PEM file of the authorities that its certificate may be from")
    timeout: float = Field(default=10.0, gt=0, le=120, description="Of one request")
    max_bytes: int = Field(default=32 << 20, ge=1024, description="Of one answer")


class PrometheusSettings(MonitoringSettings):
    """Prometheus, or what answers its HTTP API."""


class AlertmanagerSettings(MonitoringSettings):
    """Alertmanager. Without one, alerts are those of Prometheus' own rules."""


class ForecastService(Section):
    """A load that is forecast, and what bears it."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")
    query: str | None = Field(
        default=None, min_length=1, max_length=8192, description="PromQL of the whole load, one series"
    )
    csv: Path | None = Field(default=None, description="Instead: a table with a time column and a load")
    column: str | None = Field(default=None, description="Of the table, where it has several")
    per_instance: float = Field(default=100.0, gt=0, allow_inf_nan=False, description="Load that one instance bears")
    min_instances: int = Field(default=1, ge=0, le=1000)
    max_instances: int = Field(default=20, ge=1, le=1000)
    lead_seconds: float = Field(
        default=300.0, ge=0, le=86_400, description="From a decision until a new instance serves"
    )
    namespace: str | None = None
    workload: str | None = Field(
        default=None, pattern=r"^(Deployment|StatefulSet)/[a-z0-9][a-z0-9.-]*$", description="That proposals scale"
    )

    @model_validator(mode="after")
    def _complete(self) -> ForecastService:
        if (self.query is None) == (self.csv is None):
            raise ValueError(f"service {self.name} needs query or csv")
        if self.min_instances > self.max_instances:
            raise ValueError(f"service {self.name} has min_instances above max_instances")
        if (self.namespace is None) != (self.workload is None):
            raise ValueError(f"service {self.name} needs namespace and workload, or neither")
        return self


class ForecastSettings(Section):
    """Load prediction, `/api/v1/predict`."""

    services: list[ForecastService] = Field(
        default_factory=list, max_length=200, description="The first is the one that requests mean that name none"
    )
    history_days: float = Field(default=84.0, ge=3, le=366, description="So much is asked for; less is used as well")
    step_seconds: float = Field(default=300.0, ge=60, le=14_400)
    quantile: float = Field(default=0.95, ge=0.5, le=0.999, description="Of the load to come that is provided for")
    retrain_seconds: float = Field(default=21_600.0, ge=300, description="Between two trainings")
    boosting: bool = Field(default=True, description="Try gradient boosting too, where scikit-learn is installed")
    per_instance: float = Field(
        default=100.0, gt=0, allow_inf_nan=False, description="Where no service is configured; as the two below"
    )
    min_instances: int = Field(default=1, ge=0, le=1000)
    max_instances: int = Field(default=20, ge=1, le=1000)

    @field_validator("services")
    @classmethod
    def _names(cls, value: list[ForecastService]) -> list[ForecastService]:
        distinct("services", [service.name for service in value])
        return value
