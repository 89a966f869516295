"""One candidate onset: what every series, and from that every workload, shows after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diagnosis.metrics.calls import Calls, credit, ranked
from diagnosis.metrics.grid import Grid
from diagnosis.metrics.onset import find_onsets
from diagnosis.metrics.scoring import Own, gather, strength
from diagnosis.metrics.series import BoolArray, FloatArray
from diagnosis.metrics.shift import Shift, shifts
from diagnosis.metrics.signals import Signal
from diagnosis.metrics.subject import Subject

CANDIDATES = 4
"""So many onsets, the strongest over all series, are looked at from the workloads' side: that with the clearest
workload is taken."""
_SHORT_SECONDS = 240.0
_SHORT_BINS = 4
_PRESENCE_SCORE = 12.0


@dataclass(frozen=True, eq=False)
class Evaluation:
    """`best` is the workloads' ranking; `shift` holds for each series the window in which it shows most."""

    onset: int
    strength: float
    shift: Shift
    began: BoolArray
    ended: BoolArray
    owns: dict[str, Own]
    ranking: list[tuple[str, float]]

    @property
    def top(self) -> float:
        return self.ranking[0][1] if self.ranking else 0.0


@dataclass(frozen=True, eq=False)
class Rows:
    """Of each row of a grid: what it is about, and what kind of signal."""

    subjects: Sequence[Subject]
    signals: Sequence[Signal]
    calls: Calls


def best_onset(
    grid: Grid, rows: Rows, first: int, last: int, *, given: int | None, usual_end: int | None
) -> Evaluation | None:
    """The evaluation of the onset given, else of that among the likeliest in bins [first, last] where a workload stands
    out most. None when there is no room for an onset."""
    if given is not None:
        return evaluate(grid, rows, given, 0.0, usual_end)
    found = [
        evaluate(grid, rows, candidate.index, candidate.strength, usual_end)
        for candidate in find_onsets(grid.values, first, last, CANDIDATES)
    ]
    return max(found, key=lambda each: (each.top, each.strength), default=None)


def evaluate(grid: Grid, rows: Rows, onset: int, onset_strength: float, usual_end: int | None) -> Evaluation:
    """Scores are the larger of two windows': the first minutes, and all up to the end where that is much longer. A
    short fault is over in the second, a leak has hardly begun in the first."""
    short = min(grid.bins, onset + max(_SHORT_BINS, round(_SHORT_SECONDS / grid.step)))
    shift = shifts(grid.values, onset, short, usual_end)
    if grid.bins - onset >= 2 * (short - onset):
        shift = _larger(shift, shifts(grid.values, onset, grid.bins, usual_end))
    began, ended = _presence(grid.values, onset)
    told: list[tuple[str, Signal, float]] = []
    slow: dict[tuple[str, str], float] = {}
    for subject, signal, score, came_or_went in zip(
        rows.subjects, rows.signals, shift.score.tolist(), (began | ended).tolist(), strict=True
    ):
        if subject.calling:
            call = (subject.calling, subject.entity)
            if signal is not Signal.TRAFFIC:
                slow[call] = max(slow.get(call, 0.0), strength(score))
        elif came_or_went:
            told.append((subject.entity, Signal.PRESENCE, _PRESENCE_SCORE))
        else:
            told.append((subject.entity, signal, score))
    owns = gather(told)
    credit(owns, slow)
    return Evaluation(onset, onset_strength, shift, began, ended, owns, ranked(owns, rows.calls))


def _presence(values: FloatArray, onset: int) -> tuple[BoolArray, BoolArray]:
    """Series that have no value before the onset, and those that have none after it. When most end or begin at once it
    is the measuring that did, and none counts."""
    known = ~np.isnan(values)
    before, after = known[:, :onset].mean(axis=1), known[:, onset:].mean(axis=1)
    began, ended = (before == 0) & (after >= 0.5), (after == 0) & (before >= 0.5)
    if (began | ended).mean() > 0.5:
        return np.zeros_like(began), np.zeros_like(ended)
    return began, ended


def _larger(first: Shift, second: Shift) -> Shift:
    take = second.score > first.score
    return Shift(
        np.where(take, second.score, first.score),
        np.where(take, second.sign, first.sign),
        first.before,
        np.where(take, second.after, first.after),
        np.where(take, second.scale, first.scale),
    )
