"""The timeline of an incident has what Paramedic did to its objects, and the crashes whose cores it read."""

from __future__ import annotations

from datetime import timedelta

from agents.told_before import LOOKS_BACK, with_own_steps
from incidents.crash_groups import CrashGroups, GroupedCrash, Place
from incidents.database import Database, utcnow
from incidents.models import (
    Diagnosis,
    DiagnosisStatus,
    Evidence,
    EvidenceKind,
    Incident,
    IncidentStatus,
    Moment,
    MomentKind,
    ObjectRef,
    Via,
)
from incidents.past_steps import PastSteps
from incidents.plan import ApprovalState
from incidents.store import IncidentStore
from tests.feishu_samples import approval, record

API = ObjectRef(kind="Deployment", namespace="shop", name="api")
OTHER = ObjectRef(kind="Deployment", namespace="bank", name="api")


async def acted_on_api(database: Database, incidents: IncidentStore) -> Incident:
    """An incident about shop/api of an hour ago, whose plan was executed, did not help and was undone."""
    now = utcnow()
    plan = approval(ApprovalState.UNDONE, text="wrong\nport", issued_at=now - timedelta(hours=1))
    past = Incident(
        id=plan.incident_id,
        created_at=now - timedelta(hours=1),
        updated_at=now,
        status=IncidentStatus.NOT_FIXED,
        target=API,
        event="",
        requested_by="local",
        via=Via.CLI,
    )
    await record(database, plan, past)
    for type_, said in (
        ("hop", "on"),
        ("executed", plan.plan.title),
        ("verified", "restarts go on"),
        ("undone", "taken back"),
    ):
        await incidents.add_step(past.id, type_, said)
    return past


async def test_own_steps_stand_between_what_the_cluster_tells(database: Database, incidents: IncidentStore) -> None:
    past = await acted_on_api(database, incidents)
    now = utcnow()
    seen = Evidence.of(EvidenceKind.EVENT, "GET /events", "restarted", now)
    moments = [
        Moment(at=now - timedelta(days=3), kind=MomentKind.EVENT, text="before", evidence_ids=[seen.id]),
        Moment(at=now + timedelta(minutes=1), kind=MomentKind.RESTART, text="a", onset=True, evidence_ids=[seen.id]),
    ]
    found = Diagnosis(status=DiagnosisStatus.UNKNOWN, evidence=[seen], timeline=moments)
    new = await incidents.create(API, "again", requested_by="local", via=Via.CLI)
    told = await with_own_steps(PastSteps(database), new, found)
    assert [moment.text for moment in told.timeline] == [
        "before",
        "Paramedic executed: Change the liveness probe of api: wrong port",
        "Paramedic verified: restarts go on",
        "Paramedic undone: taken back",
        "a",
    ]
    actions = [moment for moment in told.timeline if moment.kind is MomentKind.ACTION]
    assert {moment.object for moment in actions} == {API}
    sources = {item.id: item.source for item in told.evidence}
    assert sources[actions[0].evidence_ids[0]] == f"Paramedic's record of incident {past.id}, step 2"


async def test_steps_on_other_objects_and_of_other_days_are_not_told(
    database: Database, incidents: IncidentStore
) -> None:
    await acted_on_api(database, incidents)
    steps, now = PastSteps(database), utcnow()
    assert await steps.done_to({OTHER}, now - LOOKS_BACK) == []
    assert await steps.done_to({API}, now + timedelta(minutes=1)) == []
    assert await steps.done_to(set(), now - LOOKS_BACK) == []
    found = Diagnosis(status=DiagnosisStatus.UNKNOWN)
    new = await incidents.create(OTHER, "", requested_by="local", via=Via.CLI)
    assert await with_own_steps(steps, new, found) is found
    assert await with_own_steps(None, new, found) is found


async def test_crashes_whose_cores_were_read_are_told_by_group(database: Database, incidents: IncidentStore) -> None:
    old = await incidents.create(API, "crash", requested_by="local", via=Via.COLLECTOR)
    groups, place = CrashGroups(database), Place(workload=str(API), pod="api-1")
    crash = GroupedCrash("crash_1", 1, "SIGSEGV | main", "key", None, [])
    await groups.arrived(old.id, "same", place)
    await groups.grouped(old.id, crash, place, identity="same", analysed=True)
    await groups.arrived(old.id, "same", place)
    new = await incidents.create(OTHER, "", requested_by="local", via=Via.CLI)
    nothing = Diagnosis(status=DiagnosisStatus.UNKNOWN)
    assert await with_own_steps(PastSteps(database), new, nothing) is nothing
    told = await with_own_steps(PastSteps(database), old, nothing)
    (moment,) = told.timeline
    assert (moment.kind, moment.object, moment.count) == (MomentKind.CRASH, API, 2)
    assert moment.text == "A core of crash group crash_1 came in"
    assert told.evidence[0].id in moment.evidence_ids
