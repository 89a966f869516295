"""Helm releases through the gate: bound by revision and storage, kept for undo, two people for an uninstall."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actions.ownership import Managed
from agents.remedies.releases import useful_history
from errors import Conflict, Refused, ToolMissing
from incidents.models import ObjectRef
from incidents.plan import ApprovalState, EvidenceNeed, HelmRollbackAction, HelmUninstallAction, HelmWrite
from settings import KubernetesSettings
from tests.actions.conftest import NAMESPACE, World
from tests.standins.helm import HelmStandIn
from tests.standins.rollout import deployment
from tools.helm.client import Helm

RELEASE = "checkout"
TARGET = ObjectRef(kind="HelmRelease", namespace=NAMESPACE, name=RELEASE)
ROLLBACK = HelmRollbackAction(target=TARGET, revision=1)
UNINSTALL = HelmUninstallAction(target=TARGET)


def _manifest(image: str, **extra: Any) -> list[dict[str, Any]]:
    made = deployment(RELEASE, NAMESPACE, replicas=1, containers=[{"name": "main", "image": image, "resources": {}}])
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "data": {"password": "aHVudGVyMg=="}}
    return [made, secret, *extra.get("more", [])]


@pytest.fixture
async def helm(world: World) -> AsyncIterator[HelmStandIn]:
    """A release with a good first and a bad second revision."""
    async with HelmStandIn(world.api, world.folder) as helm:
        helm.install(NAMESPACE, RELEASE, _manifest("example.test/app:1"), {"tag": "1"})
        helm.install(NAMESPACE, RELEASE, _manifest("example.test/app:2"), {"tag": "2"})
        kube = KubernetesSettings(kubeconfig=world.folder / "kubeconfig", request_timeout=60)
        world.helm = Helm(kube, program=str(helm.program), write_timeout=60.0)
        world.new_gate()
        yield helm


def _image(world: World) -> str:
    found = world.api.get("Deployment", NAMESPACE, RELEASE)
    assert found is not None
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


async def test_a_rollback_is_executed_verified_and_can_be_undone(world: World, helm: HelmStandIn) -> None:
    approval = await world.requested(ROLLBACK)
    assert approval.quorum == 1
    assert "app:2" in approval.plan.diff and "app:1" in approval.plan.diff
    assert "aHVudGVyMg" not in json.dumps(approval.plan.model_dump(mode="json"))
    await world.vote(approval)
    assert helm.writes == []
    assert (await world.gate.execute(approval.id)).state is ApprovalState.VERIFYING
    assert _image(world) == "example.test/app:1"
    kubeconfig = ["--kubeconfig", str(world.folder / "kubeconfig")]
    (sent,) = helm.writes
    assert sent == ["rollback", RELEASE, "1", "--timeout", "60s", "--namespace", NAMESPACE, *kubeconfig]
    assert (await world.gate.execute(approval.id)).state is ApprovalState.VERIFYING
    assert len(helm.writes) == 1
    ended = await world.gate.undo(approval.id)
    assert ended.state is ApprovalState.UNDONE, ended.outcome
    assert _image(world) == "example.test/app:2"


async def test_a_rollback_that_helps_is_done(world: World, helm: HelmStandIn) -> None:
    approval = await world.approved(ROLLBACK)
    await world.gate.execute(approval.id)
    verdict = await world.gate.verify(approval.id)
    assert verdict.ok, verdict.summary


async def test_a_rollback_that_fails_half_way_is_undone(world: World, helm: HelmStandIn) -> None:
    approval = await world.approved(ROLLBACK)
    helm.fail_half_way = True
    assert (await world.gate.execute(approval.id)).state is ApprovalState.VERIFYING
    verdict = await world.gate.verify(approval.id)
    assert not verdict.ok
    assert "failed" in verdict.summary
    helm.fail_half_way = False
    ended = await world.gate.undo(approval.id)
    assert ended.state is ApprovalState.UNDONE, ended.outcome
    assert _image(world) == "example.test/app:2"


async def test_an_uninstall_needs_two_people_and_keeps_everything_for_the_undo(world: World, helm: HelmStandIn) -> None:
    approval = await world.requested(UNINSTALL, need=EvidenceNeed.CORE)
    assert approval.quorum == 2
    half = await world.vote(approval)
    assert half.state is ApprovalState.PENDING
    with pytest.raises(Conflict, match="not decided"):
        await world.gate.execute(approval.id)
    assert (await world.vote(approval)).state is ApprovalState.PENDING  # the same person twice is one
    with pytest.raises(Refused, match="waive"):
        await world.vote(approval, "api:bob")
    assert helm.writes == []
    assert (await world.vote(approval, "api:bob", waive_evidence=True)).state is ApprovalState.APPROVED

    assert (await world.gate.execute(approval.id)).state is ApprovalState.VERIFYING
    assert world.api.get("Deployment", NAMESPACE, RELEASE) is None
    assert "--keep-history" in helm.writes[0]
    journal = await world.gate._journal.read(approval.id)
    assert journal is not None
    kept = json.loads(str(journal.detail["release"]))
    assert json.loads(kept["values"]) == {"tag": "2"}
    assert "app:2" in kept["manifest"]
    verdict = await world.gate.verify(approval.id)
    assert verdict.ok, verdict.summary


async def test_an_uninstall_can_be_undone_from_the_kept_history(world: World, helm: HelmStandIn) -> None:
    approval = await world.requested(UNINSTALL)
    for identity in ("api:ann", "api:bob"):
        await world.vote(approval, identity)
    await world.gate.execute(approval.id)
    ended = await world.gate.undo(approval.id)
    assert ended.state is ApprovalState.UNDONE, ended.outcome
    assert _image(world) == "example.test/app:2"


async def test_a_row_with_one_vote_set_to_approved_does_not_uninstall(world: World, helm: HelmStandIn) -> None:
    from sqlalchemy import update

    from incidents.tables import ApprovalRow

    approval = await world.requested(UNINSTALL)
    await world.vote(approval)
    async with world.database.write() as session:
        await session.execute(update(ApprovalRow).values(state="approved"))
    ended = await world.gate.execute(approval.id)
    assert ended.state is ApprovalState.STALE
    assert "needs 2 approver(s) and has 1" in (ended.outcome or "")
    assert helm.writes == []


@pytest.mark.parametrize("what", ["upgraded", "storage", "gone", "pending"])
async def test_a_release_that_moved_is_left_alone(world: World, helm: HelmStandIn, what: str) -> None:
    approval = await world.approved(ROLLBACK)
    if what == "upgraded":
        helm.install(NAMESPACE, RELEASE, _manifest("example.test/app:3"))
    elif what == "storage":
        world.api.edit(
            "Secret", NAMESPACE, f"sh.helm.release.v1.{RELEASE}.v2", lambda item: item.update(data={"release": "x"})
        )
    elif what == "gone":
        helm.releases.clear()
    else:
        helm.releases[NAMESPACE, RELEASE][-1].status = "pending-upgrade"
    ended = await world.gate.execute(approval.id)
    assert ended.state is ApprovalState.STALE, ended
    assert helm.writes == []


async def test_a_helm_that_goes_on_after_our_death_is_waited_for(world: World, helm: HelmStandIn) -> None:
    """The service is killed while helm works; helm ends by itself, and nothing is done a second time."""
    approval = await world.approved(ROLLBACK)
    helm.pause = asyncio.Event()

    task = asyncio.create_task(world.gate.execute(approval.id))
    while not helm.writes:
        await asyncio.sleep(0.01)
    # the journal stands at `applying:0`, as after a kill; the task is only abandoned, its helm keeps working
    gate = world.new_gate()
    world.clock.move(seconds=60)
    resumed = asyncio.create_task(gate.execute(approval.id))
    await asyncio.sleep(0.2)
    assert not resumed.done()
    helm.pause.set()
    ended = await asyncio.gather(task, resumed, return_exceptions=True)
    assert (await world.approvals.get(approval.id)).state is ApprovalState.VERIFYING, ended
    assert len(helm.writes) == 1


async def test_a_release_that_vanishes_while_it_is_watched_ends_in_a_person(world: World, helm: HelmStandIn) -> None:
    approval = await world.approved(ROLLBACK)
    await world.gate.execute(approval.id)
    helm.releases.clear()
    verdict = await world.gate.verify(approval.id)
    assert "not found" in verdict.summary
    assert (await world.gate.undo(approval.id)).state is ApprovalState.FAILED
    assert len(helm.writes) == 1


def _claim(**annotations: str) -> dict[str, Any]:
    meta = {"name": "data", "annotations": annotations}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": {}}


async def test_claims_are_never_deleted_with_a_release(world: World, helm: HelmStandIn) -> None:
    helm.install(NAMESPACE, RELEASE, _manifest("example.test/app:3", more=[_claim()]))
    with pytest.raises(Refused, match="PersistentVolumeClaim data"):
        await world.plan(UNINSTALL)
    with pytest.raises(Refused, match="PersistentVolumeClaim data"):
        await world.plan(ROLLBACK)
    kept = _claim(**{"helm.sh/resource-policy": "keep"})
    helm.install(NAMESPACE, RELEASE, _manifest("example.test/app:4", more=[kept]))
    plan = await world.plan(UNINSTALL)
    assert "PersistentVolumeClaim data (kept by its policy)" in plan.diff


@pytest.mark.parametrize(
    ("revision", "why"), [(2, "is at revision 2 already"), (9, "keeps no revision 9"), (1, "never ran")]
)
async def test_senseless_rollbacks_are_refused(world: World, helm: HelmStandIn, revision: int, why: str) -> None:
    if revision == 1:
        helm.releases[NAMESPACE, RELEASE][0].status = "failed"
    with pytest.raises(Refused, match=why):
        await world.plan(HelmRollbackAction(target=TARGET, revision=revision))


async def test_a_release_that_flux_deploys_gets_a_proposal(world: World, helm: HelmStandIn) -> None:
    labels = {"helm.toolkit.fluxcd.io/name": RELEASE}
    world.api.edit("Deployment", NAMESPACE, RELEASE, lambda item: item["metadata"].update(labels=labels))
    with pytest.raises(Managed) as refused:
        await world.plan(ROLLBACK)
    assert refused.value.manager == "Flux"
    assert refused.value.change == f"helm rollback {RELEASE} 1"


async def test_the_release_of_an_observed_deployment_counts_as_observed(world: World, helm: HelmStandIn) -> None:
    workload = ObjectRef(kind="Deployment", namespace=NAMESPACE, name=RELEASE)
    plan = await world.plan(ROLLBACK, incident=await world.incident(workload))
    write = plan.writes[0]
    assert isinstance(write, HelmWrite)
    assert (write.revision, write.to_revision) == (2, 1)


async def test_without_helm_a_release_cannot_be_touched(world: World, helm: HelmStandIn) -> None:
    world.helm = Helm(KubernetesSettings(), program="no-such-helm")
    world.new_gate()
    with pytest.raises(ToolMissing, match=r"helm\.sh"):
        await world.plan(ROLLBACK)
    world.helm = None
    world.new_gate()
    with pytest.raises(ToolMissing, match=r"helm\.sh"):
        await world.plan(ROLLBACK)


async def test_a_revision_that_says_the_same_is_none_to_go_back_to(world: World, helm: HelmStandIn) -> None:
    assert world.helm is not None
    helm.install(NAMESPACE, RELEASE, _manifest("example.test/app:2"), {"tag": "2", "note": "nothing new"})
    history = await useful_history(world.helm, NAMESPACE, RELEASE)
    assert [item.number for item in history] == [1, 3]
