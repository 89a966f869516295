"""Whole runs: from a report to a true end, through restarts, second opinions and every way not to act."""

from __future__ import annotations

import asyncio

import pytest
from langgraph.types import Command

from agents.supervisor import MAX_REPAIRS
from errors import ToolFailed
from graph.build import thread
from incidents.models import CauseClass, Diagnosis, DiagnosisStatus, Fact, Incident, IncidentStatus
from incidents.plan import Approval, ApprovalState
from tests.graph.conftest import SPACE, Service, wrong_port


async def test_an_approved_fix_is_executed_once_verified_and_told(service: Service) -> None:
    incident = await service.report()
    approval = await service.asked(incident)
    assert service.writes == []
    await service.vote(approval)
    ended = await service.until(incident)
    assert ended.status is IncidentStatus.FIXED
    assert service.port() == 8080
    assert len(service.writes) == 1
    types = [step.type for step in await service.incidents.steps(incident.id)]
    order = ["run.started", "finding", "approval.requested", "executed", "verified", "done"]
    assert [kind for kind in types if kind in order] == order
    hops = [step for step in await service.incidents.steps(incident.id) if step.type == "hop"]
    assert all(step.text and step.data["to"] for step in hops)  # a reason for each


def _short_of_memory(limit: str) -> Diagnosis:
    first = wrong_port()
    facts: dict[str, Fact] = {"memory_limit": "64Mi", "suggested_memory_limit": limit}
    cause = first.causes[0].model_copy(update={"cause_class": CauseClass.OOM_KILLED, "facts": facts})
    return first.model_copy(update={"causes": [cause]})


async def _next_asked(service: Service, incident: Incident, number: int) -> Approval:
    """The `number`th approval of the incident, waiting."""
    for _ in range(2000):
        found = await service.approvals.list(incident_id=incident.id)
        waiting = [approval for approval in found if approval.state is ApprovalState.PENDING]
        if len(found) == number and waiting:
            graph = await service.graph.aget_state({"configurable": {"thread_id": incident.id}})
            if graph.interrupts:
                return waiting[0]
        await asyncio.sleep(0.05)
    raise AssertionError(f"{len(found)} approvals, not {number}")


async def test_a_cause_that_shows_after_a_repair_gets_a_plan_and_an_approval_of_its_own(service: Service) -> None:
    incident = await service.report()
    first = await service.asked(incident)
    service.researcher.diagnosis = _short_of_memory("128Mi")
    await service.vote(first)
    second = await _next_asked(service, incident, 2)
    assert second.id != first.id and len(service.writes) == 1, "nothing is written without its own approval"
    await service.restart()
    service.researcher.diagnosis = wrong_port()
    await service.vote(second)
    ended = await service.until(incident)
    assert ended.status is IncidentStatus.FIXED
    assert len(service.writes) == 2
    steps = [step.type for step in await service.incidents.steps(incident.id)]
    assert [steps.count(kind) for kind in ("approval.requested", "executed", "verified", "done")] == [2, 2, 2, 1]
    assert len(await service.approvals.list(incident_id=incident.id)) == 2, "what was repaired is not repaired again"


async def test_repairs_one_after_the_other_are_bounded(service: Service) -> None:
    """Each look finds another cause: after three repairs a person is asked no more."""
    incident = await service.report()
    approval = await service.asked(incident)
    for number in (2, 3):
        service.researcher.diagnosis = _short_of_memory(f"{number * 64}Mi") if number == 2 else wrong_probe_timing()
        await service.vote(approval)
        approval = await _next_asked(service, incident, number)
    asked = service.researcher.asked
    service.researcher.diagnosis = _short_of_memory("512Mi")
    await service.vote(approval)
    assert (await service.until(incident)).status is IncidentStatus.FIXED
    assert service.researcher.asked == asked
    assert len(await service.approvals.list(incident_id=incident.id)) == MAX_REPAIRS


def wrong_probe_timing() -> Diagnosis:
    first = wrong_port()
    facts: dict[str, Fact] = {"probe": "liveness", "field": "timing", "suggested_failure_threshold": 9}
    return first.model_copy(update={"causes": [first.causes[0].model_copy(update={"facts": facts})]})


async def test_a_second_plan_that_is_rejected_leaves_the_first_repair(service: Service) -> None:
    incident = await service.report()
    first = await service.asked(incident)
    service.researcher.diagnosis = _short_of_memory("128Mi")
    await service.vote(first)
    await service.vote(await _next_asked(service, incident, 2), "reject")
    assert (await service.until(incident)).status is IncidentStatus.DECLINED
    assert (service.port(), len(service.writes)) == (8080, 1)


async def test_a_doubtful_cause_after_a_repair_is_not_acted_upon(service: Service) -> None:
    incident = await service.report()
    first = await service.asked(incident)
    doubtful = _short_of_memory("128Mi")
    cause = doubtful.causes[0].model_copy(update={"confidence": 0.6})
    service.researcher.diagnosis = doubtful.model_copy(update={"causes": [cause]})
    await service.vote(first)
    assert (await service.until(incident)).status is IncidentStatus.FIXED
    assert len(await service.approvals.list(incident_id=incident.id)) == 1


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (ToolFailed("the API server does not answer"), "the API server does not answer"),
        (RuntimeError("s3cr3t"), "internal error (RuntimeError)"),
        (None, "the cluster could not be read: gone"),
    ],
    ids=["tool", "bug", "failed diagnosis"],
)
async def test_a_second_look_that_fails_takes_nothing_from_the_repair(
    service: Service, trouble: Exception | None, told: str
) -> None:
    incident = await service.report()
    first = await service.asked(incident)
    unread = Diagnosis(status=DiagnosisStatus.FAILED, unseen=["the cluster could not be read: gone"])
    service.researcher.diagnosis = unread
    service.researcher.trouble = [trouble] * 9 if trouble else []
    await service.vote(first)
    assert (await service.until(incident)).status is IncidentStatus.FIXED
    steps = await service.incidents.steps(incident.id)
    (said,) = [step.text for step in steps if step.type == "error"]
    assert said == f"The repair was verified; whether another cause is left could not be looked at: {told}"
    kept = await service.incidents.diagnosis(incident.id)
    assert kept is not None and kept.causes, "the diagnosis of what was repaired stays"
    assert steps[-1].type == "done" and steps[-1].data == {"status": "fixed"}


async def test_a_rejected_plan_writes_nothing(service: Service) -> None:
    incident = await service.report()
    await service.vote(await service.asked(incident), "reject")
    assert (await service.until(incident)).status is IncidentStatus.DECLINED
    assert service.writes == []


async def test_a_fix_that_does_not_help_is_undone(service: Service) -> None:
    incident = await service.report()
    approval = await service.asked(incident)
    service.controllers.healthy = False
    service.controllers.restarts = 3
    await service.vote(approval)
    assert (await service.until(incident)).status is IncidentStatus.NOT_FIXED
    assert service.port() == 8081
    assert len(service.writes) == 2


async def test_a_healthy_target_gets_no_action(service: Service) -> None:
    service.researcher.diagnosis = service.researcher.diagnosis.model_copy(
        update={"status": DiagnosisStatus.HEALTHY, "causes": []}
    )
    incident = await service.report()
    assert (await service.until(incident)).status is IncidentStatus.HEALTHY
    assert await service.approvals.list() == [] and service.writes == []


async def test_an_unknown_cause_is_said_and_not_acted_upon(service: Service) -> None:
    service.researcher.diagnosis = service.researcher.diagnosis.model_copy(
        update={"status": DiagnosisStatus.UNKNOWN, "causes": []}
    )
    assert (await service.until(await service.report())).status is IncidentStatus.UNKNOWN
    assert await service.approvals.list() == []


async def test_a_second_report_is_the_same_incident_and_does_not_restart_its_graph(service: Service) -> None:
    # new input to an interrupted thread restarts it from the beginning
    incident = await service.report()
    approval = await service.asked(incident)
    again = await asyncio.gather(*(service.report() for _ in range(5)))
    assert {item.id for item in again} == {incident.id}
    assert service.researcher.asked == 1
    assert (await service.approvals.get(approval.id)).state is ApprovalState.PENDING
    assert (await service.report(force=True)).id != incident.id


async def test_a_waiting_incident_survives_a_restart(service: Service) -> None:
    incident = await service.report()
    approval = await service.asked(incident)
    await service.restart()
    assert (await service.incidents.get(incident.id)).status is IncidentStatus.AWAITING_APPROVAL
    await service.vote(approval)
    assert (await service.until(incident)).status is IncidentStatus.FIXED
    assert service.researcher.asked == 2  # before the plan, and after it was verified
    assert len(service.writes) == 1


async def test_concurrent_advances_execute_once(service: Service) -> None:
    # two resumes of one interrupt at once run the next node twice: savers hold no lock
    incident = await service.report()
    approval = await service.asked(incident)
    await service.gate.decide(
        approval.id, identity="api:ann", verdict="approve", digest=approval.digest, waive_evidence=False,
        channel="api", reason=None,
    )  # fmt: skip
    await asyncio.gather(*(service.runner.advance(incident.id) for _ in range(10)))
    assert len(service.writes) == 1
    assert (await service.incidents.get(incident.id)).status is IncidentStatus.FIXED


async def test_two_processes_that_resume_the_same_thread_execute_once(service: Service) -> None:
    incident = await service.report()
    approval = await service.asked(incident)
    await service.gate.decide(
        approval.id, identity="api:ann", verdict="approve", digest=approval.digest, waive_evidence=False,
        channel="api", reason=None,
    )  # fmt: skip
    state = await service.graph.aget_state(thread(incident.id))
    resume = Command(resume={state.interrupts[0].id: {"approval_id": approval.id}})
    runs = (service.graph.ainvoke(resume, thread(incident.id), durability="sync") for _ in range(3))
    await asyncio.gather(*runs, return_exceptions=True)
    assert len(service.writes) == 1


async def test_a_resume_carries_no_verdict(service: Service) -> None:
    # whoever could resume the thread directly still finds the database undecided
    incident = await service.report()
    approval = await service.asked(incident)
    state = await service.graph.aget_state(thread(incident.id))
    forged = Command(resume={state.interrupts[0].id: {"approval_id": approval.id}})
    await service.graph.ainvoke(forged, thread(incident.id), durability="sync")
    assert service.writes == []
    assert (await service.graph.aget_state(thread(incident.id))).interrupts  # it waits again


async def test_a_malformed_resume_leaves_the_question_open(service: Service) -> None:
    incident = await service.report()
    await service.asked(incident)
    state = await service.graph.aget_state(thread(incident.id))
    with pytest.raises(ValueError, match="approval_id"):
        await service.graph.ainvoke(
            Command(resume={state.interrupts[0].id: {"verdict": "approve"}}), thread(incident.id)
        )
    assert (await service.graph.aget_state(thread(incident.id))).interrupts
    assert service.writes == []


async def test_advancing_an_ended_or_unknown_incident_repeats_nothing(service: Service) -> None:
    incident = await service.report()
    await service.vote(await service.asked(incident))
    await service.until(incident)
    before = len(await service.incidents.steps(incident.id))
    await service.runner.advance(incident.id)
    assert len(await service.incidents.steps(incident.id)) == before
    with pytest.raises(Exception, match="no incident"):
        await service.runner.advance("inc_unknown")
    assert len(service.writes) == 1


async def test_a_newer_plan_about_the_same_object_ends_the_older_incident(service: Service) -> None:
    await service.runner.start()
    first = await service.report()
    await service.asked(first)
    second = await service.report(force=True)
    assert (await service.until(first)).status is IncidentStatus.STALE
    await service.asked(second)
    assert service.writes == []


async def test_an_expired_request_ends_the_incident(service: Service) -> None:
    service.settings = service.settings.model_copy(update={"approval_seconds": 0})
    await service.restart()
    incident = await service.report()
    assert (await service.until(incident)).status is IncidentStatus.EXPIRED
    assert service.writes == []


async def test_a_target_that_changed_since_the_approval_is_not_touched(service: Service) -> None:
    incident = await service.report()
    approval = await service.asked(incident)
    service.api.edit("Deployment", SPACE, "cart", lambda item: item["spec"].update(replicas=5))
    await service.vote(approval)
    assert (await service.until(incident)).status is IncidentStatus.STALE
    assert service.writes == []


async def test_a_specialist_that_fails_once_is_asked_again(service: Service) -> None:
    service.researcher.trouble = [ToolFailed("the API server was away")]
    incident = await service.report()
    await service.asked(incident)
    assert service.researcher.asked == 2
    assert any(step.text == "the API server was away" for step in await service.incidents.steps(incident.id))


async def test_a_bug_in_a_specialist_ends_in_a_failed_incident_that_gives_nothing_away(service: Service) -> None:
    service.researcher.trouble = [RuntimeError("password=hunter2")] * 9
    incident = await service.report()
    assert (await service.until(incident)).status is IncidentStatus.FAILED
    texts = " ".join(step.text for step in await service.incidents.steps(incident.id))
    assert "RuntimeError" in texts and "hunter2" not in texts


async def test_many_incidents_at_once_all_end(service: Service) -> None:
    names = ["cart", "pay", "mail"]
    made = await asyncio.gather(*(service.report(name) for name in names))
    approvals = [await service.asked(incident) for incident in made]
    await asyncio.gather(*(service.vote(approval) for approval in approvals))
    assert {(await service.until(incident)).status for incident in made} == {IncidentStatus.FIXED}
    assert len(service.writes) == 3
