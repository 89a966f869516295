"""One run of one scenario through the whole service: report, diagnosis, approval, repair; then checks of its own."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from sqlalchemy import func, select

from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.snapshot import Snapshot
from errors import ParamedicError
from evals.closure import closure
from evals.conditions import stays
from evals.results import Answer, Fix, Result
from evals.scenario import Scenario
from evals.scoring import is_right, is_right_at_large
from evals.stage import Stage
from evals.state import changed, state_of
from graph.services import Services
from incidents.models import Diagnosis, Incident, IncidentStatus, ObjectRef, Via
from incidents.plan import ApprovalState
from incidents.tables import ModelUsageRow
from tools.kubernetes.capture import capture
from tools.kubernetes.save import save_snapshot

REQUESTER, APPROVERS = "api:eval-on-call", ("api:eval-physician", "api:eval-surgeon")
_DIAGNOSES = 120.0
_REPAIRS = 240.0
_BY_ITSELF = 8.0
_POLL = 0.1


async def ask(services: Services, stage: Stage, result: Result, kept: Path) -> None:
    """Fill in what Paramedic said and did about the stage's fault. Of a run that is not right, what the cluster showed
    is saved below `kept`: `paramedic diagnose snapshot` reads it again."""
    scenario = stage.scenario
    spared = (f"{stage.names['bystander']}-",)
    before = await state_of(stage.kube, spared)
    snapshot = await _ask_at_large(services, stage, result)
    kind, _, name = scenario.target.partition("/")
    target = ObjectRef(kind=kind, namespace=stage.namespace, name=name)
    started = time.monotonic()
    incident = await services.runner.submit(target, scenario.event, requested_by=REQUESTER, via=Via.API)
    diagnosis = await _diagnosis(services, incident)
    result.diagnosis_seconds = time.monotonic() - started
    _score_diagnosis(result, scenario, diagnosis)
    await _repair(services, incident, result)
    result.seconds = time.monotonic() - started
    result.tokens, result.usd = await _cost(services, incident.id)
    fault = None
    if scenario.fixed and result.offered is not None:
        fault = await stays(scenario.fixed, stage.kube, within=scenario.within, steady=scenario.steady)
    result.fix, result.fix_note = _judge(scenario, result, fault), fault
    allowed = set(scenario.may_change)
    touched = changed(before, await state_of(stage.kube, spared))
    result.collateral = [item for item in touched if item not in allowed]
    well = is_right(result) and is_right_at_large(result) and result.fix in ("verified", "not_needed")
    if not well or result.collateral:
        folder = kept / f"{result.scenario}-{result.repetition + 1}-{stage.namespace}"
        await asyncio.to_thread(save_snapshot, snapshot, folder)


async def _ask_at_large(services: Services, stage: Stage, result: Result) -> Snapshot:
    """The same trouble, asked about without a target: what is wrong in this namespace?"""
    snapshot = await capture(stage.kube.cluster, stage.namespace, None, services.monitoring)
    started = time.perf_counter()
    found = await asyncio.to_thread(diagnose, snapshot, namespace=stage.namespace, symptom=stage.scenario.event)
    result.rules_ms = round((time.perf_counter() - started) * 1000, 2)
    result.at_large = Answer.of(found)
    result.further_at_large = Answer.further(found)
    result.at_large_right = result.at_large.right([stage.scenario.truth, *stage.scenario.also])[2]
    bystanders = {stage.names[word] for word in ("bystander", "resting", "finished")}
    result.blamed_bystander = any(cause.object.name in bystanders for cause in found.causes)
    return snapshot


async def _diagnosis(services: Services, incident: Incident) -> Diagnosis | None:
    """The diagnosis as soon as it is on record; None when the incident ended without one, or took too long."""
    deadline = time.monotonic() + _DIAGNOSES
    while time.monotonic() < deadline:
        now = await services.incidents.get(incident.id)
        if now.status.ended or now.status is IncidentStatus.AWAITING_APPROVAL:
            return await services.incidents.diagnosis(incident.id)
        await asyncio.sleep(_POLL)
    return None


def _score_diagnosis(result: Result, scenario: Scenario, diagnosis: Diagnosis | None) -> None:
    result.answer = Answer.of(diagnosis)
    result.further = Answer.further(diagnosis)
    truths = [scenario.truth, *scenario.also]
    result.class_right, result.object_right, result.right = result.answer.right(truths)
    if diagnosis is not None:
        found = closure(diagnosis)
        result.claims, result.closed, result.open_claims = found.claims, found.closed, found.open


async def _repair(services: Services, incident: Incident, result: Result) -> None:
    """Approve what is offered, as on-call people would who trust it, and wait for the end."""
    for approval in await services.approvals.list(incident_id=incident.id):
        if approval.state is not ApprovalState.PENDING:
            continue
        result.offered = approval.plan.title
        for identity in APPROVERS[: approval.quorum]:
            await services.runner.decide(
                approval.id,
                identity=identity,
                verdict="approve",
                digest=approval.digest,
                waive_evidence=True,  # an evaluation keeps no cores
                channel="api",
                reason=None,
            )
    deadline = time.monotonic() + _REPAIRS
    status = (await services.incidents.get(incident.id)).status
    while not status.ended and time.monotonic() < deadline:
        await asyncio.sleep(_POLL)
        status = (await services.incidents.get(incident.id)).status
    result.incident_status = status.value
    told = await services.incidents.proposals(incident.id)
    result.proposals = [f"{proposal.title}: {proposal.reason}"[:500] for proposal in told]


def _judge(scenario: Scenario, result: Result, fault: str | None) -> Fix:
    if result.offered is None:
        return "not_offered" if scenario.remedy == "action" else "not_needed"
    if scenario.fixed and fault is None:
        return "verified"
    return "undone" if result.incident_status == IncidentStatus.NOT_FIXED else "failed"


async def _cost(services: Services, incident_id: str) -> tuple[int, float | None]:
    """Tokens and US dollars of an incident; None for money where a call's price is not known."""
    row = ModelUsageRow
    query = select(
        func.coalesce(func.sum(row.input_tokens + row.output_tokens), 0),
        func.coalesce(func.sum(row.usd), 0.0),
        func.count() - func.count(row.usd),
    ).where(row.incident_id == incident_id)
    async with services.database.read() as session:
        tokens, usd, unpriced = (await session.execute(query)).one()
    return int(tokens), None if unpriced else float(usd or 0.0)


async def baseline(stage: Stage, mode: str) -> bool:
    """Whether the state check passes when nothing is done, or when every pod is deleted without a look."""
    if not stage.scenario.fixed:
        return False
    patience = _BY_ITSELF
    if mode == "blind_restart":
        patience = stage.scenario.within
        try:
            await stage.blind_restart()
        except ParamedicError:
            return False
    return await stays(stage.scenario.fixed, stage.kube, within=patience, steady=stage.scenario.steady) is None
