"""One analysis of a live system: fetch, join what the cluster tells, analyze, and keep what to chart."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from diagnosis.metrics.analyze import analyze
from diagnosis.metrics.charts.points import charted
from diagnosis.metrics.config import RcaConfig
from diagnosis.metrics.edges import Edge
from diagnosis.metrics.series import MetricSeries
from diagnosis.metrics.subject import Owners, subject_of
from diagnosis.metrics.topology import Topology, topology
from diagnosis.workloads.scope import scope_of
from diagnosis.workloads.snapshot import Snapshot
from diagnosis.workloads.timeline.build import timeline
from errors import NotFound, ToolFailed, ToolTimeout
from incidents.metric_charts import ChartedSeries
from incidents.metric_report import MetricReport
from incidents.models import Evidence, Moment
from tools.kubernetes.capture import capture
from tools.kubernetes.client import Cluster
from tools.prometheus.client import Prometheus
from tools.prometheus.rca.gather import Progress, gather
from tools.prometheus.rca.windows import checked

DEADLINE = timedelta(minutes=3)
"""Of one whole look."""


@dataclass(frozen=True)
class Question:
    """What is asked. Times carry a zone; without `metrics` all that is known how to read is looked at. `affected` are
    names of workloads that should be among what is measured."""

    start: datetime
    end: datetime
    namespace: str | None = None
    metrics: list[str] = field(default_factory=list)
    symptom: str = ""
    affected: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Look:
    """The answer, and the series of what it names."""

    report: MetricReport
    charts: list[ChartedSeries]


@dataclass
class _Beside:
    """What the cluster's objects tell: what happened, who leans on whom, and whose the pods are."""

    moments: list[Moment] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    topology: Topology = field(default_factory=Topology)


async def look(
    server: Prometheus,
    question: Question,
    *,
    cluster: Cluster | None = None,
    timeline_of: tuple[Sequence[Moment], Sequence[Evidence]] | None = None,
    config: RcaConfig,
    progress: Progress = lambda _: None,
) -> Look:
    """Answer the question. `cluster` is asked who leans on whom in the namespace, and what happened there unless
    `timeline_of` already says it.

    Raises InvalidInput for a question that cannot be answered by anyone, ToolFailed when Prometheus does not answer.
    """
    start, end = checked(question.start, question.end, datetime.now(UTC))
    try:
        async with asyncio.timeout(DEADLINE.total_seconds()):
            found, beside = await asyncio.gather(
                gather(
                    server,
                    start,
                    end,
                    namespace=question.namespace,
                    metrics=question.metrics,
                    max_series=config.max_series,
                    progress=progress,
                ),
                _told(cluster, question.namespace, timeline_of),
            )
    except TimeoutError:
        raise ToolTimeout(
            f"the analysis took longer than {DEADLINE.total_seconds():.0f} s: ask for fewer metrics or a shorter range"
        ) from None
    progress(f"analyzing {len(found.series)} series")
    owners = {**beside.topology.owners, **found.owners}  # the measurements know pods that are gone, too
    return await asyncio.to_thread(
        answered,
        found.series,
        window=(found.windows.start, found.windows.end),
        edges=[*found.edges, *beside.topology.edges],
        owners=owners,
        moments=_within([*beside.moments, *found.moments], found.windows.first, found.windows.end),
        evidence=[*beside.evidence, *found.evidence],
        symptom=question.symptom,
        config=config,
        cut=found.cut,
        unseen=[*found.unseen, *beside.unseen, *_unmeasured(question.affected, found.series, owners)],
    )


def answered(
    series: Sequence[MetricSeries],
    *,
    window: tuple[datetime, datetime] | None,
    edges: Sequence[Edge] = (),
    owners: Owners | None = None,
    moments: Sequence[Moment] = (),
    evidence: Sequence[Evidence] = (),
    symptom: str = "",
    config: RcaConfig,
    cut: int = 0,
    unseen: Sequence[str] = (),
) -> Look:
    """The analysis with what was cut and not seen, the evidence of its events, and what to chart."""
    report = analyze(series, window=window, edges=edges, owners=owners, moments=moments, symptom=symptom, config=config)
    cited = {evidence_id for event in report.events for evidence_id in event.moment.evidence_ids}
    known = {item.id for item in report.evidence}
    quality = report.data_quality
    report = report.model_copy(
        update={
            "evidence": [*report.evidence, *(item for item in evidence if item.id in cited - known)],
            "data_quality": quality.model_copy(
                update={"cut": quality.cut + cut, "warnings": list(dict.fromkeys([*quality.warnings, *unseen]))}
            ),
        }
    )
    return Look(report, charted(report, series))


def _unmeasured(names: Sequence[str], series: Sequence[MetricSeries], owners: Owners) -> list[str]:
    measured = {subject_of(one.labels, owners).entity for one in series}
    known = measured | {entity.rpartition("/")[2] for entity in measured}
    return [f"nothing is measured of {name}" for name in names if name.rpartition("/")[2] not in known]


async def _told(
    cluster: Cluster | None,
    namespace: str | None,
    given: tuple[Sequence[Moment], Sequence[Evidence]] | None,
) -> _Beside:
    """Rollouts, restarts, kills and changes of configuration, and what leans on what, by the cluster's own record.
    Raises nothing."""
    told = _Beside(list(given[0]), list(given[1])) if given is not None else _Beside()
    if cluster is None or namespace is None:
        return told
    try:
        snapshot = await capture(cluster, namespace)
    except (ToolFailed, NotFound) as error:
        told.unseen.append(f"the cluster's objects could not be read: {error}")
        return told
    told.topology = await asyncio.to_thread(topology, snapshot, namespace)
    if given is None:
        told.moments, told.evidence = await asyncio.to_thread(_timeline, snapshot, namespace)
    return told


def _timeline(snapshot: Snapshot, namespace: str) -> tuple[list[Moment], list[Evidence]]:
    return timeline(snapshot, scope_of(snapshot, None, namespace))


def _within(moments: Sequence[Moment], first: datetime, last: datetime) -> list[Moment]:
    """Those of the range, in order; what the cluster and the measurements both tell stays twice, each with its
    evidence."""
    return sorted((moment for moment in moments if first <= moment.at <= last), key=lambda moment: moment.at)
