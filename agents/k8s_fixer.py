"""The k8s-fixer: from causes to one previewed plan, or to what people should do instead.

It never executes. It proposes typed actions in the order of `agents.remedies`; the gate derives the exact writes and
says no where policy, ownership or the object's state forbids one. The first action that the gate accepts is the plan;
what it refused, and why, becomes a proposal for people.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from actions.gate import Gate
from actions.ownership import Managed
from agents.remedies import Remedy, remedies
from diagnosis.merge import CODE_FAULTS
from errors import NotFound, Refused, ToolFailed
from incidents.models import Diagnosis, Incident
from incidents.plan import EvidenceNeed, Plan, Proposal
from incidents.store import IncidentStore
from tools.helm.client import Helm


@dataclass(frozen=True)
class Offer:
    plan: Plan | None = None
    proposals: list[Proposal] = field(default_factory=list)


class K8sFixer:
    """Turns a diagnosis into an offer."""

    def __init__(self, incidents: IncidentStore, gate: Gate, helm: Helm | None) -> None:
        self._incidents = incidents
        self._gate = gate
        self._helm = helm

    async def run(self, incident: Incident, diagnosis: Diagnosis) -> Offer:
        """The first acceptable plan and the proposals beside it."""
        proposals: list[Proposal] = []
        for remedy in await self._remedies(incident, diagnosis):
            if remedy.action is None:
                proposals.append(remedy.proposal())
                continue
            try:
                plan = await self._gate.plan(
                    incident,
                    remedy.action,
                    diagnosis,
                    evidence_need=evidence_need(diagnosis),
                    evidence_sha256=core_sha256(diagnosis),
                )
            except Managed as error:
                proposals.append(error.proposal(f"{remedy.reason} {error}"))
            except Refused as error:
                proposals.append(Proposal(title=remedy.title, reason=str(error), steps=remedy.steps))
            else:
                return Offer(plan=plan, proposals=proposals)
            await self._incidents.add_step(
                incident.id, "refused", f"{remedy.title}: {proposals[-1].reason}", agent="k8s_fixer", once=True
            )
        return Offer(proposals=proposals)

    async def _remedies(self, incident: Incident, diagnosis: Diagnosis) -> list[Remedy]:
        histories = {}
        facts = diagnosis.causes[0].facts if diagnosis.causes else {}
        release, namespace = facts.get("helm_release"), facts.get("helm_namespace")
        if self._helm is not None and isinstance(release, str) and isinstance(namespace, str):
            try:
                histories[(namespace, release)] = await self._helm.history(namespace, release)
            except (ToolFailed, NotFound) as error:
                # without its history a release is not touched; what is left is a proposal
                text = f"the history of helm release {release} could not be read: {error}"
                await self._incidents.add_step(incident.id, "refused", text, agent="k8s_fixer", once=True)
        return remedies(diagnosis, histories)


def evidence_need(diagnosis: Diagnosis) -> EvidenceNeed:
    """A crash of native code must leave its core behind before anything that removes the pod."""
    native = any(cause.cause_class in CODE_FAULTS for cause in diagnosis.causes)
    return EvidenceNeed.CORE if native else EvidenceNeed.NONE


def core_sha256(diagnosis: Diagnosis) -> str | None:
    """The hash of the captured core, when it is complete."""
    core = diagnosis.crash.core if diagnosis.crash else None
    return core.sha256 if core and not core.truncated else None
