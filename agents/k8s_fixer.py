"""The k8s-fixer: from causes to one previewed plan, or to what people should do instead.

It never executes. It proposes the typed actions of `agents.remedies`; the gate derives the exact writes and says no
where policy, ownership or the object's state forbids one. Of the plans that the gate accepts the best is offered, by
reversibility, risk, reach and what held on the same object before; the others, what was refused and why, and the next
steps become proposals for people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from actions.gate import Gate
from actions.ownership import Managed
from agents.precedents import failed, held, precedent, with_precedent
from agents.recall import Recall, Told
from agents.remedies import MAX_CAUSES, Remedy, course
from agents.remedies.releases import useful_history
from agents.remedies.rollback import helm_release
from agents.remedies.stopping import stopping
from diagnosis.merge import CODE_FAULTS
from errors import NotFound, Refused, ToolFailed
from incidents.actions import Combined
from incidents.models import Diagnosis, Incident, Via
from incidents.plan import EvidenceNeed, Plan, Proposal, Risk
from incidents.store import IncidentStore
from incidents.storms import Storm, StormStore
from tools.helm.client import Helm, Revision

MAX_ALTERNATIVES = 3
"""So many plans are made and compared; each is a dry run on the server."""

_STORM = timedelta(days=7)
"""The longest window that a storm is counted in."""


@dataclass(frozen=True)
class Offer:
    plan: Plan | None = None
    proposals: list[Proposal] = field(default_factory=list)


@dataclass(frozen=True)
class _Way:
    """A remedy that the gate accepted, and what became of its kind on the same object before."""

    remedy: Remedy
    plan: Plan
    before: Told | None


class K8sFixer:
    """Turns a diagnosis into an offer."""

    def __init__(
        self,
        incidents: IncidentStore,
        gate: Gate,
        helm: Helm | None,
        recall: Recall | None = None,
        storms: StormStore | None = None,
    ) -> None:
        self._incidents = incidents
        self._gate = gate
        self._helm = helm
        self._recall = recall
        self._storms = storms

    async def run(self, incident: Incident, diagnosis: Diagnosis) -> Offer:
        """The best acceptable plan, and beside it: alternatives, what was refused, what comes next, what to ask."""
        storm = await self._storms.about(incident.target) if self._storms and incident.via is Via.POLICY else None
        histories = await self._histories(incident, diagnosis, storm)
        steps = course(diagnosis, histories)
        need = EvidenceNeed.CORE if storm and await self._left_cores(storm) else evidence_need(diagnosis)
        before = await self._recall.precedents(incident, diagnosis) if self._recall else []
        plans: list[_Way] = []
        proposals: list[Proposal] = []
        for remedy in steps.now:
            if remedy.action is None:
                proposals.append(remedy.proposal())
            elif len(plans) < MAX_ALTERNATIVES and not any(_covers(way.plan, remedy) for way in plans):
                tried = await self._try(incident, diagnosis, remedy, need)
                if isinstance(tried, Plan):
                    earlier = precedent(tried.action, before)
                    plans.append(_Way(*with_precedent(remedy, tried, earlier, diagnosis), earlier))
                else:
                    proposals.append(tried)
        asked = [remedy.action for remedy in steps.now]
        for remedy in stopping(storm, diagnosis, histories) if storm else ():
            if not plans and remedy.action not in asked:  # the next is tried only when the gate refused what is gentler
                tried = await self._try(incident, diagnosis, remedy, need)
                if isinstance(tried, Plan):
                    plans.append(_Way(remedy, tried, None))
                else:
                    proposals.append(tried)
        plans.sort(key=_rank)
        proposals += [_alternative(way.remedy, way.plan) for way in plans[1:]]
        proposals += [_next(number, remedy) for number, remedy in enumerate(steps.later, start=2)]
        return Offer(plan=plans[0].plan if plans else None, proposals=proposals)

    async def _left_cores(self, storm: Storm) -> bool:
        """Whether crashes of the storm are of the kind that leaves a core: it goes with the pods, unless it is kept or
        people waive it knowingly. A program that ends with an error leaves none to wait for."""
        assert self._storms is not None
        crashes = await self._storms.crashes(storm.instance, storm.opened_at - _STORM)
        return not crashes or any(crash.ending == "crash_signal" for crash in crashes)

    async def _try(
        self, incident: Incident, diagnosis: Diagnosis, remedy: Remedy, need: EvidenceNeed
    ) -> Plan | Proposal:
        """Let the gate plan one remedy; what it refuses becomes a proposal, and is said in the timeline."""
        assert remedy.action is not None
        try:
            return await self._gate.plan(
                incident,
                remedy.action,
                diagnosis,
                evidence_need=need,
                evidence_sha256=core_sha256(diagnosis),
            )
        except Managed as error:
            refused = error.proposal(f"{remedy.reason} {error}")
        except Refused as error:
            refused = Proposal(title=remedy.title, reason=str(error), steps=remedy.steps)
        text = f"{remedy.title}: {refused.reason}"
        await self._incidents.add_step(incident.id, "refused", text, agent="k8s_fixer", once=True)
        return refused

    async def _histories(
        self, incident: Incident, diagnosis: Diagnosis, storm: Storm | None
    ) -> dict[tuple[str, str], Sequence[Revision]]:
        """The helm histories that the remedies may need. What cannot be read is told, and not acted upon."""
        histories: dict[tuple[str, str], Sequence[Revision]] = {}
        if self._helm is None:
            return histories
        release = storm.release if storm else None
        releases = [(release.namespace or "", release.name)] if release else []
        releases += [named for cause in diagnosis.causes[:MAX_CAUSES] if (named := helm_release(cause))]
        for named in dict.fromkeys(releases):
            try:
                histories[named] = await useful_history(self._helm, *named)
            except (ToolFailed, NotFound) as error:
                # without its history a release is not touched; what is left is a proposal
                text = f"the history of helm release {named[1]} could not be read: {error}"
                await self._incidents.add_step(incident.id, "refused", text, agent="k8s_fixer", once=True)
        return histories


def _rank(way: _Way) -> tuple[bool, bool, bool, int, int, bool]:
    """What can be undone first; a kind of change that did not hold here before after others; all causes at once before
    one; then the lesser risk, the fewer pods, and among equals what held here before. Ties stay in order."""
    plan = way.plan
    together = isinstance(plan.action, Combined)
    risk = list(Risk).index(plan.risk)
    return not plan.reversible, failed(way.before), not together, risk, plan.affected_pods, not held(way.before)


def _covers(plan: Plan, remedy: Remedy) -> bool:
    return isinstance(plan.action, Combined) and remedy.action in plan.action.parts


def _alternative(remedy: Remedy, plan: Plan) -> Proposal:
    undo = "it can be undone" if plan.reversible else "it cannot be undone"
    return Proposal(
        title=f"Instead: {plan.title}",
        reason=f"{remedy.reason} Risk {plan.risk.value}; {plan.blast_radius}; {undo}.",
        steps=remedy.steps,
        change=plan.diff,
    )


def _next(number: int, remedy: Remedy) -> Proposal:
    """A further cause is planned anew after the first step: only then is it seen what is left of it."""
    return Proposal(title=f"Step {number}: {remedy.title}", reason=remedy.reason, steps=remedy.steps)


def evidence_need(diagnosis: Diagnosis) -> EvidenceNeed:
    """A crash of native code must leave its core behind before anything that removes the pod."""
    native = any(cause.cause_class in CODE_FAULTS for cause in diagnosis.causes)
    return EvidenceNeed.CORE if native else EvidenceNeed.NONE


def core_sha256(diagnosis: Diagnosis) -> str | None:
    """The hash of the captured core, when it is complete."""
    core = diagnosis.crash.core if diagnosis.crash else None
    return core.sha256 if core and not core.truncated else None
