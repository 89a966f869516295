"""What a caller may set of an analysis. No setting has a unit of the data: scores are relative to each series."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from incidents.models import Frozen

DetectorName = Literal["zscore", "iqr", "isolation_forest", "dbscan", "change_point", "trend", "seasonal", "streaming"]


class RcaConfig(Frozen):
    """Defaults are those that the benchmarks print."""

    detectors: tuple[DetectorName, ...] = Field(
        default=("zscore", "iqr", "change_point"), description="Their episodes are told beside each metric"
    )
    anomaly_threshold: float = Field(
        default=0.48,
        gt=0,
        lt=1,
        description="A workload's score, of 0 to 1, from which it is a root cause; half after a calm baseline",
    )
    correlation_threshold: float = Field(default=0.7, ge=0, le=1, description="Least coefficient of an association")
    false_discovery_rate: float = Field(default=0.05, gt=0, le=0.5)
    max_series: int = Field(default=5_000, ge=1, le=50_000, description="More are cut, and the answer says so")
    max_workloads: int = Field(default=10, ge=1, le=100)
    max_metrics: int = Field(default=8, ge=1, le=100, description="Of one workload")
    event_lead_seconds: float = Field(
        default=600, ge=0, le=86_400, description="A change so long before the onset is told beside it"
    )
