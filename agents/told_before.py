"""Puts into a timeline what the cluster cannot tell: Paramedic's own steps, and crashes whose cores it read."""

from __future__ import annotations

from datetime import timedelta

from agents.fencing import clean
from diagnosis.workloads.timeline.entry import line
from incidents.database import utcnow
from incidents.models import Diagnosis, Evidence, EvidenceKind, Incident, Moment, MomentKind
from incidents.past_steps import PastSteps

LOOKS_BACK = timedelta(days=1)
_MOST = 20
_CAUSES = 3


async def with_own_steps(past: PastSteps | None, incident: Incident, found: Diagnosis) -> Diagnosis:
    """`found` with the steps and crashes of the last day on its target and on the likeliest causes' objects."""
    if past is None:
        return found
    now = utcnow()
    causes = [cause.object for cause in found.causes[:_CAUSES]]
    objects = {ref.model_copy(update={"container": None}) for ref in (incident.target, *causes)}
    moments: list[Moment] = []
    seen: list[Evidence] = []
    for ref, step in (await past.done_to(objects, now - LOOKS_BACK))[-_MOST:]:
        source = f"Paramedic's record of incident {step.incident_id}, step {step.seq}"
        evidence = Evidence.of(EvidenceKind.HISTORY, source, f"{step.at.isoformat()} {step.type}: {step.text}", now)
        said = line(clean(f"Paramedic {step.type}: {step.text}"))
        seen.append(evidence)
        moments.append(Moment(at=step.at, kind=MomentKind.ACTION, object=ref, text=said, evidence_ids=[evidence.id]))
    by_name = {str(ref): ref for ref in objects}
    for item in (await past.crashes_of(objects, now - LOOKS_BACK))[-_MOST:]:
        times = f"{item.count} crashes from {item.first.isoformat()} to {item.last.isoformat()}"
        evidence = Evidence.of(EvidenceKind.HISTORY, f"Paramedic's record of crash group {item.group_id}", times, now)
        seen.append(evidence)
        moments.append(
            Moment(
                at=item.first,
                until=item.last if item.last > item.first else None,
                kind=MomentKind.CRASH,
                object=by_name.get(item.workload),
                text=f"A core of crash group {item.group_id} came in",
                count=item.count,
                evidence_ids=[evidence.id],
            )
        )
    if not moments:
        return found
    joined = sorted([*found.timeline, *moments], key=lambda moment: moment.at)
    return found.model_copy(update={"timeline": joined, "evidence": [*found.evidence, *seen]})
