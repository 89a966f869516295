"""The report as a text, written by rules alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from diagnosis.metrics.describe import number, stamp
from incidents.metric_report import (
    DataQuality,
    Direction,
    EventBeside,
    MetricChange,
    MetricStatus,
    RankedWorkload,
)

_WORDS = {
    Direction.UP: "rose",
    Direction.DOWN: "fell",
    Direction.BEGAN: "began to be measured",
    Direction.ENDED: "is no longer measured",
}


def summary(
    status: MetricStatus,
    onset: datetime | None,
    ranked: Sequence[RankedWorkload],
    events: Sequence[EventBeside],
    quality: DataQuality,
    why_unknown: str = "",
) -> str:
    """Two to six sentences. Every number in it stands in the report too."""
    if status is MetricStatus.UNKNOWN:
        return f"Nothing can be said: {why_unknown}."
    if status is MetricStatus.NO_ROOT_CAUSE:
        said = f"No root cause: none of the {quality.used} series changed more than it does by itself."
        if ranked and ranked[0].metrics:
            said += f" What changed most is {ranked[0].object}: {change_said(ranked[0].metrics[0])}."
    else:
        first = ranked[0]
        since = f" at {stamp(onset)}" if onset else ""
        said = f"{first.object} is the likeliest root cause: it changed{since}."
        if first.metrics:
            said += " " + "; ".join(change_said(change) for change in first.metrics[:3]) + "."
        if len(first.path) > 1:
            said += f" The symptom leads to it by {' -> '.join(first.path)}."
        if first.pods:
            said += (
                f" Of its pods {', '.join(first.pods[:3])} differ{'s' if len(first.pods) == 1 else ''} from the others."
            )
        own = [event for event in events if event.entity == first.entity]
        if own:
            said += f" {_event_said(own[0])}"
        others = [str(each.object) for each in ranked[1:4]]
        if others:
            said += f" Next: {', '.join(others)}."
    if quality.warnings:
        said += f" To bear in mind: {'; '.join(quality.warnings[:3])}."
    return said


def change_said(change: MetricChange) -> str:
    """One series' change in words."""
    labels = ", ".join(
        value for key, value in sorted(change.labels.items()) if key in ("pod", "container", "source_workload")
    )
    where = f" ({labels})" if labels else ""
    if change.direction in (Direction.BEGAN, Direction.ENDED):
        return f"{change.name}{where} {_WORDS[change.direction]}"
    unit = (f" {change.unit}" if change.unit else "") + (" per second" if change.rate else "")
    values = f"{number(change.baseline_median)} to {number(change.incident_value)}{unit}"
    return f"{change.name}{where} {_WORDS[change.direction]} from {values}"


def _event_said(event: EventBeside) -> str:
    seconds = round(abs(event.seconds_before_onset))
    when = f"{seconds} s {'before' if event.seconds_before_onset >= 0 else 'after'} the onset"
    return f"{when[0].upper()}{when[1:]}: {event.moment.text}."
