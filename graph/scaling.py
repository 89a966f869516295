"""A prediction becomes a plan to scale, which waits for a person like any other. Nothing is scaled from here."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from actions.gate import Gate
from errors import Conflict, InvalidInput, ToolMissing
from graph.runner import Runner
from incidents.database import utcnow
from incidents.drafts import Drafts
from incidents.forecast import Prediction
from incidents.models import (
    Diagnosis,
    DiagnosisStatus,
    Evidence,
    EvidenceKind,
    Finding,
    Incident,
    IncidentStatus,
    ObjectRef,
    Severity,
    Via,
    new_id,
)
from incidents.plan import EvidenceNeed, Plan, Scale
from incidents.store import IncidentStore
from settings import ForecastService


@dataclass(frozen=True)
class Proposed:
    incident: Incident
    plan: Plan


class Scaling:
    """Asks people whether a workload should get the number of instances that a prediction gives."""

    def __init__(self, gate: Gate | None, incidents: IncidentStore, drafts: Drafts, runner: Runner) -> None:
        self._gate, self._incidents, self._drafts, self._runner = gate, incidents, drafts, runner
        self._turn = asyncio.Lock()

    async def propose(
        self, prediction: Prediction, service: ForecastService, requested_by: str, *, stated: bool = False
    ) -> Proposed:
        """Open an incident whose plan sets the workload's replicas. `stated`: the present load is the requester's word.

        Raises ToolMissing without a cluster, InvalidInput for a service without a workload, Conflict when an incident
        about the workload is open, and Refused with the gate's reason; then no incident is opened.
        """
        if self._gate is None:
            raise ToolMissing("no cluster is connected, so there is nothing to scale")
        if service.workload is None:
            raise InvalidInput(
                f"service {service.name} names no workload: set namespace and workload in forecast.services"
            )
        kind, _, name = service.workload.partition("/")
        target = ObjectRef(kind=kind, namespace=service.namespace, name=name)
        diagnosis = _diagnosis(prediction, target, stated=stated)
        now = utcnow()
        event = f"load prediction: {diagnosis.findings[0].claim}"
        asked = Incident(
            id=new_id("inc"),
            created_at=now,
            updated_at=now,
            status=IncidentStatus.RECEIVED,
            target=target,
            event=event,
            requested_by=requested_by,
        )
        async with self._turn:
            known = await self._incidents.open_for(target)
            if known is not None:
                raise Conflict(f"incident {known.id} about {target} is open; decide it first")
            plan = await self._gate.plan(
                asked,
                Scale(target=target, replicas=prediction.instances),
                diagnosis,
                evidence_need=EvidenceNeed.NONE,
                evidence_sha256=None,
            )
            incident = await self._incidents.create(target, event, requested_by=requested_by, via=Via.API)
            plan = plan.model_copy(update={"incident_id": incident.id, "reason": diagnosis.findings[0].claim})
            incident = await self._incidents.update(
                incident.id, diagnosis=diagnosis, summary=diagnosis.findings[0].claim
            )
            await self._drafts.save_plan(incident.id, plan)
        await self._runner.take_up_plan(incident)
        return Proposed(incident, plan)


def _diagnosis(prediction: Prediction, target: ObjectRef, *, stated: bool) -> Diagnosis:
    """Nothing is wrong; the evidence is the prediction."""
    said = json.dumps(prediction.model_dump(mode="json"), indent=1)
    source = f"load prediction of service {prediction.service} ({prediction.model_version})"
    evidence = Evidence.of(EvidenceKind.METRIC, source, said, prediction.timestamp)
    needs = f"needs {prediction.instances} instance(s) of {prediction.per_instance:g} each"
    if prediction.decided_by == "forecast":
        claim = (
            f"{prediction.service} {needs}: up to {prediction.upper_qps:.4g} is forecast for "
            f"{prediction.target_time:%Y-%m-%d %H:%M} UTC"
        )
    elif prediction.decided_by == "reactive":
        load = f"its present load is {prediction.current_qps:.4g}"
        # an approver must see whose word it is
        claim = f"{prediction.service} {needs}: {'the requester says that ' if stated else ''}{load}"
    else:
        claim = f"{prediction.service} {needs}: the configured {prediction.decided_by}"
    finding = Finding.of("load_prediction", claim, [evidence], severity=Severity.INFO, object=target)
    return Diagnosis(
        status=DiagnosisStatus.HEALTHY, findings=[finding], evidence=[evidence], unseen=list(prediction.reasons)
    )
