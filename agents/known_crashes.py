"""Crashes that are known: which open incident a core belongs to, which group, and what need not be analysed twice.

Without a debugger a core still tells its build-ids, its signal and the return addresses of its crashing thread. Two
crashes that agree in all of that are the same crash of the same build: the second is counted, its frames get the names
that the debugger gave the first, and neither gdb nor a model is asked again. `force` asks.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from diagnosis.crashes.groups.clusters import Clusters, Known
from diagnosis.crashes.groups.stack import VERSION, NormalStack
from diagnosis.crashes.identity import identity_of, stack_of
from diagnosis.crashes.recalled import recalled
from diagnosis.crashes.value import value_score
from incidents.crash_groups import CrashGroups, GroupedCrash, Place
from incidents.crash_verdicts import History
from incidents.database import Database, utcnow
from incidents.drafts import Drafts
from incidents.models import (
    CoreRef,
    Diagnosis,
    DiagnosisStatus,
    Evidence,
    EvidenceKind,
    Finding,
    Incident,
    ObjectRef,
    Severity,
)
from incidents.store import IncidentStore

if TYPE_CHECKING:
    from incidents.crash_report import CrashReport


class KnownCrashes:
    """The groups of this service, in memory and on record."""

    def __init__(self, database: Database, incidents: IncidentStore, repeat_seconds: float) -> None:
        self._record = CrashGroups(database)
        self._drafts = Drafts(database)
        self._incidents = incidents
        self._repeat_seconds = repeat_seconds
        self._clusters: Clusters | None = None
        self._grouping = asyncio.Lock()

    # --- a core comes in ------------------------------------------------------------------------------------------

    async def incident_for(self, identity: str, target: ObjectRef, core: CoreRef) -> Incident | None:
        """The incident that a crash of this identity belongs to: it is open, or has just ended with a report.

        A crash of another workload is an incident of its own, for its fix would be another; programs without a
        workload are told apart by nothing but their crash. A core that comes with an executable or debug information
        which the first had not is worth a new look.
        """
        for incident_id in await self._record.incidents_of(identity, ended_within=self._repeat_seconds):
            incident = await self._incidents.get(incident_id)
            same = incident.target == target or incident.target.kind == target.kind == "Process"
            if same and not _brings_more(core, incident.core):
                return incident
        return None

    async def arrived(self, incident: Incident, identity: str | None, place: Place | None = None) -> None:
        """Note a crash of `incident`; `place` is where it was, as far as that is known before it is analysed."""
        await self._record.arrived(incident.id, identity, place)

    # --- a core is read -------------------------------------------------------------------------------------------

    async def recall(self, incident: Incident, own: Diagnosis) -> Diagnosis | None:
        """`own`, which was read without a debugger, completed by what one said of the same crash before; else None."""
        if own.crash is None or (identity := identity_of(own.crash)) is None:
            return None
        before = await self._record.analysed(identity, incident.id)
        known = await self._drafts.load(before, "gdb_analyst") if before else None
        if before is None or known is None or known.status is not DiagnosisStatus.DIAGNOSED:
            return None
        if _brings_more(incident.core, (await self._incidents.get(before)).core):
            return None
        return recalled(own, known, before)

    async def placed(
        self, incident: Incident, found: Diagnosis, workload: Diagnosis | None, identity: str | None, *, analysed: bool
    ) -> Diagnosis:
        """`found` with the crash's group, its history and its value; the record knows of it then."""
        stack = stack_of(found.crash) if found.crash else None
        if found.crash is None or found.crash.signatures is None or stack is None:
            return found
        report, signatures = found.crash, found.crash.signatures
        place = place_of(workload)
        async with self._grouping:
            clusters = await self._loaded()
            match = clusters.assign(stack, signatures.address_sig)
            members = [_document(member) for member in clusters.members(match.group_id)]
            crash = GroupedCrash(match.group_id, VERSION, report.signature, stack.key, signatures.address_sig, members)
            history = await self._record.grouped(incident.id, crash, place, identity=identity, analysed=analysed)
        earlier = await self._record.earlier(match.group_id, incident.id)
        pods = await self._record.pods_last_hour(match.group_id)
        report = report.model_copy(
            update={
                "signatures": signatures.model_copy(
                    update={"group_id": match.group_id, "similarity": match.similarity}
                ),
                "history": history,
                "value_score": value_score(report, earlier=earlier, pods_last_hour=pods),
            }
        )
        return _with_history(found, report, history)

    async def _loaded(self) -> Clusters:
        if self._clusters is None:
            clusters = Clusters()
            for group in await self._record.load(VERSION):
                clusters.restore(Known(group.id, [_stack(member) for member in group.members], group.aliases))
            self._clusters = clusters
        return self._clusters


def _brings_more(core: CoreRef | None, before: CoreRef | None) -> bool:
    """Whether `core` names files for symbols where `before` named none."""
    if core is None or before is None:
        return False
    return any(getattr(core, name) and not getattr(before, name) for name in ("executable", "sysroot", "debug_dir"))


def place_of(workload: Diagnosis | None) -> Place:
    """Where the crash was, from what the researcher found about the workload."""
    for cause in workload.causes if workload else ():
        facts = cause.facts
        revision, pod, node, image = (facts.get(name) for name in ("current_revision", "pod", "node", "image"))
        if cause.object.kind == "Process" or not (pod or revision):
            continue
        before = facts.get("healthy_revision", facts.get("previous_revision"))
        return Place(
            workload=str(cause.object.model_copy(update={"container": None})),
            revision=revision if isinstance(revision, int) else None,
            previous_revision=before if isinstance(before, int) else None,
            image=image if isinstance(image, str) else None,
            node=node if isinstance(node, str) else None,
            pod=pod if isinstance(pod, str) else None,
        )
    return Place()


def _with_history(found: Diagnosis, report: CrashReport, history: History) -> Diagnosis:
    """The history as a finding that cites the record."""
    assert report.signatures is not None
    text = history.model_dump_json(exclude_none=True)
    seen = Evidence.of(
        EvidenceKind.HISTORY, f"Paramedic's record of crash group {report.signatures.group_id}", text, utcnow()
    )
    where = found.causes[0].object if found.causes else None
    claim = history.sentence or "Seen once."
    finding = Finding.of("crash.history", claim, [seen], severity=Severity.INFO, object=where)
    return found.model_copy(
        update={"crash": report, "findings": [*found.findings, finding], "evidence": [*found.evidence, seen]}
    )


def _document(stack: NormalStack) -> dict[str, object]:
    return {"names": list(stack.names), "anchor": stack.anchor, "kind": stack.kind, "program": stack.program}


def _stack(document: dict[str, object]) -> NormalStack:
    names, anchor = document["names"], document["anchor"]
    assert isinstance(names, list) and isinstance(anchor, int)
    return NormalStack(tuple(names), anchor, str(document["kind"]), str(document["program"]))
