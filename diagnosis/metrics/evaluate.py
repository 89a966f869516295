"""One candidate onset: what every series, and from that every workload, shows after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from diagnosis.metrics.calls import Calls, credit, ranked
from diagnosis.metrics.edges import Edge
from diagnosis.metrics.grid import Grid
from diagnosis.metrics.nodes import PREFIX, Rises, credit_nodes
from diagnosis.metrics.onset import find_onsets
from diagnosis.metrics.scoring import Own, gather, strengths
from diagnosis.metrics.series import BoolArray, FloatArray
from diagnosis.metrics.shift import Blocks, Shift, shifts
from diagnosis.metrics.signals import WEIGHTS, WORK, Signal, signal_of, signal_of_node, worse
from diagnosis.metrics.starved import WAITS, Work
from diagnosis.metrics.subject import Owners, Subject, subject_of

CANDIDATES = 4
"""So many onsets, the strongest over all series, are looked at from the workloads' side: that with the clearest
workload is taken."""
_SHORT_SECONDS = 240.0
_SHORT_BINS = 4
_PRESENCE = float(strengths(np.array(12.0)))
"""Of a series that began or ended."""
_SIGMAS, _BEGINS = 3.0, 0.1
_SURE = 6.0
_USUAL_WITHIN = 1
_SHARPER, _CLEARER = 0.8, 1.2
_LEAST_BASELINE = 12
_CHANCE = 0.001
"""With gaps as frequent as a series has them: of so many bins without a value being nothing but gaps."""
_PAST_CANDIDATES = 2


@dataclass(frozen=True, eq=False)
class Evaluation:
    """`ranking` is of the workloads, best first; `shift` holds for each series the window in which it shows most."""

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
    """Of each row of a grid: what it is about, and what kind of signal. `entities` and `callings` are the subjects'."""

    subjects: Sequence[Subject]
    entities: Sequence[str]
    callings: Sequence[str]
    signals: Sequence[Signal]
    calls: Calls
    blocks: Blocks
    worse: FloatArray
    """Which way is worse: 1 up, -1 down, 0 either."""
    floors: FloatArray | None
    """What no noise counts as less than; None: nothing is known of what nobody would notice."""

    @property
    def of_nodes(self) -> bool:
        """Whether any row is a node's."""
        return bool(self.worse.any())

    @classmethod
    def of(cls, grid: Grid, edges: Sequence[Edge], owners: Owners | None) -> Rows:
        """`edges` beside those that the series themselves tell."""
        alike: dict[tuple[tuple[str, str], ...], Subject] = {}  # what measures one pod has the same labels mostly
        subjects = []
        for one in grid.series:
            labels = tuple(one.labels.items())
            if labels not in alike:
                alike[labels] = subject_of(one.labels, owners)
            subjects.append(alike[labels])
        entities, callings = [one.entity for one in subjects], [one.calling for one in subjects]
        called = [Edge(calling, entity) for calling, entity in zip(callings, entities, strict=True) if calling]
        signals = [
            signal_of_node(one.name) if entity.startswith(PREFIX) else signal_of(one.name)
            for one, entity in zip(grid.series, entities, strict=True)
        ]
        calls = Calls.of([*edges, *called], {*entities, *callings} - {""})
        directed = [
            worse(one.name) if entity.startswith(PREFIX) else 0.0
            for one, entity in zip(grid.series, entities, strict=True)
        ]
        blocks = Blocks.of(grid.values, short_bins(grid), grid.whole)
        least = np.array([one.least for one in grid.series])
        floors = least / _SIGMAS if least.any() else None
        return cls(subjects, entities, callings, signals, calls, blocks, np.array(directed), floors)


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
    if not found:
        return None
    best = max(found, key=lambda each: (each.top, each.strength))
    earliest, lasting = _beginnings(grid, rows, best, first)
    wanted = {earliest: _CLEARER, lasting: _SHARPER}
    for index, least in wanted.items():
        if index != best.onset and first <= index <= last:
            sharper = evaluate(grid, rows, index, best.strength, usual_end)
            if sharper.top >= least * best.top:
                return sharper
    return best


def by_itself(grid: Grid, rows: Rows, end: int, now: Evaluation) -> float:
    """How clearly a workload stands out at the likeliest onsets within the baseline, the bins before `end`: what the
    system does without the trouble that is asked about. A beginning of that trouble is none of it: a leak that was
    under way when the window began. 0 when the baseline is too short to say."""
    if end < _LEAST_BASELINE:
        return 0.0
    past = replace(grid, values=grid.values[:, :end])
    found = [
        evaluate(past, rows, candidate.index, candidate.strength, None)
        for candidate in find_onsets(past.values, end // 3, end - short_bins(grid) // 2, _PAST_CANDIDATES)
    ]
    return max((each.top for each in found if not _began_there(rows, each, now)), default=0.0)


def _began_there(rows: Rows, then: Evaluation, now: Evaluation) -> bool:
    """Whether the workload that stood out then does so now by the same kind of signal, and what it stood out by has by
    now gone clearly further the same way."""
    if not then.ranking or not now.ranking or then.ranking[0][0] != now.ranking[0][0]:
        return False
    own = [row for row, (about, calling) in enumerate(zip(rows.entities, rows.callings, strict=True))
           if about == now.ranking[0][0] and not calling and rows.signals[row] in WEIGHTS]  # fmt: skip
    if not own:
        return False
    row, today = (own[int(each.shift.score[own].argmax())] for each in (then, now))
    further = (now.shift.after[row] - then.shift.after[row]) * then.shift.sign[row]
    return rows.signals[row] is rows.signals[today] and bool(further > _SIGMAS * then.shift.scale[row])


def _beginnings(grid: Grid, rows: Rows, found: Evaluation, first: int) -> tuple[int, int]:
    """Where the strongest series of the first workload left their usual, from bin `first` on, and where the stretch
    that lasts past the onset began: the earliest of those at least half as far away. The former may be a mere blip: it
    is believed only where a workload stands out more clearly from there on."""
    if not found.ranking:
        return found.onset, found.onset
    entity = found.ranking[0][0]
    scores = np.array(
        [
            score if entity in (about, calling) and signal in WEIGHTS else 0.0
            for about, calling, signal, score in zip(
                rows.entities, rows.callings, rows.signals, found.shift.score.tolist(), strict=True
            )
        ]
    )
    strong = np.flatnonzero(scores >= max(_SURE, 0.5 * float(scores.max()))).tolist()
    begun = [stretches(grid.values[row], found.shift, row, first) for row in strong]
    known = [each for each in begun if each]
    if not known:
        return found.onset, found.onset
    return min(lasting(each, 0) for each in known), min(lasting(each, found.onset) for each in known)


def stretches(values: FloatArray, shift: Shift, row: int, begin: int) -> list[tuple[int, int]]:
    """(first, last) bin of each stretch from `begin` on in which the series is past three deviations, and past a tenth
    of the shift, in its direction; one bin within it may be usual. Unrest that is small beside the shift is none."""
    begin = max(0, begin)
    later = values[begin:]
    change = (later - shift.before[row]) * shift.sign[row]
    least = _BEGINS * abs(shift.after[row] - shift.before[row])
    away = change > max(_SIGMAS * shift.scale[row], least)
    if not away.any():
        return []
    missing = np.isnan(later)
    places = np.arange(begin, len(values))
    if missing.any():
        away, places = away[~missing], places[~missing]
    order = np.flatnonzero(away)
    cuts = np.flatnonzero(order[1:] - order[:-1] > _USUAL_WITHIN + 1)
    starts, ends = [0, *(cuts + 1).tolist()], [*cuts.tolist(), len(order) - 1]
    return list(zip(places[order[starts]].tolist(), places[order[ends]].tolist(), strict=True))


def lasting(found: Sequence[tuple[int, int]], onset: int) -> int:
    """The beginning of the stretch of more than one bin that lasts past the onset, or begins next after it. A short
    blip before is none of it, but where there is nothing else."""
    long = [each for each in found if each[1] > each[0]]
    return next((low for low, high in long if high >= onset), (long or found)[0][0])


def short_bins(grid: Grid) -> int:
    """The first minutes of an incident, in bins."""
    return max(_SHORT_BINS, round(_SHORT_SECONDS / grid.step))


def evaluate(grid: Grid, rows: Rows, onset: int, onset_strength: float, usual_end: int | None) -> Evaluation:
    """Scores are the larger of two windows': the first minutes, and all up to the end where that is much longer. A
    short fault is over in the second, a leak has hardly begun in the first."""
    short = min(grid.bins, onset + short_bins(grid))
    ends = [short, grid.bins] if grid.bins - onset >= 2 * (short - onset) else [short]
    shift = shifts(grid.values, onset, ends, usual_end, rows.blocks, rows.floors)
    began, ended = _presence(grid.values, onset, rows.blocks.whole)
    told: list[tuple[str, Signal, float]] = []
    less: list[int] = []
    slow: dict[tuple[str, str], float] = {}
    work = Work()
    values = strengths(np.where(rows.worse * shift.sign < 0, 0.0, shift.score))
    for entity, calling, signal, fell, value, presence in zip(
        rows.entities,
        rows.callings,
        rows.signals,
        (shift.sign < 0).tolist(),
        values.tolist(),
        (began | ended).tolist(),
        strict=True,
    ):
        if calling:
            work.note_call(calling, entity, signal, fell, value)
            if signal is not Signal.TRAFFIC:
                slow[(calling, entity)] = max(slow.get((calling, entity), 0.0), value)
        elif presence:
            told.append((entity, Signal.PRESENCE, _PRESENCE))
        else:
            if fell and signal in WORK:
                work.note_less(entity, value)
                less.append(len(told))
            elif not fell and signal in WAITS:
                work.note_wait(entity, value)
            told.append((entity, signal, value))
    starved = work.starved(rows.calls)
    for place in less if starved else ():
        entity, _, value = told[place]
        if entity in starved:
            told[place] = entity, Signal.LESS_WORK, value
    owns = gather(told)
    credit(owns, slow)
    work.credit(owns, starved, rows.calls)
    harmless: set[str] = set()
    if rows.of_nodes:
        rises = Rises.of(grid.series, rows.entities, rows.signals, shift.before, shift.after)
        harmless = credit_nodes(owns, rows.calls, rises)
    return Evaluation(onset, onset_strength, shift, began, ended, owns, ranked(owns, rows.calls, harmless))


def _presence(values: FloatArray, onset: int, whole: bool) -> tuple[BoolArray, BoolArray]:
    """Series that have no value before the onset, and those that have none after it, but for those whose usual gaps
    would leave none there now and then. When most end or begin at once it is the measuring that did, and none counts.
    `whole`: none has a gap."""
    if whole:
        return np.zeros(len(values), dtype=np.bool_), np.zeros(len(values), dtype=np.bool_)
    known = ~np.isnan(values)
    before, after = known[:, :onset].mean(axis=1), known[:, onset:].mean(axis=1)
    began = (before == 0) & (after >= 0.5) & ((1 - after) ** onset <= _CHANCE)
    ended = (after == 0) & (before >= 0.5) & ((1 - before) ** (values.shape[1] - onset) <= _CHANCE)
    if (began | ended).mean() > 0.5:
        return np.zeros_like(began), np.zeros_like(ended)
    return began, ended
