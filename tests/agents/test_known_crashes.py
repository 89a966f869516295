"""Groups, history and value of crashes as the record grows."""

from __future__ import annotations

from agents.known_crashes import KnownCrashes, place_of
from diagnosis.crashes.identity import identified
from incidents.crash_report import CrashInfo, CrashReport, Frame, Process, Thread
from incidents.database import Database, utcnow
from incidents.models import (
    Cause,
    CauseClass,
    Diagnosis,
    DiagnosisStatus,
    Evidence,
    EvidenceKind,
    Fact,
    Finding,
    Incident,
    ObjectRef,
    Via,
)
from incidents.store import IncidentStore

API = ObjectRef(kind="Deployment", namespace="shop", name="api", container="main")


def crash(*functions: str) -> Diagnosis:
    """What an analysis says of a crash with this stack."""
    frames = [
        Frame(frame=index, function=name, file="a.cpp", line=index + 1, module="/srv/api", in_app=True)
        for index, name in enumerate(functions)
    ]
    report = CrashReport(
        crash_info=CrashInfo(type="SIGSEGV / SEGV_MAPERR"),
        process=Process(exe="/srv/api"),
        threads=[Thread(frames=frames)],
        signature=" | ".join(functions),
    )
    return Diagnosis(status=DiagnosisStatus.DIAGNOSED, causes=[cause({})[0]], crash=identified(report))


def cause(facts: dict[str, Fact]) -> tuple[Cause, Finding, Evidence]:
    seen = Evidence.of(EvidenceKind.OBJECT, "GET /pods", "exit 139", utcnow())
    finding = Finding.of("native_crash", "ended by SIGSEGV", [seen])
    found = Cause(
        cause_class=CauseClass.NATIVE_CRASH,
        object=API,
        confidence=0.9,
        summary="crashes",
        finding_ids=[finding.id],
        facts=facts,
    )
    return found, finding, seen


def workload(revision: int, pod: int) -> Diagnosis:
    """What the researcher says of the workload then."""
    facts: dict[str, Fact] = {"pod": f"api-{pod}", "node": f"n{pod % 2}", "image": "api@sha256:1"}
    found, finding, seen = cause(facts | {"current_revision": revision, "healthy_revision": revision - 1})
    return Diagnosis(status=DiagnosisStatus.DIAGNOSED, causes=[found], findings=[finding], evidence=[seen])


async def incident(store: IncidentStore) -> Incident:
    return await store.create(API, "crash", requested_by="ann", via=Via.API)


async def test_the_report_says_since_when_how_often_and_what_it_is_worth(
    database: Database, incidents: IncidentStore
) -> None:
    known = KnownCrashes(database, incidents, 3600)
    found = []
    for pod, names in enumerate((["fail", "handle", "main"], ["fail", "handle", "main"], ["handle", "main"])):
        one = await incident(incidents)
        found.append(await known.placed(one, crash(*names), workload(7, pod), None, analysed=True))
    reports = [item.crash for item in found if item.crash]
    groups = {report.signatures.group_id for report in reports if report.signatures}
    assert len(groups) == 1
    last = reports[-1]
    assert last.signatures is not None and last.history is not None and last.value_score is not None
    assert last.signatures.similarity is not None and 0.7 < last.signatures.similarity < 1
    sentence = "First seen in revision 7 of Deployment shop/api, absent in revision 6, 3 times on 2 nodes so far."
    assert last.history.sentence == sentence
    (claim,) = [item for item in found[-1].findings if item.rule == "crash.history"]
    assert claim.claim == sentence
    assert claim.evidence_ids[0] in {item.id for item in found[-1].evidence}
    first = reports[0].value_score
    assert first is not None and first.components["novelty"] == 2.0
    assert last.value_score.components["known_group"] == -0.75
    assert last.value_score.components["blast_radius"] > 0


async def test_a_restarted_service_knows_the_groups(database: Database, incidents: IncidentStore) -> None:
    first = await KnownCrashes(database, incidents, 3600).placed(
        await incident(incidents), crash("fail", "handle", "main"), None, None, analysed=True
    )
    again = await KnownCrashes(database, incidents, 3600).placed(
        await incident(incidents), crash("handle", "main"), None, None, analysed=True
    )
    assert first.crash and again.crash and first.crash.signatures and again.crash.signatures
    assert again.crash.signatures.group_id == first.crash.signatures.group_id
    assert again.crash.history is not None and again.crash.history.count == 2


async def test_a_crash_without_a_stack_is_left_as_it_is(database: Database, incidents: IncidentStore) -> None:
    known = KnownCrashes(database, incidents, 3600)
    for bare in (
        Diagnosis(status=DiagnosisStatus.FAILED),
        Diagnosis(status=DiagnosisStatus.UNKNOWN, crash=CrashReport()),
    ):
        assert await known.placed(await incident(incidents), bare, None, None, analysed=False) == bare


def test_the_place_is_what_the_researcher_observed() -> None:
    place = place_of(workload(7, 3))
    assert (place.workload, place.revision, place.previous_revision) == ("Deployment shop/api", 7, 6)
    assert (place.pod, place.node, place.image) == ("api-3", "n1", "api@sha256:1")
    assert place_of(None).workload is None
    assert place_of(crash("f")).workload is None
