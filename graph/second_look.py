"""The look after a verified repair: whether another cause shows only now, and what could be done about it."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from agents.k8s_fixer import K8sFixer, Offer
from agents.researcher import Researcher
from errors import ToolFailed
from graph.outcomes import another_cause, words
from incidents.models import Diagnosis, DiagnosisStatus, Incident
from incidents.store import IncidentStore

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Further:
    """Another cause, and what the fixer offers for it."""

    diagnosis: Diagnosis
    offer: Offer


async def further(
    incidents: IncidentStore, researcher: Researcher, fixer: K8sFixer, incident: Incident
) -> Further | None:
    """What is left after the repair; None where nothing is, or where that could not be seen, which the incident says.

    Raises nothing that a specialist raises: what goes wrong here takes nothing from a repair that was verified.
    """
    try:
        before = await incidents.diagnosis(incident.id)
        found = await researcher.run(incident)
        if found.status is DiagnosisStatus.FAILED:
            raise ToolFailed("; ".join(found.unseen) or "the diagnosis failed")
        if before is None or not another_cause(before, found):
            return None
        return Further(found, await fixer.run(incident, found))
    except Exception as error:
        log.warning("the look after a repair failed", incident=incident.id, exc_info=error)
        text = f"The repair was verified; whether another cause is left could not be looked at: {words(error)}"
        await incidents.add_step(incident.id, "error", text, agent="researcher", once=True)
        return None
