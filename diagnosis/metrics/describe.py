"""The series behind a ranking as what the report says of them: change, episodes, and the evidence that they cite."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from diagnosis.metrics.config import RcaConfig
from diagnosis.metrics.detectors import detect
from diagnosis.metrics.episodes import episodes
from diagnosis.metrics.evaluate import Evaluation, first_change
from diagnosis.metrics.grid import Grid
from diagnosis.metrics.series import BoolArray
from incidents.metric_report import Direction, Episode, MetricChange
from incidents.models import Evidence, EvidenceKind

_POINTS = 12


def changes(
    grid: Grid,
    found: Evaluation,
    rows: Sequence[int],
    usual_end: int,
    config: RcaConfig,
    peers: Sequence[Sequence[int]],
) -> tuple[dict[int, MetricChange], dict[str, Evidence], list[str]]:
    """(row to its change, evidence by id, warnings) of the chosen rows of the grid."""
    chosen = list(rows)
    if not chosen:
        return {}, {}, []
    position = {row: place for place, row in enumerate(chosen)}
    inside = [[position[row] for row in group] for group in peers if all(row in position for row in group)]
    values = grid.values[chosen]
    marks: dict[str, BoolArray] = {}
    warnings = []
    for name in dict.fromkeys(config.detectors):
        try:
            marks[name] = detect(
                name, values, usual=slice(0, usual_end), onset=found.onset, step=grid.step, peers=inside
            )
        except ImportError:
            warnings.append(f"the detector {name} needs scikit-learn, which is not installed: the extra `metrics`")
    told: dict[int, MetricChange] = {}
    evidence: dict[str, Evidence] = {}
    for place, row in enumerate(chosen):
        usual = float(found.shift.before[row])
        listed: list[Episode] = []
        for detector, mark in marks.items():
            listed += episodes(detector, mark[place], values[place], usual, grid.time_of(0), grid.step)
        change = _change(grid, found, row, listed, usual)
        cited = _evidence(grid, found, row, change)
        evidence[cited.id] = cited
        told[row] = change.model_copy(update={"evidence_id": cited.id})
    return told, evidence, warnings


def _change(grid: Grid, found: Evaluation, row: int, listed: list[Episode], usual: float) -> MetricChange:
    series, onset_at = grid.series[row], at(grid, found.onset)
    after = float(found.shift.after[row])
    if found.ended[row] or found.began[row]:
        direction = Direction.ENDED if found.ended[row] else Direction.BEGAN
    else:
        direction = Direction.UP if found.shift.sign[row] > 0 else Direction.DOWN
    return MetricChange(
        name=series.name,
        labels=dict(series.labels),
        unit=series.unit,
        rate=grid.rated[row],
        score=round(float(found.shift.score[row]), 3),
        direction=direction,
        baseline_median=usual if np.isfinite(usual) else None,
        incident_value=after if np.isfinite(after) else None,
        onset=_onset(grid, found, row),
        detectors=sorted({each.detector for each in listed if each.end >= onset_at}),
        episodes=listed,
        evidence_id="",
    )


def _onset(grid: Grid, found: Evaluation, row: int) -> datetime | None:
    """The first sample past three of the series' own deviations, from two before the system's onset on."""
    values = grid.values[row]
    if found.ended[row]:
        return at(grid, int(np.flatnonzero(~np.isnan(values))[-1]))
    if found.began[row]:
        return at(grid, int(np.flatnonzero(~np.isnan(values))[0]))
    place = first_change(values, found.shift, row, found.onset - 2)
    return None if place is None else at(grid, place)


def _evidence(grid: Grid, found: Evaluation, row: int, change: MetricChange) -> Evidence:
    """What was measured, in words and with a few of the points, around the onset more than elsewhere."""
    series, values = grid.series[row], grid.values[row]
    known = np.flatnonzero(~np.isnan(values))
    near = known[np.abs(known - found.onset) <= _POINTS // 4]
    spread = known[np.unique(np.linspace(0, len(known) - 1, min(len(known), _POINTS // 2)).astype(int))]
    chosen = sorted({*near.tolist(), *spread.tolist()})
    unit = (f" {series.unit}" if series.unit else "") + (" per second" if change.rate else "")
    lines = [
        f"baseline median {number(change.baseline_median)}{unit}",
        f"incident value {number(change.incident_value)}{unit}",
        f"direction {change.direction}, score {change.score:g}",
        f"onset {stamp(change.onset)}" if change.onset else "no sample of its own is past three deviations",
        *(f"{stamp(at(grid, index))} {values[index]:.6g}" for index in chosen),
    ]
    source = f"{series.source}: {series.key}" if series.source else series.key
    return Evidence.of(EvidenceKind.METRIC, source[:1000], "\n".join(lines), at(grid, grid.bins - 1))


def at(grid: Grid, index: int) -> datetime:
    """The middle of a bin, to the millisecond."""
    return datetime.fromtimestamp(round(grid.time_of(index), 3), UTC)


def stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.6g}"
