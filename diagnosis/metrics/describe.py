"""The series behind a ranking as what the report says of them: change, episodes, and the evidence that they cite."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import numpy as np
import numpy.typing as npt

from diagnosis.metrics.config import RcaConfig
from diagnosis.metrics.detectors import Usual, detect
from diagnosis.metrics.episodes import episodes
from diagnosis.metrics.evaluate import Evaluation, lasting, stretches
from diagnosis.metrics.grid import Grid
from diagnosis.metrics.series import BoolArray
from diagnosis.metrics.shift import evenly
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
    usual, shared = slice(0, usual_end), Usual(values, slice(0, usual_end))
    marks: dict[str, BoolArray] = {}
    warnings = []
    for name in dict.fromkeys(config.detectors):
        try:
            marks[name] = detect(
                name, values, usual=usual, onset=found.onset, step=grid.step, peers=inside, shared=shared
            )
        except ImportError:
            warnings.append(f"the detector {name} needs scikit-learn, which is not installed: the extra `metrics`")
    fired = {name: set(np.flatnonzero(mark.any(axis=1)).tolist()) for name, mark in marks.items()}
    stamps = cache(lambda index: stamp(at(grid, index)))  # the series of one grid share their times
    points = cache(lambda: _points(np.arange(grid.bins), found.onset))  # and those without gaps what is told of them
    onset_at, last_at = at(grid, found.onset), at(grid, grid.bins - 1)
    told: dict[int, MetricChange] = {}
    evidence: dict[str, Evidence] = {}
    for place, row in enumerate(chosen):
        middle = float(found.shift.before[row])
        listed: list[Episode] = []
        for detector, mark in marks.items():
            if place in fired[detector]:
                listed += episodes(detector, mark[place], values[place], middle, grid.time_of(0), grid.step)
        said = _said(grid, found, row)
        missing = np.isnan(values[place])
        chosen_points = _points(np.flatnonzero(~missing), found.onset) if missing.any() else points()
        cited = _evidence(grid, row, said, chosen_points, stamps, last_at)
        evidence[cited.id] = cited
        series = grid.series[row]
        told[row] = MetricChange(
            name=series.name,
            labels=dict(series.labels),
            unit=series.unit,
            rate=grid.rated[row],
            score=said.score,
            direction=said.direction,
            baseline_median=said.before,
            incident_value=said.after,
            onset=said.onset,
            detectors=sorted({each.detector for each in listed if each.end >= onset_at}),
            episodes=listed,
            evidence_id=cited.id,
        )
    return told, evidence, warnings


@dataclass(frozen=True)
class _Said:
    """What a series' change and its evidence both say."""

    score: float
    direction: Direction
    before: float | None
    after: float | None
    onset: datetime | None


def _said(grid: Grid, found: Evaluation, row: int) -> _Said:
    if found.ended[row] or found.began[row]:
        direction = Direction.ENDED if found.ended[row] else Direction.BEGAN
    else:
        direction = Direction.UP if found.shift.sign[row] > 0 else Direction.DOWN
    before, after = float(found.shift.before[row]), float(found.shift.after[row])
    return _Said(
        round(float(found.shift.score[row]), 3),
        direction,
        before if math.isfinite(before) else None,
        after if math.isfinite(after) else None,
        _onset(grid, found, row),
    )


def _onset(grid: Grid, found: Evaluation, row: int) -> datetime | None:
    """The first sample past three of the series' own deviations, from two before the system's onset on."""
    values = grid.values[row]
    if found.ended[row]:
        return at(grid, int(np.flatnonzero(~np.isnan(values))[-1]))
    if found.began[row]:
        return at(grid, int(np.flatnonzero(~np.isnan(values))[0]))
    known = stretches(values, found.shift, row, found.onset - 2)
    return at(grid, lasting(known, found.onset)) if known else None


def _points(known: npt.NDArray[np.intp], onset: int) -> list[int]:
    """A few of the bins that have a value, around the onset more than elsewhere."""
    low, high = known.searchsorted((onset - _POINTS // 4, onset + _POINTS // 4 + 1))
    return sorted({*known[low:high].tolist(), *known[evenly(len(known), _POINTS // 2)].tolist()})


def _evidence(
    grid: Grid, row: int, said: _Said, points: Sequence[int], stamps: Callable[[int], str], seen_at: datetime
) -> Evidence:
    """What was measured, in words and with a few of the points."""
    series, values = grid.series[row], grid.values[row]
    unit = (f" {series.unit}" if series.unit else "") + (" per second" if grid.rated[row] else "")
    lines = [
        f"baseline median {number(said.before)}{unit}",
        f"incident value {number(said.after)}{unit}",
        f"direction {said.direction}, score {said.score:g}",
        f"onset {stamp(said.onset)}" if said.onset else "no sample of its own is past three deviations",
        *[f"{stamps(index)} {value:.6g}" for index, value in zip(points, values[points].tolist(), strict=True)],
    ]
    source = f"{series.source}: {series.key}" if series.source else series.key
    return Evidence.of(EvidenceKind.METRIC, source[:1000], "\n".join(lines), seen_at)


def at(grid: Grid, index: int) -> datetime:
    """The middle of a bin, to the millisecond."""
    return datetime.fromtimestamp(round(grid.time_of(index), 3), UTC)


def stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.6g}"
