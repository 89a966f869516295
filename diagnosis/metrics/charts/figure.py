"""The figure of an analysis: a panel for each series, with what was usual, the onset and the events in it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from datetime import UTC, datetime

from diagnosis.metrics.charts.canvas import Canvas, Point
from incidents.metric_charts import ChartedSeries
from incidents.metric_report import EventBeside, MetricReport, MetricStatus

WIDTH = 1000
_MARGIN, _GAP, _COLUMNS = 20, 18, 2
_PANEL = (WIDTH - 2 * _MARGIN - _GAP * (_COLUMNS - 1)) / _COLUMNS
_PLOT, _TITLE, _AXIS = 104, 22, 22
PANEL_HEIGHT = _PLOT + _AXIS
EVENTS_TITLE = "What happened near the onset"
_LABELS = 64
_TITLE_ROOM = 66
"""Characters above a panel, so that it does not run into the next one."""
_HEAD = 66
_EVENT_LINE = 18
_MAX_EVENTS = 12
_GAP_STEPS = 3.5
_INK, _MUTED, _GRID = "#111827", "#6b7280", "#e5e7eb"
_SERIES, _BAND, _MEDIAN, _ONSET, _AFTER, _EVENT = "#1d4ed8", "#dbeafe", "#60a5fa", "#dc2626", "#fef2f2", "#b45309"
_STATUS = {
    MetricStatus.FOUND: ("Root cause found", "#b91c1c"),
    MetricStatus.NO_ROOT_CAUSE: ("No root cause: nothing changed more than it does by itself", "#15803d"),
    MetricStatus.UNKNOWN: ("Unknown: too little was seen to say", "#a16207"),
}
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def height(report: MetricReport, charts: Sequence[ChartedSeries]) -> int:
    """Of the whole figure, in pixels."""
    rows = sum(_rows(group) for group in groups(charts))
    heads = len(groups(charts)) * 26
    events = (len(report.events[:_MAX_EVENTS]) * _EVENT_LINE + 30) if report.events else 0
    return int(_HEAD + heads + rows * (_TITLE + _PLOT + _AXIS + 10) + events + _MARGIN)


def draw(canvas: Canvas, report: MetricReport, charts: Sequence[ChartedSeries]) -> None:
    """Draw all of it, from the top down."""
    canvas.rect(0, 0, WIDTH, height(report, charts), "#ffffff")
    said, colour, details = heading(report)
    canvas.text(_MARGIN, 28, said, size=18, colour=colour, bold=True)
    canvas.text(_MARGIN, 50, details, colour=_MUTED)
    span = span_of(charts)
    y: float = _HEAD
    for group in groups(charts):
        canvas.text(_MARGIN, y + 16, f"{group[0].rank}. {_cut(group[0].entity, 100)}", size=15, bold=True)
        y += 26
        for index, one in enumerate(group):
            x = _MARGIN + (index % _COLUMNS) * (_PANEL + _GAP)
            canvas.text(x, y + 14, title(one), bold=True)
            panel(canvas, x, y + _TITLE, _PANEL, one, report, span)
            if index % _COLUMNS == _COLUMNS - 1 or index == len(group) - 1:
                y += _TITLE + _PLOT + _AXIS + 10
    _events(canvas, y + 6, report)


def heading(report: MetricReport) -> tuple[str, str, str]:
    """What was found, its colour, and the line below it."""
    said, colour = _STATUS[report.status]
    top = report.workloads[0] if report.status is MetricStatus.FOUND and report.workloads else None
    parts = []
    if report.window:
        parts.append(f"{report.window.start:%Y-%m-%d %H:%M:%S} to {report.window.end:%H:%M:%S} UTC")
    if report.onset:
        parts.append(f"onset {report.onset:%H:%M:%S}")
    parts.append(f"{report.data_quality.used} of {report.data_quality.series} series used")
    return f"{said}: {_cut(top.entity, 80)}" if top else said, colour, " · ".join(parts)


def span_of(charts: Sequence[ChartedSeries]) -> tuple[float, float]:
    """The times that all panels cover, in seconds since 1970."""
    first = min((one.times[0] for one in charts if one.times), default=0.0)
    last = max((one.times[-1] for one in charts if one.times), default=1.0)
    return first, max(last, first + 1e-3)


def panel(
    canvas: Canvas,
    x: float,
    y: float,
    width: float,
    one: ChartedSeries,
    report: MetricReport,
    span: tuple[float, float],
) -> None:
    """One series in a box `PANEL_HEIGHT` high, without its title."""
    left, top, right, bottom = x + _LABELS, y, x + width, y + _PLOT
    known = [value for value in one.values if value is not None]
    known += [value for value in (one.low, one.high) if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    low, high = (max(0.0, low - room) if low >= 0 else low - room), high + room

    def across(at: float) -> float:
        return left + (min(max(at, span[0]), span[1]) - span[0]) / (span[1] - span[0]) * (right - left)

    def down(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    onset = (one.onset or report.onset).timestamp() if (one.onset or report.onset) else None  # type: ignore[union-attr]
    canvas.rect(left, top, right - left, bottom - top, "#f9fafb")
    if onset is not None:
        canvas.rect(across(onset), top, right - across(onset), bottom - top, _AFTER)
    if one.low is not None and one.high is not None:
        upper, lower = down(one.high), down(one.low)
        canvas.rect(left, upper, right - left, max(lower - upper, 1), _BAND, tip="where the baseline was")
    for share in (0.0, 0.5, 1.0):
        value = low + room * 0.9 + (high - low - 1.8 * room) * share
        canvas.line([(left, down(value)), (right, down(value))], _GRID)
        canvas.text(left - 6, down(value) + 4, number(value), size=11, colour=_MUTED, anchor="end")
    if one.median is not None:
        canvas.line([(left, down(one.median)), (right, down(one.median))], _MEDIAN, dashed=True)
    for run in _runs(one):
        path = [(across(at), down(value)) for at, value in run]
        if len(path) == 1:
            canvas.rect(path[0][0] - 1, path[0][1] - 1, 2, 2, _SERIES)
        else:
            canvas.line(path, _SERIES, width=1.6)
    if onset is not None:
        canvas.line([(across(onset), top), (across(onset), bottom)], _ONSET, width=1.5, dashed=True)
    for index, event in enumerate(events_shown(report), start=1):
        at = event.moment.at.timestamp()
        if span[0] <= at <= span[1]:
            tip: list[Point] = [(across(at), bottom), (across(at) - 4, bottom + 7), (across(at) + 4, bottom + 7)]
            canvas.polygon(tip, _EVENT, tip=f"{index}: {event.moment.text}")
    canvas.text(left, bottom + 18, _clock(span[0]), size=11, colour=_MUTED)
    canvas.text(right, bottom + 18, _clock(span[1]), size=11, colour=_MUTED, anchor="end")
    if onset is not None:
        middle = min(max(across(onset), left + 90), right - 90)
        canvas.text(middle, bottom + 18, f"onset {_clock(onset)}", size=11, colour=_ONSET, anchor="middle")


def _events(canvas: Canvas, y: float, report: MetricReport) -> None:
    shown = events_shown(report)
    if not shown:
        return
    canvas.text(_MARGIN, y + 12, EVENTS_TITLE, size=15, bold=True)
    y += 32
    for index, event in enumerate(shown, start=1):
        canvas.polygon([(_MARGIN + 4, y - 9), (_MARGIN, y - 2), (_MARGIN + 8, y - 2)], _EVENT)
        canvas.text(
            _MARGIN + 16, y, f"{index}. {event.moment.at:%H:%M:%S}  {_cut(event.moment.text, 100)}", colour=_INK
        )
        canvas.text(WIDTH - _MARGIN, y, when(event), colour=_MUTED, anchor="end")
        y += _EVENT_LINE


def when(event: EventBeside) -> str:
    """How long before or after the onset."""
    before = event.seconds_before_onset
    return f"{abs(before):.0f} s {'before' if before >= 0 else 'after'} the onset"


def events_shown(report: MetricReport) -> list[EventBeside]:
    """The events that matter most, in the order of time."""
    return sorted(report.events[:_MAX_EVENTS], key=lambda event: event.moment.at)


def groups(charts: Sequence[ChartedSeries]) -> list[list[ChartedSeries]]:
    """By workload, in the order of their rank."""
    found: dict[tuple[int, str], list[ChartedSeries]] = {}
    for one in charts:
        found.setdefault((one.rank, one.entity), []).append(one)
    return [found[key] for key in sorted(found)]


def _rows(group: Sequence[ChartedSeries]) -> int:
    return math.ceil(len(group) / _COLUMNS)


def _runs(one: ChartedSeries) -> list[list[tuple[float, float]]]:
    """Stretches without a gap: a value that is missing, or samples much farther apart than they are mostly."""
    steps = sorted(later - earlier for earlier, later in itertools.pairwise(one.times))
    far = _GAP_STEPS * steps[len(steps) // 2] if steps else math.inf
    runs: list[list[tuple[float, float]]] = [[]]
    before = -math.inf
    for at, value in zip(one.times, one.values, strict=True):
        if value is None or at - before > far:
            runs.append([])
        if value is not None:
            runs[-1].append((at, value))
            before = at
    return [run for run in runs if run]


def title(one: ChartedSeries, room: int = _TITLE_ROOM) -> str:
    """Of so many characters at most: whose and in what unit stays readable where the metric's name is long."""
    inside = [one.labels[key] for key in ("pod", "container", "node") if one.labels.get(key)]
    caller = one.labels.get("source_workload") or one.labels.get("client")
    if caller:
        inside.insert(0, f"called by {caller}")
    unit = f" ({_cut(one.unit, 16)})" if one.unit else ""
    whose = _cut(f" · {' · '.join(inside)}", room // 2) if inside else ""
    name, colon, form = one.name.rpartition(":")  # such as :mean
    tail = f"{colon}{form}" if name and len(form) < 16 else ""
    head = one.name.removesuffix(tail)
    return _cut(head, room - len(tail) - len(whose) - len(unit)) + tail + whose + unit


def number(value: float) -> str:
    """Three digits, with k, M, G, T for thousands."""
    size = abs(value)
    for factor, sign in _PREFIXES:
        if size >= factor:
            return f"{value / factor:.3g}{sign}"
    return f"{value:.3g}"


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}"


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"
