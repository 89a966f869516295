"""The graph's nodes: each calls one specialist or one step of the gate, and goes back to the supervisor.

A node may run again after a kill: everything it does is keyed by the incident or the approval, and repeats nothing.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Literal

from langgraph.types import Command, interrupt
from pydantic import BaseModel

from actions.gate import Gate
from agents.analyst import Analyst
from agents.choosing import choose_next
from agents.gdb_analyst import GdbAnalyst, unread
from agents.k8s_fixer import K8sFixer
from agents.notifier import Notifier
from agents.researcher import Researcher
from agents.supervisor import Hop, Notice, Route, allowed
from diagnosis.merge import merge
from graph.core_wait import CoreWait
from graph.outcomes import end_status
from graph.second_look import further
from graph.situation import due_notice, situation_of
from graph.state import State
from incidents.approvals import ApprovalStore
from incidents.drafts import Drafts
from incidents.models import Diagnosis, Incident, IncidentStatus
from incidents.plan import Approval, ApprovalState
from incidents.store import IncidentStore
from tools.llm.models import Models


class Resume(BaseModel):
    """What wakes a waiting graph. It carries no verdict: the verdict is read from the database."""

    approval_id: str


class Nodes:
    """The node functions, bound to the services they use."""

    def __init__(
        self,
        incidents: IncidentStore,
        approvals: ApprovalStore,
        drafts: Drafts,
        researcher: Researcher | None,
        gdb_analyst: GdbAnalyst,
        fixer: K8sFixer | None,
        gate: Gate | None,
        notifier: Notifier,
        models: Models | None,
        *,
        max_analyses: int,
        core_wait: CoreWait,
        analyst: Analyst | None = None,
    ) -> None:
        self._incidents = incidents
        self._approvals = approvals
        self._drafts = drafts
        self._researcher = researcher
        self._analyst = analyst
        self._gdb_analyst = gdb_analyst
        self._fixer = fixer
        self._gate = gate
        self._notifier = notifier
        self._models = models
        self._core_wait = core_wait
        # analyses are what costs (gdb, snapshots); waiting, verifying and telling need no turn
        self._turn = asyncio.Semaphore(max_analyses)

    # --- deciding -------------------------------------------------------------------------------------------------

    async def supervisor(
        self, state: State
    ) -> Command[
        Literal[
            "researcher",
            "analyst",
            "gdb_analyst",
            "k8s_fixer",
            "notifier",
            "request_approval",
            "approval",
            "execute",
            "verify",
            "undo",
            "look_again",
            "finish",
        ]
    ]:
        incident = await self._incidents.get(state["incident_id"])
        if not state.get("hops", 0):
            await self._notifier.opened(incident)
        approval = await self._approval(state)
        hop, notice = await self._next(state, incident, approval)
        hops = state.get("hops", 0) + 1
        await self._incidents.add_step(
            incident.id, "hop", hop.reason, agent="supervisor", data={"to": hop.to.value, "hop": hops}
        )
        return Command(update={"hops": hops, "notice": notice}, goto=hop.to.value)

    async def _next(self, state: State, incident: Incident, approval: Approval | None) -> tuple[Hop, str | None]:
        diagnosis = await self._incidents.diagnosis(incident.id)
        analysed = state.get("core_analysed", False)
        situation = situation_of(
            state,
            incident,
            approval,
            diagnosis,
            core_known=not analysed and await self._gdb_analyst.has_core(incident, diagnosis),
            researcher=self._researcher is not None,
            analyst=self._analyst is not None,
            fixer=self._fixer is not None,
        )
        hops = allowed(situation)
        hop = hops[0]
        if len(hops) > 1 and self._models is not None:
            options = {item.to.value: item.reason for item in hops}
            chosen = await choose_next(self._models, incident=incident, options=options, default=hop.to.value)
            hop = next(item for item in hops if item.to.value == chosen)
        return hop, due_notice(approval).value if hop.to is Route.NOTIFIER else None

    # --- looking --------------------------------------------------------------------------------------------------

    async def researcher(self, state: State) -> Command[Literal["supervisor"]]:
        assert self._researcher is not None
        incident = await self._begin(state, "researcher", "looks at the cluster")
        async with self._turn:
            found = await self._researcher.run(incident)
        await self._conclude(incident, workload=found)
        return Command(update={"researched": True}, goto="supervisor")

    async def analyst(self, state: State) -> Command[Literal["supervisor"]]:
        assert self._analyst is not None
        incident = await self._begin(state, "analyst", "compares what is measured with what is usual")
        known = await self._incidents.diagnosis(incident.id)
        async with self._turn:
            found = await self._analyst.run(incident, known)
        await self._conclude(incident, metrics=found)
        return Command(update={"measured": True}, goto="supervisor")

    async def gdb_analyst(self, state: State) -> Command[Literal["supervisor"]]:
        waited = state.get("core_until")
        incident = await self._begin(
            state, "gdb_analyst", "waits for the core dump" if waited else "reads the core dump"
        )
        known = await self._incidents.diagnosis(incident.id)

        async def read(last: bool) -> Diagnosis:
            async with self._turn:
                return await self._gdb_analyst.run(incident, known, programs_may_miss=last)

        until = datetime.fromisoformat(waited) if waited else None
        found = await self._core_wait.read(incident, read, until=until)
        if isinstance(found, Diagnosis):
            await self._conclude(incident, crash=found)
            # whoever heard what was known without the core hears what it says
            told = [name for name in state.get("told", []) if name != Notice.DIAGNOSIS]
            return Command(update={"core_analysed": True, **({"told": told} if waited else {})}, goto="supervisor")
        if waited:
            await self._conclude(incident, crash=unread(f"{found}; ask again with force when the store is back"))
            return Command(update={"core_analysed": True}, goto="supervisor")
        until = self._core_wait.begin(incident).astimezone(UTC)
        await self._conclude(
            incident,
            crash=unread(f"{found}; it is tried again until {until:%H:%M} UTC"),
            without="no cause yet: its core waits for the store",
        )
        return Command(update={"core_until": until.isoformat()}, goto="supervisor")

    async def _begin(self, state: State, agent: str, text: str) -> Incident:
        incident = await self._incidents.get(state["incident_id"])
        await self._incidents.update(incident.id, status=IncidentStatus.ANALYSING)
        await self._incidents.add_step(incident.id, "step.started", text, agent=agent)
        return incident

    async def _conclude(
        self,
        incident: Incident,
        *,
        workload: Diagnosis | None = None,
        crash: Diagnosis | None = None,
        metrics: Diagnosis | None = None,
        without: str | None = None,
    ) -> None:
        """Keep each specialist's own findings, and make the joint diagnosis anew from them; a repeat is harmless.

        `without` is the summary when no cause is known.
        """
        given = {"researcher": workload, "gdb_analyst": crash, "analyst": metrics}
        agent, draft = next((agent, draft) for agent, draft in given.items() if draft is not None)
        await self._drafts.save(incident.id, agent, draft)
        joint = merge(*[await self._drafts.load(incident.id, name) for name in given])
        without = without or f"{joint.status.value}: no cause named"
        summary = joint.causes[0].summary if joint.causes else without
        await self._incidents.update(incident.id, diagnosis=joint, summary=summary)
        await self._incidents.add_step(
            incident.id, "finding", summary, agent=agent, data={"status": joint.status.value}
        )

    # --- telling --------------------------------------------------------------------------------------------------

    async def notifier(self, state: State) -> Command[Literal["supervisor"]]:
        incident = await self._incidents.get(state["incident_id"])
        notice = Notice(state.get("notice") or Notice.DIAGNOSIS)
        approval = await self._approval(state)
        diagnosis = await self._incidents.diagnosis(incident.id)
        if notice is Notice.REQUEST and approval is not None:
            text = await self._notifier.request(incident, approval)
        elif notice is Notice.RESULT or diagnosis is None:
            text = await self._notifier.outcome(incident, approval)
        else:
            text = await self._notifier.diagnosis(incident, diagnosis, await self._incidents.proposals(incident.id))
        await self._incidents.add_step(
            incident.id, "notice", text, agent="notifier", data={"about": notice.value}, once=True
        )
        return Command(update={"told": [*state.get("told", []), notice.value]}, goto="supervisor")

    # --- acting ---------------------------------------------------------------------------------------------------

    async def k8s_fixer(self, state: State) -> Command[Literal["supervisor"]]:
        assert self._fixer is not None
        incident = await self._begin(state, "k8s_fixer", "looks for a fix")
        diagnosis = await self._incidents.diagnosis(incident.id)
        assert diagnosis is not None
        offer = await self._fixer.run(incident, diagnosis)
        await self._incidents.update(incident.id, proposals=offer.proposals)
        if offer.plan is not None:
            await self._drafts.save_plan(incident.id, offer.plan)
        for proposal in offer.proposals:
            await self._incidents.add_step(incident.id, "proposal", proposal.title, agent="k8s_fixer")
        return Command(update={"fix_considered": True, "plan_ready": offer.plan is not None}, goto="supervisor")

    async def request_approval(self, state: State) -> Command[Literal["supervisor"]]:
        assert self._gate is not None
        incident_id = state["incident_id"]
        plan = await self._drafts.load_plan(incident_id)
        approval = await self._gate.request(plan)
        await self._incidents.update(incident_id, status=IncidentStatus.AWAITING_APPROVAL)
        await self._incidents.add_step(
            incident_id,
            "approval.requested",
            plan.title,
            agent="k8s_fixer",
            data={"approval_id": approval.id, "digest": approval.digest, "expires_at": approval.expires_at.isoformat()},
            once=True,
        )
        return Command(update={"approval_id": approval.id}, goto="supervisor")

    async def approval(self, state: State) -> Command[Literal["supervisor"]]:
        # nothing stands before the interrupt, and nothing catches around it: this node runs again on every resume
        interrupt({"approval_id": state["approval_id"]}, response_schema=Resume)
        return Command(goto="supervisor")

    async def execute(self, state: State) -> Command[Literal["supervisor"]]:
        gate, approval_id = self._acting(state)
        await self._incidents.update(state["incident_id"], status=IncidentStatus.EXECUTING)
        approval = await gate.execute(approval_id)
        refused = approval.state is ApprovalState.STALE
        await self._tell(approval, "refused" if refused else "executed", approval.plan.title, state)
        return Command(goto="supervisor")

    async def verify(self, state: State) -> Command[Literal["supervisor"]]:
        gate, approval_id = self._acting(state)
        verification = await gate.verify(approval_id)
        await self._incidents.add_step(
            state["incident_id"],
            "verified",
            _numbered(state, verification.summary),
            agent="k8s_fixer",
            data={"ok": verification.ok, "checks": dict(verification.checks)},
            once=True,
        )
        return Command(update={"verified": verification.ok}, goto="supervisor")

    async def undo(self, state: State) -> Command[Literal["supervisor"]]:
        gate, approval_id = self._acting(state)
        approval = await gate.undo(approval_id)
        undone = approval.state is ApprovalState.UNDONE
        await self._tell(approval, "undone" if undone else "escalated", approval.state.value, state)
        return Command(goto="supervisor")

    async def look_again(self, state: State) -> Command[Literal["supervisor"]]:
        """After a verified repair: a cause that shows only now gets a plan, which needs an approval of its own."""
        assert self._researcher is not None and self._fixer is not None
        incident = await self._begin(state, "researcher", "looks whether another cause shows after the repair")
        nothing_new: Command[Literal["supervisor"]] = Command(update={"looked_again": True}, goto="supervisor")
        async with self._turn:
            more = await further(self._incidents, self._researcher, self._fixer, incident)
        if more is None:
            return nothing_new
        offer = more.offer
        done = [approval.plan.action for approval in await self._approvals.list(incident_id=incident.id)]
        if offer.plan is None or offer.plan.action in done:
            for proposal in offer.proposals:
                await self._incidents.add_step(incident.id, "proposal", proposal.title, agent="k8s_fixer", once=True)
            return nothing_new
        await self._conclude(incident, workload=more.diagnosis)
        await self._incidents.update(incident.id, proposals=offer.proposals)
        await self._drafts.save_plan(incident.id, offer.plan)
        told = [name for name in state.get("told", []) if name not in (Notice.REQUEST, Notice.RESULT)]
        repairs = state.get("repairs", 0) + 1
        return Command(
            update={"approval_id": None, "plan_ready": True, "verified": None, "repairs": repairs, "told": told},
            goto="supervisor",
        )

    async def finish(self, state: State) -> Command[Literal["__end__"]]:
        incident_id = state["incident_id"]
        approval = await self._approval(state)
        diagnosis = await self._incidents.diagnosis(incident_id)
        status = end_status(diagnosis, approval)
        await self._incidents.add_step(
            incident_id, "done", f"ended: {status.value}", agent="supervisor", data={"status": status.value}, once=True
        )
        await self._notifier.ended(await self._incidents.get(incident_id), status, approval)
        await self._incidents.update(incident_id, status=status)
        return Command(goto="__end__")

    async def _tell(self, approval: Approval, type: str, otherwise: str, state: State) -> None:
        text, data = _numbered(state, approval.outcome or otherwise), {"state": approval.state.value}
        await self._incidents.add_step(approval.incident_id, type, text, agent="k8s_fixer", data={**data}, once=True)

    def _acting(self, state: State) -> tuple[Gate, str]:
        approval_id = state.get("approval_id")
        assert self._gate is not None and approval_id is not None
        return self._gate, approval_id

    async def _approval(self, state: State) -> Approval | None:
        approval_id = state.get("approval_id")
        return await self._approvals.get(approval_id) if approval_id else None


def _numbered(state: State, text: str) -> str:
    """A step of a further repair is told apart from the same of the one before."""
    repairs = state.get("repairs", 0)
    return f"step {repairs + 1}: {text}" if repairs else text
