"""The record of crashes: since when, in which revision, how often, on which nodes."""

from __future__ import annotations

from dataclasses import replace

from incidents.crash_groups import CrashGroups, GroupedCrash, Place
from incidents.database import Database
from incidents.models import Incident, IncidentStatus, ObjectRef, Via
from incidents.store import IncidentStore

API = Place(workload="Deployment shop/api", revision=6, previous_revision=5, image="api@sha256:1")
MEMBERS = [{"names": ["handle", "main"], "anchor": 0, "kind": "memory", "program": "api"}]


async def incident(store: IncidentStore, name: str = "api") -> Incident:
    target = ObjectRef(kind="Deployment", namespace="shop", name=name)
    return await store.create(target, "crash", requested_by="ann", via=Via.API)


def crash(group: str = "grp_1", address: str | None = "a1") -> GroupedCrash:
    return GroupedCrash(group, 1, "SIGSEGV | handle | main", group, address, MEMBERS)


async def test_first_seen_absent_before_and_how_often_where(database: Database, incidents: IncidentStore) -> None:
    record = CrashGroups(database)
    places = [replace(API, node=f"n{number % 2}", pod=f"p{number}") for number in range(3)]
    for place in places:
        one = await incident(incidents)
        history = await record.grouped(one.id, crash(), place, identity="i1", analysed=True)
    assert (history.count, history.first_revision, history.absent_in) == (3, "6", "5")
    assert history.nodes == ["n0", "n1"]
    assert history.sentence == (
        "First seen in revision 6 of Deployment shop/api, absent in revision 5, 3 times on 2 nodes so far."
    )
    assert await record.pods_last_hour("grp_1") == 3
    later = await incident(incidents)
    known = await record.grouped(
        later.id, crash(), replace(API, revision=7, previous_revision=6), identity=None, analysed=True
    )
    assert (known.count, known.first_revision, known.absent_in) == (4, "6", None)
    assert await record.earlier("grp_1", later.id) == 3
    other = await record.history("grp_1", Place(workload="Deployment shop/other", revision=2, previous_revision=1))
    assert (other.count, other.first_revision) == (4, None)


async def test_a_step_that_runs_again_counts_nothing_twice(database: Database, incidents: IncidentStore) -> None:
    record = CrashGroups(database)
    one = await incident(incidents)
    await record.arrived(one.id, "i1")
    for _ in range(3):
        history = await record.grouped(one.id, crash(), API, identity="i1", analysed=True)
    assert history.count == 1
    await record.arrived(one.id, "i1")  # the same crash again: of the same group and place
    assert (await record.history("grp_1", API)).count == 2
    assert (await record.history("grp_1", API)).first_revision == "6"


async def test_crashes_that_agents_told_of_are_known_by_their_nodes(
    database: Database, incidents: IncidentStore
) -> None:
    record = CrashGroups(database)
    one = await incident(incidents)
    for number in range(2):
        told = Place(workload=API.workload, node=f"n{number}", pod=f"p{number}")
        await record.arrived(one.id, "i1", told)
    history = await record.grouped(one.id, crash(), Place(), identity="i1", analysed=True)
    assert history.nodes == ["n0", "n1"] and history.sentence.endswith("2 times on 2 nodes so far.")
    await record.arrived(one.id, "i1", Place(node="n2"))  # of the group and workload of those before
    assert (await record.history("grp_1", API)).nodes == ["n0", "n1", "n2"]
    assert await record.pods_last_hour("grp_1") == 2


async def test_groups_are_taken_up_again_with_all_their_hashes(database: Database, incidents: IncidentStore) -> None:
    record = CrashGroups(database)
    one, two = await incident(incidents), await incident(incidents)
    await record.grouped(one.id, crash(), API, identity=None, analysed=True)
    await record.grouped(
        two.id, replace(crash(), stack_key="grp_variant", address_sig="a2"), API, identity=None, analysed=True
    )
    (group,) = await record.load(1)
    assert group.members == MEMBERS
    assert set(group.aliases) == {"grp_1", "grp_variant", "a1", "a2"}
    assert await record.load(2) == []


async def test_a_new_crash_joins_what_is_open_or_was_only_reported(
    database: Database, incidents: IncidentStore
) -> None:
    record = CrashGroups(database)
    one = await incident(incidents)
    await record.arrived(one.id, "i1")
    await incidents.update(one.id, status=IncidentStatus.UNKNOWN)
    assert await record.incidents_of("i1", ended_within=3600) == [], "no core of it could be read"
    await record.grouped(one.id, crash(), API, identity="i1", analysed=True)
    for status, joins in (
        (IncidentStatus.ANALYSING, True),
        (IncidentStatus.DIAGNOSED, True),
        (IncidentStatus.UNKNOWN, True),
        (IncidentStatus.FIXED, False),  # it crashes although it was fixed: news
        (IncidentStatus.DECLINED, False),
        (IncidentStatus.FAILED, False),
    ):
        await incidents.update(one.id, status=status)
        assert await record.incidents_of("i1", ended_within=3600) == ([one.id] if joins else []), status
    await incidents.update(one.id, status=IncidentStatus.DIAGNOSED)
    assert await record.incidents_of("i1", ended_within=0) == []
    assert await record.incidents_of("i2", ended_within=3600) == []


async def test_only_a_core_that_a_debugger_read_is_copied_from(database: Database, incidents: IncidentStore) -> None:
    record = CrashGroups(database)
    one, two, three = [await incident(incidents) for _ in range(3)]
    await record.grouped(one.id, crash(), API, identity="i1", analysed=True)
    await record.grouped(two.id, crash(), API, identity="i1", analysed=False)
    assert await record.analysed("i1", three.id) == one.id
    assert await record.analysed("i1", one.id) is None
