"""Memory of crashes: the same crash is recognised wherever the same program runs, and another one is told apart."""

from __future__ import annotations

import pytest

from agents.known_crashes import KnownCrashes
from agents.recall import Recall
from diagnosis.crashes.identity import identified
from diagnosis.merge import merge
from diagnosis.workloads.snapshot import Snapshot
from incidents.crash_report import CrashInfo, CrashReport, Frame, Process, Thread
from incidents.database import Database, utcnow
from incidents.memory import Memory
from incidents.models import (
    Cause,
    CauseClass,
    Diagnosis,
    DiagnosisStatus,
    Evidence,
    EvidenceKind,
    Finding,
    Incident,
    IncidentStatus,
    ObjectRef,
    Via,
)
from incidents.store import IncidentStore

API = ObjectRef(kind="Deployment", namespace="shop", name="api", container="main")
PROCESS = ObjectRef(kind="Process", name="api")
ONE, OTHER = ("fail", "handle", "main"), ("parse", "read", "main")


def found(ref: ObjectRef, kind: CauseClass, image: str | None = None) -> Diagnosis:
    seen = Evidence.of(EvidenceKind.OBJECT, "GET /pods", "exit 139", utcnow())
    finding = Finding.of("native_crash", "ended by SIGSEGV", [seen])
    facts = {"pod": "api-1", "current_revision": 7, "image": image} if image else {}
    cause = Cause.model_validate(
        {"class": kind, "object": ref, "confidence": 0.9, "summary": "It.", "finding_ids": [finding.id], "facts": facts}
    )
    return Diagnosis(status=DiagnosisStatus.DIAGNOSED, causes=[cause], findings=[finding], evidence=[seen])


class Bench:
    """Crashes one after the other, each placed and recalled as the gdb-analyst does it."""

    def __init__(self, database: Database, incidents: IncidentStore) -> None:
        self.incidents = incidents
        self.known = KnownCrashes(database, incidents, 3600)
        self.recall = Recall(Memory(database))

    async def crash(
        self, ref: ObjectRef, *functions: str, image: str | None = None, end: bool = True
    ) -> tuple[Incident, Diagnosis]:
        incident = await self.incidents.create(ref, "crash", requested_by="ann", via=Via.API)
        workload = None
        if image is not None:
            workload = found(ref, CauseClass.NATIVE_CRASH, image)
            workload = await self.recall.of_workload(incident, workload, Snapshot([]))
        frames = [
            Frame(frame=index, function=name, file="a.cpp", line=index + 1, module="/srv/api", in_app=True)
            for index, name in enumerate(functions)
        ]
        report = CrashReport(
            crash_info=CrashInfo(type="SIGSEGV / SEGV_MAPERR"), process=Process(exe="/srv/api"),
            threads=[Thread(frames=frames)], signature=" | ".join(functions),
        )  # fmt: skip
        core = found(PROCESS, CauseClass.NULL_DEREFERENCE).model_copy(update={"crash": identified(report)})
        core = await self.known.placed(incident, core, workload, None, analysed=True)
        core = await self.recall.of_crash(incident, core, workload)
        joint = merge(workload, core)
        status = IncidentStatus.DIAGNOSED if end else IncidentStatus.ANALYSING
        await self.incidents.update(incident.id, diagnosis=joint, status=status)
        return incident, joint


@pytest.fixture
def bench(database: Database, incidents: IncidentStore) -> Bench:
    return Bench(database, incidents)


async def test_the_same_program_elsewhere_is_recalled_and_another_program_is_not(bench: Bench) -> None:
    first, alone = await bench.crash(API, *ONE, image="registry.test/api:1@sha256:1")
    assert alone.recalled == []
    elsewhere = API.model_copy(update={"namespace": "bank"})
    _, same = await bench.crash(elsewhere, *ONE, image="registry.test/api:2@sha256:2")
    (item,) = same.recalled
    assert item.source == first.id and item.borne_out is None
    assert "Deployment shop/api, which is another with the same program" in item.why
    assert item.checked.startswith("The core shows the same crash.") and "nothing was executed" in item.text
    _, different = await bench.crash(elsewhere.model_copy(update={"name": "x"}), *ONE, image="registry.test/other:1")
    assert different.recalled == []


async def test_the_core_says_whether_what_the_workload_recalls_is_the_same_crash(bench: Bench) -> None:
    first, _ = await bench.crash(API, *ONE, image="api:1")
    _, again = await bench.crash(API, *ONE, image="api:1")
    (item,) = again.recalled
    assert item.source == first.id and item.why.startswith("The same crash (group")
    assert item.checked.startswith("The core shows the same crash.")
    _, other = await bench.crash(API, *OTHER, image="api:1")
    (item,) = other.recalled
    assert item.borne_out is False and item.checked.startswith("The core shows another crash than then")
    assert other.closure == 1.0


async def test_a_process_is_known_by_its_crash_alone_and_an_open_incident_is_no_past(bench: Bench) -> None:
    await bench.crash(PROCESS, *ONE, end=False)
    first, alone = await bench.crash(PROCESS, *ONE)
    assert alone.recalled == []
    _, again = await bench.crash(PROCESS, *ONE)
    assert [item.source for item in again.recalled] == [first.id]
    _, other = await bench.crash(PROCESS, *OTHER)
    assert other.recalled == []


async def test_asked_again_after_a_kill_it_says_the_same(bench: Bench, database: Database) -> None:
    await bench.crash(API, *ONE, image="api:1")
    incident, joint = await bench.crash(API, *ONE, image="api:1")
    core = found(PROCESS, CauseClass.NULL_DEREFERENCE).model_copy(update={"crash": joint.crash})
    twice = await bench.recall.of_crash(incident, core, joint)
    assert twice.recalled == joint.recalled
