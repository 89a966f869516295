"""The analyst: what the measurements around an incident show, against what they usually are."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from agents.answering import answer_with_model
from agents.read_tools.measurements import measurement_tools
from agents.reading import read_with_model
from diagnosis.metrics.config import RcaConfig
from errors import InvalidInput, ToolFailed
from incidents.metric_report import MetricChange, MetricReport, MetricStatus, RankedWorkload
from incidents.metric_runs import MetricRuns
from incidents.models import (
    Cause,
    CauseClass,
    Diagnosis,
    DiagnosisStatus,
    Finding,
    Incident,
    ObjectRef,
    Severity,
)
from incidents.store import IncidentStore
from tools.kubernetes.client import Cluster
from tools.llm.models import Models
from tools.prometheus.client import Prometheus
from tools.prometheus.rca.look import Question, look

BEFORE = timedelta(minutes=30)
"""So long before an incident was reported it may have begun."""
_WORKLOADS, _METRICS = 3, 3
_CERTAIN = 0.6
"""A workload whose measurements changed first may still only show what another one did."""
_QUESTION = (
    "What do the measurements show: which workload changed first, by what, since when, how does the symptom follow "
    "from it, and what happened just before? Which other explanation would fit, and what would tell them apart?"
)


async def current_config(runs: MetricRuns) -> RcaConfig:
    """What people set, with defaults for the rest. What no longer fits (of an older version) counts as not set."""
    given = await runs.config()
    try:
        return RcaConfig.model_validate(given)
    except ValidationError as error:
        wrong = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
        return RcaConfig.model_validate({name: value for name, value in given.items() if name not in wrong})


async def explained(models: Models | None, report: MetricReport) -> MetricReport:
    """The report with a model's explanation, of which each line cites evidence that bears it. Never raises because of
    the model; without one the report comes back unchanged."""
    lines = await answer_with_model(models, question=_QUESTION, context=as_diagnosis(report))
    if lines is None:
        return report
    async with aclosing(lines):
        text = "".join([line async for line in lines]).strip()
    return report.model_copy(update={"explanation": text or None})


class Analyst:
    """Looks at the measurements around an incident, and lets a model read them when there is one."""

    def __init__(
        self,
        incidents: IncidentStore,
        runs: MetricRuns,
        prometheus: Prometheus,
        models: Models | None,
        cluster: Cluster | None = None,
    ) -> None:
        self._incidents, self._runs, self._prometheus, self._models = incidents, runs, prometheus, models
        self._cluster = cluster

    async def run(self, incident: Incident, known: Diagnosis | None) -> Diagnosis:
        """What changed around the incident. `known` is what was found before: its timeline joins the measurements.

        A Prometheus that does not answer, or has nothing, gives a diagnosis that says so; nothing is raised.
        """
        namespace = incident.target.namespace  # of a node all
        now = datetime.now(UTC)
        question = Question(
            incident.created_at - BEFORE, now, namespace, symptom=f"{incident.target}: {incident.event}"
        )
        try:
            found = await look(
                self._prometheus,
                question,
                cluster=self._cluster,
                timeline_of=(known.timeline, known.evidence) if known else None,
                config=await current_config(self._runs),
            )
        except (ToolFailed, InvalidInput) as error:
            return Diagnosis(status=DiagnosisStatus.FAILED, unseen=[f"measurements were not compared: {error}"])
        await self._runs.save(found.report, found.charts, requested_by="analyst", incident_id=incident.id)

        async def report(text: str, type: str = "tool.called", data: dict[str, object] | None = None) -> None:
            await self._incidents.add_step(incident.id, type, text, agent="analyst", data=data)

        diagnosis = await read_with_model(
            self._models,
            agent="analyst",
            incident=incident,
            diagnosis=as_diagnosis(found.report),
            tools=measurement_tools(self._prometheus, namespace, question.start, now),
            report=report,
        )
        await self._incidents.save_evidence(incident.id, diagnosis.evidence)
        return diagnosis


def as_diagnosis(report: MetricReport) -> Diagnosis:
    """The report in the words of a diagnosis. A workload that changed first is a cause without a class."""
    evidence = {item.id: item for item in report.evidence}
    findings: list[Finding] = []
    causes: list[Cause] = []
    found = report.status is MetricStatus.FOUND
    for workload in report.workloads[:_WORKLOADS] if found else []:
        own = [
            Finding.of(
                "metrics",
                _claim(workload.object, change),
                [evidence[change.evidence_id]],
                severity=Severity.WARNING,
                object=workload.object,
            )
            for change in workload.metrics[:_METRICS]
            if change.evidence_id in evidence
        ]
        findings += own
        if workload.rank == 1 and own:
            causes.append(
                Cause(
                    cause_class=CauseClass.UNKNOWN,
                    object=workload.object,
                    confidence=round(min(1.0, workload.score) * _CERTAIN, 2),
                    summary=_summary(workload, own[0].claim),
                    finding_ids=[item.id for item in own],
                    chain=workload.path if len(workload.path) > 1 else [],
                )
            )
    status = {
        MetricStatus.FOUND: DiagnosisStatus.UNKNOWN,
        MetricStatus.NO_ROOT_CAUSE: DiagnosisStatus.UNKNOWN,  # calm measurements alone make nobody healthy
        MetricStatus.UNKNOWN: DiagnosisStatus.UNKNOWN,
    }[report.status]
    quiet = report.status is MetricStatus.NO_ROOT_CAUSE
    return Diagnosis(
        status=status,
        causes=causes,
        findings=findings,
        evidence=list(report.evidence),
        ruled_out=[f"measurements: {report.summary}"] if quiet else [],
        unseen=[f"measurements: {text}" for text in report.data_quality.warnings],
        explanation=report.explanation,
    )


def _summary(workload: RankedWorkload, first: str) -> str:
    return f"The measurements of {workload.object} changed first and most: {first}"


def _claim(about: ObjectRef, change: MetricChange) -> str:
    since = f" from {change.onset:%Y-%m-%dT%H:%M:%SZ} on" if change.onset else ""
    unit = f" {change.unit}" if change.unit else ""
    if change.baseline_median is None or change.incident_value is None:
        return f"{change.name} of {about}: the series {change.direction.value}{since}"
    moved = "rose" if change.incident_value >= change.baseline_median else "fell"
    values = f"from {change.baseline_median:.4g} to {change.incident_value:.4g}{unit}"
    return f"{change.name} of {about} {moved} {values}{since}"
