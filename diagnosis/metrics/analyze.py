"""From series to a report: which workload's measurements changed first and most, or that none did."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from diagnosis.metrics.beside import changed_before, events_beside, with_changes
from diagnosis.metrics.config import RcaConfig
from diagnosis.metrics.describe import at
from diagnosis.metrics.edges import Edge
from diagnosis.metrics.evaluate import Rows, best_onset, by_itself
from diagnosis.metrics.grid import Grid, on_grid
from diagnosis.metrics.history import ENOUGH, began_late, lacking, measured_since
from diagnosis.metrics.quality import quality_of
from diagnosis.metrics.report import tell
from diagnosis.metrics.series import MetricSeries, plain
from diagnosis.metrics.subject import Owners
from diagnosis.metrics.summary import summary
from errors import InvalidInput
from incidents.metric_report import DataQuality, MetricReport, MetricStatus, Span
from incidents.models import Moment

_DEFAULT = RcaConfig()
_LEAST_BINS = 8
_BASELINE_WINDOWS, _BASELINE_SECONDS = 4.0, 1800.0
_DOUBT = 2  # bins before the onset that may hold its beginning
_PAST_SHARE = 4
"""A change within the first so manyth part of few samples has no past that it could be compared with."""
_LONG_BASELINE = 60
_CALM_SHARE, _CALM_TIMES = 0.5, 3.0
"""Half of the threshold is enough where a long baseline never shows a third of it by itself."""
_SYMPTOM_CHARS = 500

Range = tuple[datetime, datetime]


def analyze(
    series: Sequence[MetricSeries],
    *,
    window: Range | None = None,
    baseline: Range | None = None,
    onset: datetime | None = None,
    edges: Sequence[Edge] = (),
    owners: Owners | None = None,
    moments: Sequence[Moment] = (),
    symptom: str = "",
    config: RcaConfig = _DEFAULT,
) -> MetricReport:
    """What changed within `window` (by default all that the series cover) against what was usual before.

    `baseline` is what to compare with; by default what lies before the onset, up to four times the window's length
    before the window, so give series that begin well before it. Without an `onset` it is searched in the window over
    all series. `edges` beside those that the series tell (a mesh's or a trace's source and destination); `moments` is
    the timeline of the workloads.
    Raises InvalidInput for no series, a time without a zone, and a range that does not end after its start.
    """
    _check(series, window, baseline, onset)
    used = list(series[: config.max_series])
    begin = baseline[0].timestamp() if baseline else _begin(window)
    grid = on_grid(used, begin, window[1].timestamp() if window else None)
    if grid is None or grid.bins < _LEAST_BINS:
        return _unknown(
            series, used, grid, window, symptom, f"not enough history: no series has {_LEAST_BINS} samples in the range"
        )
    rows = Rows.of(grid, edges, owners)
    known = {*rows.entities, *rows.callings} - {""}
    first, last = min(ENOUGH, grid.bins // _PAST_SHARE), grid.bins
    if window:
        first = max(first, grid.first_at(window[0].timestamp()))
    usual_end = min(grid.bins, grid.first_at(baseline[1].timestamp())) if baseline else None
    given = grid.first_at(onset.timestamp()) if onset else None
    if given is not None and not 1 <= given < grid.bins:
        return _unknown(
            series, used, grid, window, symptom, "the onset given has no sample before it, or none after it"
        )
    found = best_onset(grid, rows, first, last, given=given, usual_end=usual_end)
    if found is None or not found.ranking:
        why = "no series names a workload, a pod, a service or a node" if found else "the window holds too few samples"
        return _unknown(series, used, grid, window, symptom, why)
    changed_at = at(grid, found.onset)
    recent = changed_before(moments, changed_at, config.event_lead_seconds, known, owners, 2 * grid.step)
    ranking = with_changes(found.ranking, recent, rows.calls)
    usual_end = found.onset if usual_end is None else min(usual_end, found.onset)
    past = by_itself(grid, rows, usual_end - _DOUBT, found)
    needed = config.anomaly_threshold
    if usual_end >= _LONG_BASELINE:
        needed = min(needed, max(_CALM_SHARE * needed, _CALM_TIMES * past))
    status = MetricStatus.FOUND if found.top >= needed else MetricStatus.NO_ROOT_CAUSE
    asked = (window[0].timestamp(), window[1].timestamp()) if window and not baseline else None
    cause = status is MetricStatus.FOUND
    # where nothing changed the likeliest onset means nothing: all that was measured tells so
    lacks = lacking(grid, rows.entities, found.onset if cause else grid.bins, usual_end if cause else grid.bins, asked)
    if lacks:
        status, cause = MetricStatus.UNKNOWN, False
    since = measured_since(grid, rows.entities)
    late = lacks or (began_late(since) if asked and since > asked[0] + grid.step else "")
    contaminated = past >= config.anomaly_threshold
    quality = quality_of(series, used, grid, found.onset, usual_end, contaminated, late, bool(lacks))
    told = tell(grid, rows, found, ranking, usual_end, plain(symptom[:_SYMPTOM_CHARS]), config)
    quality = quality.model_copy(update={"warnings": [*quality.warnings, *told.warnings]})
    top = [each.entity for each in told.workloads]
    beside = (
        events_beside(moments, changed_at, config.event_lead_seconds, top, known, rows.calls, owners) if cause else []
    )
    return MetricReport(
        status=status,
        onset=changed_at if cause or onset else None,
        onset_given=onset is not None,
        window=_span(window) or Span(start=at(grid, 0), end=at(grid, grid.bins - 1)),
        baseline=Span(start=at(grid, 0), end=at(grid, usual_end - 1)),
        symptom=symptom[:_SYMPTOM_CHARS],
        threshold=round(needed, 4),
        workloads=told.workloads if cause else [],
        considered=[] if cause else told.workloads,
        associations=told.associations if cause else [],
        events=beside,
        data_quality=quality,
        summary=summary(status, changed_at, told.workloads, beside, quality, lacks),
        evidence=told.evidence,
    )


def _begin(window: Range | None) -> float | None:
    """Without a baseline: four windows before the window, half an hour at least. Series may begin days earlier, and a
    grid over all of that would be too coarse for the window."""
    if window is None:
        return None
    length = (window[1] - window[0]).total_seconds()
    return window[0].timestamp() - max(_BASELINE_WINDOWS * length, _BASELINE_SECONDS)


def _check(
    series: Sequence[MetricSeries], window: Range | None, baseline: Range | None, onset: datetime | None
) -> None:
    for moment in (*(window or ()), *(baseline or ()), *((onset,) if onset else ())):
        if moment.tzinfo is None:
            raise InvalidInput(f"the time {moment.isoformat()} has no time zone: add Z or an offset such as +02:00")
    for what, span in (("window", window), ("baseline", baseline)):
        if span is not None and span[1] <= span[0]:
            raise InvalidInput(f"the {what} ends at {span[1].isoformat()}, not after its start {span[0].isoformat()}")
    if not series:
        raise InvalidInput("there is no series to analyze")


def _span(window: Range | None) -> Span | None:
    return Span(start=window[0].astimezone(UTC), end=window[1].astimezone(UTC)) if window else None


def _unknown(
    series: Sequence[MetricSeries],
    used: list[MetricSeries],
    grid: Grid | None,
    window: Range | None,
    symptom: str,
    why: str,
) -> MetricReport:
    quality = DataQuality(
        series=len(series), used=len(used) if grid else 0, cut=len(series) - len(used), warnings=[why]
    )
    return MetricReport(
        status=MetricStatus.UNKNOWN,
        window=_span(window),
        symptom=symptom[:_SYMPTOM_CHARS],
        data_quality=quality,
        summary=summary(MetricStatus.UNKNOWN, None, [], [], quality, why),
    )
