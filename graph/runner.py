"""Runs incidents: each is advanced to its next interrupt or its end, in the background, and again after a restart."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from weakref import WeakValueDictionary

import structlog
from langgraph.graph import START
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command
from sqlalchemy.exc import SQLAlchemyError

from actions.gate import Gate
from agents.notifier import Notifier
from agents.supervisor import Notice
from errors import ParamedicError, ToolMissing
from graph.build import thread
from graph.intake import Intake
from graph.outcomes import words
from graph.state import State
from incidents.approvals import IN_PROGRESS, ApprovalStore
from incidents.crash_groups import Place
from incidents.models import CoreRef, Incident, IncidentStatus, ObjectRef, Via
from incidents.plan import Approval, ApprovalState
from incidents.store import IncidentStore

log = structlog.get_logger(__name__)

_ATTEMPTS = 7  # a killed process leaves its target locked for some 15 s
_ATTEMPTS_OF_A_BUG = 2
_BACKOFF = 1.0  # seconds before the second attempt; doubles
_STEPS = 20
_TICK = 1.0  # seconds between looks at the approvals that are waited for


class Runner:
    """Owns the background tasks. `advance` is idempotent: call it as often as you like."""

    def __init__(
        self,
        graph: CompiledStateGraph[State, None, State, State],
        incidents: IncidentStore,
        approvals: ApprovalStore,
        gate: Gate | None,
        intake: Intake | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self._intake = intake
        self._notifier = notifier
        self._graph = graph
        self._incidents = incidents
        self._approvals = approvals
        self._gate = gate
        self._busy: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: set[str] = set()
        self._again: set[str] = set()
        self._submitting = asyncio.Lock()
        self._draining = False

    # --- from outside ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up every unfinished incident, and watch for approvals that end without a call of `decide`."""
        for incident in await self._incidents.recent(open_only=True, limit=10_000):
            self._spawn(incident.id)
        if self._gate is not None:
            self._keep(asyncio.create_task(self._watch_approvals(self._gate), name="approvals"))

    async def submit(
        self,
        target: ObjectRef,
        event: str,
        *,
        requested_by: str,
        via: Via,
        core: CoreRef | None = None,
        identity: str | None = None,
        place: Place | None = None,
        force: bool = False,
    ) -> Incident:
        """Open an incident and start on it, or return the one that it is about.

        A second report of the same target is the same incident unless it brings another core; another core of a crash
        that an incident has already is that incident again, also shortly after it ended with a report. Repetitions
        are counted and cost no analysis. `identity` and `place` are what our node agent says of the core (see
        `Intake`). `force` asks for a new look.
        """
        intake = self._intake if core is not None and not force else None
        identity = await intake.identity(core, identity) if intake and core else None
        async with self._submitting:
            known = None if force else await self._incidents.open_for(target)
            if known is not None and core is not None and core != known.core:
                known = None
            if known is None and core is not None and intake and identity:
                known = await intake.incident_for(identity, target, core)
            if known is not None:
                if core is not None and intake:
                    await intake.arrived(known, identity, place)
                return await self._count(known, event, requested_by)
            incident = await self._incidents.create(
                target, event, requested_by=requested_by, via=via, core=core, force=force
            )
            if intake:
                await intake.arrived(incident, identity, place)
        await self._incidents.add_step(incident.id, "run.started", f"{target}", data={"by": requested_by})
        self._spawn(incident.id)
        return incident

    async def take_up_plan(self, incident: Incident) -> None:
        """Go on with an incident that was opened with its diagnosis and a plan of the gate: people are asked for the
        approval, and nothing is looked for."""
        known = State(
            incident_id=incident.id,
            hops=0,
            researched=True,
            told=[Notice.DIAGNOSIS.value],
            fix_considered=True,
            plan_ready=True,
            looked_again=True,
        )
        await self._graph.aupdate_state(thread(incident.id), known, as_node=START)
        await self._incidents.add_step(
            incident.id, "run.started", f"{incident.target}", data={"by": incident.requested_by}
        )
        self._spawn(incident.id)

    async def _count(self, known: Incident, event: str, by: str) -> Incident:
        """Count a repetition, with a step while there are few: of many, each power of two has one."""
        counted = await self._incidents.update(known.id, again=True)
        if counted.count <= _STEPS or counted.count & (counted.count - 1) == 0:
            data: dict[str, object] = {"by": by, "count": counted.count}
            await self._incidents.add_step(known.id, "reported.again", event[:500], data=data)
        return counted

    async def decide(self, approval_id: str, **decision: Any) -> Approval:
        """Record a decision (see `Gate.decide`) and let its incident go on. Raises as the gate does."""
        if self._gate is None:
            raise ToolMissing("no cluster is connected, so there is nothing to decide")
        approval = await self._gate.decide(approval_id, **decision)
        if approval.state.decided:
            self._spawn(approval.incident_id)
        return approval

    async def drain(self) -> None:
        """Stop: running nodes are cancelled where they wait; the next start takes them up again."""
        self._draining = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- one incident ---------------------------------------------------------------------------------------------

    async def advance(self, incident_id: str) -> None:
        """Run the incident's graph from its last checkpoint to the next interrupt or the end.

        Raises what a node raised; the background wrapper retries and, in the end, tells the truth about it.
        """
        lock = self._busy.setdefault(incident_id, asyncio.Lock())  # held here, so the weak entry lives as long
        async with lock:
            config = thread(incident_id)
            while True:
                state = await self._graph.aget_state(config)
                # a resume of an unknown or finished thread would start it from the beginning, or do nothing in silence
                step: State | Command[Any] | None
                if not state.values:
                    step = State(incident_id=incident_id, hops=0)
                elif not state.next:
                    return
                elif state.interrupts:
                    approval = await self._approvals.get(state.values["approval_id"])
                    if approval.state is ApprovalState.PENDING:
                        return
                    step = Command(resume={state.interrupts[0].id: {"approval_id": approval.id}})
                else:
                    step = None
                # "sync": the checkpoint is on disk before the next node begins
                await self._graph.ainvoke(step, config, durability="sync")

    def _spawn(self, incident_id: str) -> None:
        """Advance in the background; while it runs already, once more after that."""
        if incident_id in self._running:
            self._again.add(incident_id)
        elif not self._draining:
            self._running.add(incident_id)
            self._keep(asyncio.create_task(self._run(incident_id), name=incident_id))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, incident_id: str) -> None:
        try:
            again = True
            while again:
                self._again.discard(incident_id)
                await self._persist(incident_id)
                again = incident_id in self._again
        finally:
            self._running.discard(incident_id)

    async def _persist(self, incident_id: str) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self.advance(incident_id)
            except Exception as error:
                # the top of a background task: an incident must never hang in silence because a node failed
                log.warning("incident step failed", incident=incident_id, attempt=attempt, exc_info=error)
                if attempt == (_ATTEMPTS if isinstance(error, ParamedicError) else _ATTEMPTS_OF_A_BUG):
                    return await self._give_up(incident_id, error)
                await self._tell(incident_id, error)
                await asyncio.sleep(_BACKOFF * 2 ** (attempt - 1))
        return None

    async def _tell(self, incident_id: str, error: Exception) -> None:
        with contextlib.suppress(ParamedicError):
            await self._incidents.add_step(incident_id, "error", words(error), once=True)

    async def _give_up(self, incident_id: str, error: Exception) -> None:
        """End the incident truthfully: escalated when a write may have happened, fixed when the last one was verified,
        else failed."""
        approvals = await self._approvals.list(incident_id=incident_id)
        verified = bool(approvals) and approvals[0].state is ApprovalState.DONE
        status = IncidentStatus.FIXED if verified else IncidentStatus.FAILED
        for approval in approvals:
            if approval.state in IN_PROGRESS:
                status = IncidentStatus.ESCALATED
                # an abandoned execution would keep its target closed to every later plan
                outcome = f"given up, a person has to look: {words(error)}"
                await self._approvals.settle(approval.id, ApprovalState.FAILED, outcome=outcome, expected=IN_PROGRESS)
        await self._tell(incident_id, error)
        await self._incidents.add_step(incident_id, "done", f"ended: {status.value}", data={"status": status.value})
        if self._notifier is not None:
            newest = approvals[0] if approvals else None
            await self._notifier.ended(await self._incidents.get(incident_id), status, newest)
        await self._incidents.update(incident_id, status=status)

    async def _watch_approvals(self, gate: Gate) -> None:
        """Wake incidents whose approval expired, was superseded by another incident's, or was decided elsewhere."""
        while True:
            await asyncio.sleep(_TICK)
            try:
                await gate.expire_due()
                for incident in await self._incidents.recent(status=IncidentStatus.AWAITING_APPROVAL, limit=1000):
                    newest = await self._approvals.list(incident_id=incident.id, limit=1)
                    if newest and newest[0].state.decided:
                        self._spawn(incident.id)
            except (ParamedicError, SQLAlchemyError) as error:
                log.warning("looking at approvals failed", exc_info=error)
