"""From series to a report: which workload's measurements changed first and most, or that none did."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from diagnosis.metrics.config import RcaConfig
from diagnosis.metrics.edges import Edge
from diagnosis.metrics.series import MetricSeries
from diagnosis.metrics.subject import Owners
from errors import InvalidInput
from incidents.metric_report import DataQuality, MetricReport, MetricStatus
from incidents.models import Moment

_DEFAULT = RcaConfig()


def analyze(
    series: Sequence[MetricSeries],
    *,
    window: tuple[datetime, datetime] | None = None,
    baseline: tuple[datetime, datetime] | None = None,
    onset: datetime | None = None,
    edges: Sequence[Edge] = (),
    owners: Owners | None = None,
    moments: Sequence[Moment] = (),
    symptom: str = "",
    config: RcaConfig = _DEFAULT,
) -> MetricReport:
    """What changed within `window` (by default all that the series cover) against what was usual before.

    `baseline` is what to compare with; by default everything before the onset. Without an `onset` it is searched within
    the window over all series. `moments` is the timeline of the workloads.
    Raises InvalidInput for no series, a time without a zone, and a range that ends before it starts.
    """
    for at in (*(window or ()), *(baseline or ()), *((onset,) if onset else ())):
        if at.tzinfo is None:
            raise InvalidInput(f"the time {at.isoformat()} has no time zone: add Z or an offset such as +02:00")
    for what, span in (("window", window), ("baseline", baseline)):
        if span is not None and span[1] <= span[0]:
            raise InvalidInput(
                f"the {what} ends at {span[1].isoformat()}, before or at its start {span[0].isoformat()}"
            )
    if not series:
        raise InvalidInput("there is no series to analyze")
    return MetricReport(
        status=MetricStatus.UNKNOWN,
        symptom=symptom,
        data_quality=DataQuality(series=len(series), used=0),
        summary="Nothing was analyzed.",
    )
