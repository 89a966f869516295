"""Incidents, timelines and evidence survive what happens to them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from errors import NotFound
from incidents.models import (
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

TARGET = ObjectRef(kind="Deployment", namespace="shop", name="api")
NOW = datetime(2026, 1, 2, tzinfo=UTC)


async def create(incidents: IncidentStore, target: ObjectRef = TARGET) -> Incident:
    return await incidents.create(target, "it crashes", requested_by="local", via=Via.API)


async def test_an_incident_comes_back_as_it_was_written(incidents: IncidentStore) -> None:
    created = await create(incidents)
    diagnosis = Diagnosis(status=DiagnosisStatus.UNKNOWN, signature="SIGSEGV | main")
    updated = await incidents.update(created.id, diagnosis=diagnosis, summary="?", status=IncidentStatus.UNKNOWN)
    assert updated.signature == "SIGSEGV | main"
    assert await incidents.get(created.id) == updated
    assert await incidents.diagnosis(created.id) == diagnosis


async def test_an_unknown_incident_is_not_found(incidents: IncidentStore) -> None:
    with pytest.raises(NotFound):
        await incidents.get("inc_nope")


async def test_steps_are_numbered_without_gaps_under_concurrency(incidents: IncidentStore) -> None:
    incident = await create(incidents)
    await asyncio.gather(*(incidents.add_step(incident.id, "hop", str(number)) for number in range(25)))
    assert [step.seq for step in await incidents.steps(incident.id)] == list(range(1, 26))


async def test_a_step_told_once_is_not_repeated(incidents: IncidentStore) -> None:
    incident = await create(incidents)
    assert await incidents.add_step(incident.id, "done", "x", once=True) is not None
    assert await incidents.add_step(incident.id, "done", "x", once=True) is None


async def test_following_gives_old_and_new_steps_and_ends_with_the_incident(incidents: IncidentStore) -> None:
    incident = await create(incidents)
    await incidents.add_step(incident.id, "hop", "first")

    async def follow() -> list[str]:
        return [step.text async for step in incidents.follow(incident.id, poll=0.05)]

    following = asyncio.create_task(follow())
    await asyncio.sleep(0.02)
    await incidents.add_step(incident.id, "hop", "second")
    await incidents.add_step(incident.id, "done", "third")
    await incidents.update(incident.id, status=IncidentStatus.FIXED)
    assert await asyncio.wait_for(following, 60) == ["first", "second", "third"]


async def test_following_resumes_after_a_step(incidents: IncidentStore) -> None:
    incident = await create(incidents)
    for text in "abc":
        await incidents.add_step(incident.id, "hop", text)
    await incidents.update(incident.id, status=IncidentStatus.UNKNOWN)
    assert [step.text async for step in incidents.follow(incident.id, after=2)] == ["c"]


async def test_only_an_open_incident_takes_a_second_report(incidents: IncidentStore) -> None:
    incident = await create(incidents)
    assert (await incidents.open_for(TARGET)) == incident
    assert await incidents.open_for(TARGET.model_copy(update={"namespace": "other"})) is None
    await incidents.update(incident.id, status=IncidentStatus.HEALTHY)
    assert await incidents.open_for(TARGET) is None


async def test_pages_do_not_overlap(incidents: IncidentStore) -> None:
    made = [(await create(incidents)).id for _ in range(5)]
    first = await incidents.recent(limit=3)
    second = await incidents.recent(limit=3, before=first[-1].id)
    assert [item.id for item in [*first, *second]] == made[::-1]


async def test_long_evidence_keeps_its_whole_text(incidents: IncidentStore) -> None:
    incident = await create(incidents)
    text = "frame\n" * 5000
    item = Evidence.of(EvidenceKind.GDB, "-stack-list-frames", text, NOW)
    assert item.truncated
    await incidents.save_evidence(incident.id, [item, item], {item.id: text})
    await incidents.save_evidence(incident.id, [item], {item.id: text})
    assert await incidents.evidence(incident.id) == [item]
    assert await incidents.whole_text(item) == text


def test_a_finding_without_evidence_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Finding.of("rule", "claim", [])


def test_the_same_observation_has_the_same_id() -> None:
    one = Evidence.of(EvidenceKind.LOG, "kubectl logs", "x", NOW)
    assert one.id == Evidence.of(EvidenceKind.LOG, "kubectl logs", "x", NOW).id
    assert one.id != Evidence.of(EvidenceKind.LOG, "kubectl logs", "y", NOW).id
