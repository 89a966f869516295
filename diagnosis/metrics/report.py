"""The ranking as entries of the report, each with the series, the path and the evidence it rests on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from diagnosis.metrics.calls import Calls
from diagnosis.metrics.config import RcaConfig
from diagnosis.metrics.correlate import associations
from diagnosis.metrics.describe import changes
from diagnosis.metrics.evaluate import Evaluation, Rows
from diagnosis.metrics.grid import Grid
from diagnosis.metrics.peers import odd_pods, peer_groups
from diagnosis.metrics.scoring import Own
from diagnosis.metrics.signals import WEIGHTS
from diagnosis.metrics.subject import Subject
from incidents.metric_report import Association, RankedWorkload
from incidents.models import Evidence, ObjectRef

_TELLING = 3.0
"""A series that strayed less is not told, but the strongest of a workload."""
_CORRELATED = 24
_ASSOCIATIONS = 20
_SHOWS = 0.3


@dataclass
class Told:
    workloads: list[RankedWorkload] = field(default_factory=list)
    associations: list[Association] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def tell(
    grid: Grid,
    rows: Rows,
    found: Evaluation,
    ranking: Sequence[tuple[str, float]],
    usual_end: int,
    symptom: str,
    config: RcaConfig,
) -> Told:
    """The first workloads of the ranking with their strongest series."""
    by_entity: dict[str, list[int]] = defaultdict(list)
    subjects: dict[str, Subject] = {}
    for row, (entity, calling) in enumerate(zip(rows.entities, rows.callings, strict=True)):
        if entity:
            by_entity[entity].append(row)
            known = subjects.get(entity)
            if known is None or known.ranked_kind == "Workload":  # a call does not know the callee's kind
                subjects[entity] = rows.subjects[row]
        if calling:
            by_entity[calling].append(row)
    weight = [WEIGHTS.get(signal, 0.0) for signal in rows.signals]
    size = _sizes(grid, rows, found)
    listed = [(entity, score) for entity, score in ranking if score > 0][: config.max_workloads]
    chosen: dict[str, list[int]] = {}
    for entity, _ in listed:
        strongest = sorted(by_entity[entity], key=lambda row: (-size[row] * weight[row], grid.series[row].key))
        kept = [row for row in strongest if size[row] >= _TELLING] or strongest[:1]
        chosen[entity] = kept[: config.max_metrics]
    groups = peer_groups(grid, rows.subjects)
    needed = sorted({row for kept in chosen.values() for row in kept})
    told, evidence, warnings = changes(grid, found, needed, usual_end, config, groups)
    symptomatic = symptom_entity(symptom, listed, found.owns, rows.calls)
    answer = Told(warnings=warnings, evidence=list(evidence.values()))
    for rank, (entity, score) in enumerate(listed, 1):
        metrics = [told[row] for row in chosen[entity]]
        onsets = [change.onset for change in metrics if change.onset]
        answer.workloads.append(
            RankedWorkload(
                rank=rank,
                object=subjects[entity].ref if entity in subjects else ObjectRef(kind="Workload", name=entity),
                entity=entity,
                score=round(min(1.0, score), 4),
                onset=min(onsets) if onsets else None,
                path=rows.calls.path(symptomatic, entity),
                pods=odd_pods(grid, rows.subjects, found.shift.score, groups, entity),
                because=_because(found.owns.get(entity), entity, rows.calls),
                metrics=metrics,
                evidence_ids=list(dict.fromkeys(change.evidence_id for change in metrics)),
            )
        )
    answer.associations = _associations(grid, size, needed, config)
    return answer


def symptom_entity(symptom: str, listed: Sequence[tuple[str, float]], owns: dict[str, Own], calls: Calls) -> str:
    """Where the symptom shows: the workload that its words name, else the one farthest up the calls that answers slower
    or with errors and leads to the first of the ranking."""
    words = symptom.lower()
    named = [entity for entity in owns if entity.rpartition("/")[2] in words]
    if named:
        return max(named, key=lambda entity: (len(entity), entity))
    if not listed:
        return ""
    cause = listed[0][0]
    ways = [
        way
        for entity, own in owns.items()
        if own.serving >= _SHOWS and entity != cause and (way := calls.path(entity, cause))
    ]
    return min(ways, key=lambda way: (-len(way), way))[0] if ways else cause


def _sizes(grid: Grid, rows: Rows, found: Evaluation) -> list[float]:
    """How much each series tells. One that began or ended tells most, but for a pod's that came or went while its
    workload was measured on: that is what a rollout does."""
    moved = (found.began | found.ended).tolist()
    about = [(entity, series.name) for entity, series in zip(rows.entities, grid.series, strict=True)]
    goes_on = {
        each for each, subject, gone in zip(about, rows.subjects, moved, strict=True) if not subject.pod and not gone
    }
    return [
        1e3 if gone and not (subject.pod and each in goes_on) else score
        for each, subject, gone, score in zip(about, rows.subjects, moved, found.shift.score.tolist(), strict=True)
    ]


def _because(own: Own | None, entity: str, calls: Calls) -> str:
    if own is None or not own.strongest:
        return "It leans on what changed."
    each = sorted(own.strongest.items(), key=lambda item: -item[1])[:3]
    said = f"Changed most: {', '.join(str(signal) for signal, value in each if value > 0) or 'nothing'}"
    callees = sorted(callee for callee in calls.callees.get(entity, ()) if not callee.startswith("node/"))
    return f"{said}; it leans on {', '.join(callees[:5])}." if callees else f"{said}."


def _associations(grid: Grid, size: Sequence[float], rows: Sequence[int], config: RcaConfig) -> list[Association]:
    strongest = sorted(rows, key=lambda row: (-size[row], row))[:_CORRELATED]
    pairs = associations(grid.values[strongest], least=config.correlation_threshold, rate=config.false_discovery_rate)
    return [
        Association(
            first=grid.series[strongest[pair.first]].key,
            second=grid.series[strongest[pair.second]].key,
            lag_seconds=round(pair.lag * grid.step, 3),
            coefficient=round(pair.coefficient, 4),
            q_value=pair.q_value,
        )
        for pair in pairs[:_ASSOCIATIONS]
    ]
