"""What charts of an analysis are drawn from: the series that its report names, thinned for an eye."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from incidents.metric_report import Direction, MetricReport
from incidents.models import Frozen


class ChartedSeries(Frozen):
    """One series of a ranked workload. `times` are seconds since 1970; null in `values`: nothing was measured then."""

    rank: int = Field(ge=1)
    entity: str
    name: str
    labels: dict[str, str]
    unit: str | None = None
    direction: Direction
    onset: datetime | None = None
    low: float | None = Field(default=None, description="Lower end of the band that the baseline was in")
    median: float | None = None
    high: float | None = None
    evidence_id: str
    times: list[float]
    values: list[float | None]


class MetricRun(Frozen):
    """One analysis as it is kept."""

    id: str
    created_at: datetime
    requested_by: str
    incident_id: str | None = None
    report: MetricReport
    charts: list[ChartedSeries] = Field(default_factory=list)
