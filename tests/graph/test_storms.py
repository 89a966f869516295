"""Crash storms: what counts, when people are asked, and that nothing happens without them."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest

from actions.gate import Gate
from agents.k8s_fixer import K8sFixer
from errors import Forbidden
from graph.storms import REQUESTER
from incidents.collected import CollectedCore, Completeness, Origin, StoredObject
from incidents.core_jobs import CoreJobState, CoreJobStore, ToldCore
from incidents.models import Diagnosis, DiagnosisStatus, IncidentStatus, ObjectRef, Via
from incidents.plan import EvidenceNeed, Scale
from tests.graph.conftest import SPACE, Service
from tests.graph.storming import CART, all_of, collect, crash, pods, storm, unknown, watch
from tests.standins.helm import HelmStandIn
from tests.standins.rollout import deployment
from tools.helm.client import Helm


def _mark(service: Service, name: str, **metadata: Any) -> None:
    service.controllers.asleep = True
    service.api.edit("Deployment", SPACE, name, lambda item: item["metadata"].update(metadata))
    service.controllers.asleep = False


async def test_more_crashes_than_allowed_are_asked_about_once_and_nothing_is_done(service: Service) -> None:
    unknown(service)
    watching = watch(service)
    await storm(service, watching, 3)
    assert await all_of(service) == [], "three are allowed"
    await storm(service, watching, 4)
    (incident,) = await all_of(service)
    assert (incident.target, incident.via, incident.requested_by) == (CART, Via.POLICY, REQUESTER)
    assert "4 crash_signal" in incident.event
    approval = await service.asked(incident)
    assert approval.plan.action == Scale(target=CART, replicas=0)
    assert approval.plan.evidence_need is EvidenceNeed.CORE, "without a kept core people have to waive it"
    assert approval.plan.reason == f"{incident.event}. Cause: not known"
    assert service.writes == []
    with pytest.raises(Forbidden):
        await service.vote(approval, identity=REQUESTER)


async def test_the_storm_is_stopped_when_a_person_waives_the_core(service: Service) -> None:
    unknown(service)
    await storm(service, watch(service), 4)
    (incident,) = await all_of(service)
    approval = await service.asked(incident)
    decision = {"digest": approval.digest, "channel": "api", "reason": None, "identity": "api:ann"}
    await service.runner.decide(approval.id, verdict="approve", waive_evidence=True, **decision)
    assert (await service.until(incident)).status is IncidentStatus.FIXED
    assert service.api.objects["apps/v1", "Deployment", SPACE, "cart"]["spec"]["replicas"] == 0
    assert len(service.writes) == 1


async def test_programs_that_end_with_an_error_have_left_no_core_to_waive(service: Service) -> None:
    unknown(service)
    await storm(service, watch(service), 4, exitCode=3)
    (incident,) = await all_of(service)
    assert (await service.asked(incident)).plan.evidence_need is EvidenceNeed.NONE


async def test_a_cause_that_has_a_repair_is_repaired(service: Service) -> None:
    await storm(service, watch(service), 4)
    (incident,) = await all_of(service)
    approval = await service.asked(incident)
    assert approval.plan.action.type == "change_probe"


async def test_no_second_question_while_declined_in_the_window_and_a_new_one_after_it(service: Service) -> None:
    unknown(service)
    watching = watch(service)
    await storm(service, watching, 4)
    (first,) = await all_of(service)
    await service.vote(await service.asked(first), "reject")
    assert (await service.until(first)).status is IncidentStatus.DECLINED
    await storm(service, watching, 6)
    assert len(await all_of(service)) == 1
    service.clock += timedelta(hours=2)
    await watching.sweep()
    assert len(await all_of(service)) == 1, "what is over is not asked about"
    await storm(service, watching, 4)
    assert len(await all_of(service)) == 2


async def test_a_persons_own_incident_is_not_doubled(service: Service) -> None:
    reported = await service.report()
    await service.asked(reported)
    watching = watch(service)
    await storm(service, watching, 6)
    assert [one.id for one in await all_of(service)] == [reported.id]
    (step,) = [step for step in await service.incidents.steps(reported.id) if step.type == "storm"]
    assert "4 crashes of" in step.text, "who reads it sees that it is a storm by now; told once"
    (approval,) = await service.approvals.list(incident_id=reported.id)
    await service.vote(approval, "reject")
    await service.until(reported)
    await storm(service, watching, 2)
    assert [one.id for one in await all_of(service)] == [reported.id], "a person has just said no"


async def test_counts_and_the_question_survive_a_restart(service: Service) -> None:
    unknown(service)
    await storm(service, watch(service), 3)
    await service.restart()
    await storm(service, watch(service), 1)
    assert len(await all_of(service)) == 1
    await service.restart()
    await storm(service, watch(service), 5)
    assert len(await all_of(service)) == 1


async def test_a_kill_between_storm_and_incident_loses_and_doubles_nothing(service: Service) -> None:
    unknown(service)
    watching = watch(service)
    await storm(service, watching, 3)
    begun = await service.storms.begin(f"{SPACE}/workload/Deployment/cart", CART, 4, "propose")
    await storm(service, watching, 1)
    (incident,) = await all_of(service)
    newest = await service.storms.latest(begun.instance)
    assert newest is not None and (newest.id, newest.incident_id) == (begun.id, incident.id)


async def test_a_dry_run_says_what_it_would_ask_and_off_does_nothing(service: Service) -> None:
    reported = await service.report()
    await service.asked(reported)
    await storm(service, watch(service, mode="off"), 9)
    assert await service.storms.counts(service.clock - timedelta(days=1)) == {}
    await storm(service, watch(service, mode="dry-run"), 9)
    assert len(await all_of(service)) == 1
    said = [step.text for step in await service.incidents.steps(reported.id) if step.type == "storm"]
    assert len(said) == 1 and "dry run" in said[0] and "scale it to zero" in said[0]


async def test_the_storms_incident_gets_a_core_that_the_store_has_confirmed(service: Service) -> None:
    unknown(service)
    record = CollectedCore(
        id="core_1",
        sha256="a" * 64,
        completeness=Completeness.COMPLETE,
        collected_at=service.clock,
        node="n1",
        origin=Origin(namespace=SPACE, pod=pods(service)[0], owner=CART),
        stored=[StoredObject(kind="full", key="p/x.core.zst", size=9, sha256="b" * 64)],
    )
    cut = record.model_copy(update={"id": "core_2", "completeness": Completeness.TRUNCATED})
    lost = record.model_copy(update={"id": "core_3", "stored": []})
    jobs = CoreJobStore(service.database, now=lambda: service.clock)
    for one in (record, cut, lost):
        service.clock += timedelta(seconds=1)
        document = copy.deepcopy(one.model_dump(mode="json"))
        await jobs.add([ToldCore(f"job_{one.id}", "t", "s", one.id, document)], "api:agent")
    await storm(service, watch(service), 4)
    (incident,) = await all_of(service)
    assert incident.core is not None and incident.core.url is not None
    assert incident.core.url.endswith("p/x.core.zst")


async def test_a_storm_is_named_as_its_incident_names_the_crash(service: Service) -> None:
    unknown(service)
    known = await service.incidents.create(CART, "x", requested_by="api:agent", via=Via.COLLECTOR)
    found = Diagnosis(status=DiagnosisStatus.DIAGNOSED, signature="SIGSEGV | put | main")
    await service.incidents.update(known.id, status=IncidentStatus.DIAGNOSED, diagnosis=found)
    for number in range(4):
        service.clock += timedelta(seconds=40)
        await collect(service, number, service.clock, signature="9f" * 20)
    watching = watch(service)
    jobs = CoreJobStore(service.database)
    await jobs.end("job_1", CoreJobState.TAKEN, incident_id=known.id)
    await watching.sweep()
    (incident,) = [one for one in await all_of(service) if one.via is Via.POLICY]
    assert incident.event.endswith("; the same crash 4 times on 1 node: SIGSEGV | put | main")


async def test_many_instances_storm_at_once(service: Service) -> None:
    """Each is one question."""
    unknown(service)
    watching = watch(service)
    for _ in range(4):
        service.clock += timedelta(seconds=20)
        for name in ("cart", "pay", "mail"):
            for pod in pods(service, name):
                crash(service, pod, service.clock)
        await watching.sweep()
    found = await all_of(service)
    assert sorted(one.target.name for one in found) == ["cart", "mail", "pay"]


async def test_what_an_operator_manages_gets_a_proposed_change_and_no_approval(service: Service) -> None:
    unknown(service)
    owner = {"apiVersion": "example.io/v1", "kind": "Shop", "name": "s", "uid": "u", "controller": True}
    _mark(service, "cart", ownerReferences=[owner])
    await storm(service, watch(service), 4)
    (incident,) = await all_of(service)
    await service.until(incident)
    assert incident.target == CART
    assert await service.approvals.list(incident_id=incident.id) == []
    (proposal,) = await service.incidents.proposals(incident.id)
    assert "Shop s" in proposal.title and proposal.change
    await storm(service, watch(service), 4)
    assert len(await all_of(service)) == 1


@pytest.mark.parametrize(("revisions", "action", "quorum"), [(2, "helm_rollback", 1), (1, "helm_uninstall", 2)])
async def test_a_helm_release_goes_back_else_two_people_may_remove_it(
    service: Service, revisions: int, action: str, quorum: int
) -> None:
    async with HelmStandIn(service.api, service.folder) as program:
        for number in range(revisions):
            image = {"name": "main", "image": f"example.test/app:{number}", "resources": {}}
            program.install(SPACE, "db", [deployment("db", SPACE, replicas=1, containers=[image])], {})
        marks = {"meta.helm.sh/release-name": "db", "meta.helm.sh/release-namespace": SPACE}
        _mark(service, "db", annotations=marks)
        helm = Helm(service.cluster.settings, program=str(program.program), write_timeout=60.0)
        gate = Gate(service.database, service.settings, service.cluster, helm)
        release = ObjectRef(kind="HelmRelease", namespace=SPACE, name="db")
        target = ObjectRef(kind="Deployment", namespace=SPACE, name="db")
        await service.storms.begin("x", target, 9, "propose", release=release)
        incident = await service.incidents.create(target, "storm", requested_by=REQUESTER, via=Via.POLICY)
        fixer = K8sFixer(service.incidents, gate, helm, None, service.storms)
        offer = await fixer.run(incident, Diagnosis(status=DiagnosisStatus.UNKNOWN))
        assert offer.plan is not None, offer.proposals
        assert (offer.plan.action.type, offer.plan.quorum) == (action, quorum)
        assert offer.plan.evidence_need is EvidenceNeed.CORE
        assert program.writes == []
