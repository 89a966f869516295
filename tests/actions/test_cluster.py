"""The gate on a real cluster: what the stand-ins claim is what the API server and helm do."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from actions.objects import generation, normalise, uid
from actions.patches import Change, forward_body
from incidents.database import Database
from incidents.models import CauseClass, ObjectRef
from incidents.plan import (
    Action,
    Approval,
    ApprovalState,
    DeletePod,
    DeleteWrite,
    HelmRollbackAction,
    HelmUninstallAction,
    PatchWrite,
    RollbackRevision,
)
from incidents.store import IncidentStore
from settings import KubernetesSettings
from tests.actions.conftest import Clock, World, policy, probe_change
from tests.standins.kube_api import KubeApi
from tests.standins.rollout import Controllers
from tools.helm.client import Helm
from tools.kubernetes.client import Cluster, KubernetesError, Object
from tools.kubernetes.writer import Writer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAME = "oak-server"
IMAGE = "docker.io/local/busybox:1"


def _deployment(namespace: str, port: int = 8080, name: str = NAME) -> Object:
    labels = {"x": name}
    containers = [
        {
            "name": "idle",
            "image": IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/bin/busybox", "sleep", "9999"],
        },
        {
            "name": "main",
            "image": IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/bin"],
            "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
            "livenessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1, "failureThreshold": 2},
        },
    ]
    pod = {"containers": containers, "terminationGracePeriodSeconds": 0}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


class Real(World):
    """A World on the real cluster; its stand-ins are not used."""

    namespace: str

    async def live(self, kind: str = "Deployment", name: str = NAME) -> Object:
        found = await self.cluster.get("apps/v1", kind, self.namespace, name)
        assert found is not None
        return found

    async def create(self, obj: Object) -> Object:
        meta = obj["metadata"]
        path = await self.cluster.path(obj["apiVersion"], obj["kind"], meta.get("namespace"))
        return await self.cluster.request("POST", path, body=json.dumps(obj).encode())

    async def ready(self, name: str = NAME) -> None:
        for _ in range(600):
            if ((await self.live(name=name)).get("status") or {}).get("readyReplicas"):
                return
            await asyncio.sleep(0.1)
        raise AssertionError("the workload does not become ready")

    async def both_vote(self, approval: Approval) -> None:
        for identity in ("api:ann", "api:bob")[: approval.quorum]:
            await self.vote(approval, identity)


@pytest.fixture
async def real(database: Database, incidents: IncidentStore, tmp_path: Path) -> AsyncIterator[Real]:
    if not os.environ.get("KUBECONFIG"):
        if os.environ.get("PARAMEDIC_REQUIRE_CLUSTER") == "1":
            pytest.fail("no Kubernetes cluster: set KUBECONFIG, or try `make cluster`")
        pytest.skip("no Kubernetes cluster: set KUBECONFIG, or try `make cluster`")
    kube = KubernetesSettings()
    api = KubeApi()
    slow = policy(verify_seconds=90.0, verify_stable_seconds=2.0, verify_poll_seconds=0.3)
    async with await Cluster.connect(kube) as cluster:
        world = Real(api, Controllers(api), cluster, database, incidents, Clock(), slow, tmp_path, Helm(kube))
        world.namespace = f"gate-{secrets.token_hex(4)}"
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": world.namespace}}
        await world.create(space)
        try:
            for _ in range(100):  # pods need it
                if await cluster.get("v1", "ServiceAccount", world.namespace, "default"):
                    break
                await asyncio.sleep(0.1)
            yield world
        finally:
            await cluster.request("DELETE", f"/api/v1/namespaces/{world.namespace}", body=b"{}")


def _target(world: Real) -> ObjectRef:
    return ObjectRef(kind="Deployment", namespace=world.namespace, name=NAME)


def _patch(live: Object, **changes: Any) -> PatchWrite:
    """A patch of the replicas to 2, bound to `changes` of what is live."""
    bound = {"uid": uid(live), "generation": generation(live)} | changes
    body = forward_body(bound["uid"], bound["generation"], [], [Change("/spec/replicas", 1, 2)])
    meta = live["metadata"]
    return PatchWrite(
        api_version="apps/v1",
        kind="Deployment",
        namespace=meta["namespace"],
        name=meta["name"],
        uid=uid(live),
        resource_version="",
        generation=generation(live),
        fingerprint="",
        body=body,
    )


async def test_the_server_refuses_a_stale_patch_as_a_whole(real: Real) -> None:
    live = await real.create(_deployment(real.namespace) | {"status": {}})
    writer = Writer(real.cluster)
    for stale in ({"uid": "another"}, {"generation": 99}):
        with pytest.raises(KubernetesError) as refused:
            await writer.patch(_patch(live, **stale), dry_run=False)
        assert (refused.value.code, refused.value.reason) == (422, "Invalid")
    rehearsed = await writer.patch(_patch(live), dry_run=True)
    assert generation(rehearsed) == generation(live) + 1
    assert generation(await real.live()) == generation(live)
    await real.ready()  # status moved, the generation did not
    written = await writer.patch(_patch(live), dry_run=False)
    assert generation(written) == generation(live) + 1
    assert normalise(written) == normalise(rehearsed)
    with pytest.raises(KubernetesError):
        await writer.patch(_patch(live), dry_run=False)  # the same bytes once more


async def test_the_server_refuses_to_delete_another_uid(real: Real) -> None:
    live = await real.create(_deployment(real.namespace))
    fields = {"api_version": "apps/v1", "kind": "Deployment", "namespace": real.namespace, "name": NAME}
    wrong = DeleteWrite(**fields, uid="another", resource_version="", fingerprint="")  # type: ignore[arg-type]
    with pytest.raises(KubernetesError) as refused:
        await Writer(real.cluster).delete(wrong, dry_run=False)
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    right = wrong.model_copy(update={"uid": uid(live)})
    await Writer(real.cluster).delete(right, dry_run=True)
    assert uid(await real.live()) == uid(live)


async def test_a_wrong_probe_is_changed_verified_and_the_bytes_are_the_approved_ones(real: Real) -> None:
    await real.create(_deployment(real.namespace, port=8099))
    action = probe_change(8080, target=_target(real), probe="readiness")
    approval = await real.approved(action)
    liveness = await real.gate.execute(approval.id)
    assert liveness.state is ApprovalState.VERIFYING, liveness.outcome
    assert await _audited_body(real) == json.loads(_body(approval))
    ended = await real.gate.undo(approval.id)
    assert ended.state is ApprovalState.UNDONE, ended.outcome


def _body(approval: Approval) -> str:
    write = approval.plan.writes[0]
    assert isinstance(write, PatchWrite)
    return write.body


async def _audited_body(real: Real) -> Any:
    """The body of the one patch that is not a dry run, as the API server's own audit log has it."""
    log = os.environ.get("PARAMEDIC_AUDIT_LOG") or str(Path(os.environ["KUBECONFIG"]).with_name("audit.log"))
    if not Path(log).is_file():
        pytest.skip(f"no audit log at {log}")
    needle = f'"namespace":"{real.namespace}"'
    await asyncio.sleep(0.2)
    found = [json.loads(line) for line in Path(log).read_text().splitlines() if needle in line]
    bodies = [
        item["requestObject"]
        for item in found
        if item["verb"] == "patch" and item["userAgent"] == "paramedic" and "dryRun" not in item["requestURI"]
    ]
    assert len(bodies) == 1
    return bodies[0]


async def test_a_rollback_to_a_healthy_revision_is_verified(real: Real) -> None:
    await real.create(_deployment(real.namespace))
    await real.ready()
    before = (await real.live())["spec"]["template"]
    bad = probe_change(8099, target=_target(real))
    # somebody breaks it: both probes ask the wrong port
    live = await real.live()
    at = "/spec/template/spec/containers/1"
    ops = [Change(f"{at}/{kind}Probe/tcpSocket/port", 8080, bad.port) for kind in ("liveness", "readiness")]
    body = forward_body(uid(live), generation(live), [], ops)
    await Writer(real.cluster).patch(_patch(live).model_copy(update={"body": body}), dry_run=False)

    for _ in range(100):
        if ((await real.live()).get("status") or {}).get("observedGeneration") == 2:
            break
        await asyncio.sleep(0.1)
    approval = await real.approved(RollbackRevision(target=_target(real), revision=1))
    await real.gate.execute(approval.id)
    verdict = await real.gate.verify(approval.id)
    assert verdict.ok, verdict.summary
    assert (await real.live())["spec"]["template"] == before


async def test_a_change_that_does_not_help_is_undone(real: Real) -> None:
    await real.create(_deployment(real.namespace))
    await real.ready()
    before = normalise(await real.live())
    real.new_gate(verify_stable_seconds=15.0)  # longer than the wrong probe needs to kill
    approval = await real.approved(probe_change(8099, target=_target(real)))
    await real.gate.execute(approval.id)
    verdict = await real.gate.verify(approval.id)
    assert not verdict.ok
    assert "crash again" in verdict.summary
    ended = await real.gate.undo(approval.id)
    assert ended.state is ApprovalState.UNDONE, ended.outcome
    assert normalise(await real.live()) == before


def _as(kind: str, made: Object) -> Object:
    """The Deployment as a StatefulSet or DaemonSet."""
    made["kind"] = kind
    if kind == "StatefulSet":
        made["spec"]["serviceName"] = "none"
    else:
        del made["spec"]["replicas"]
    return made


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
async def test_other_workloads_are_patched_rolled_out_and_rolled_back(real: Real, kind: str) -> None:
    """The pod of the wrong probe is never ready: a StatefulSet would wait for it for ever."""
    made = _as(kind, _deployment(real.namespace))
    made["spec"]["template"]["spec"]["containers"][1]["readinessProbe"]["tcpSocket"]["port"] = 8099
    await real.create(made)
    for _ in range(100):
        pods = await real.cluster.list_all("v1", "Pod", real.namespace)
        if pods and (pods[0].get("status") or {}).get("phase") == "Running":
            break
        await asyncio.sleep(0.1)
    target = ObjectRef(kind=kind, namespace=real.namespace, name=NAME)
    approval = await real.approved(probe_change(8080, target=target, probe="readiness"))
    deletions = [write for write in approval.plan.writes if isinstance(write, DeleteWrite)]
    assert len(deletions) == (1 if kind == "StatefulSet" else 0)
    state = await real.gate.execute(approval.id)
    assert state.state is ApprovalState.VERIFYING, state.outcome
    verdict = await real.gate.verify(approval.id)
    assert verdict.ok, verdict.summary

    back = await real.approved(RollbackRevision(target=target, revision=1))
    assert (await real.gate.execute(back.id)).state is ApprovalState.VERIFYING
    live = await real.live(kind)
    probe = live["spec"]["template"]["spec"]["containers"][1]["readinessProbe"]
    assert probe["tcpSocket"]["port"] == 8099
    ended = await real.gate.undo(back.id)
    assert ended.state is ApprovalState.UNDONE, ended.outcome


async def test_a_pod_is_deleted_and_its_replacement_watched(real: Real) -> None:
    await real.create(_deployment(real.namespace))
    await real.ready()
    (pod,) = await real.cluster.list_all("v1", "Pod", real.namespace)
    target = ObjectRef(kind="Pod", namespace=real.namespace, name=pod["metadata"]["name"])
    approval = await real.requested(DeletePod(target=target), incident=await real.incident(_target(real)))
    assert await real.cluster.get("v1", "Pod", real.namespace, target.name)  # its dry run was one
    await real.vote(approval)
    assert (await real.gate.execute(approval.id)).state is ApprovalState.VERIFYING
    verdict = await real.gate.verify(approval.id)
    assert verdict.ok, verdict.summary


# helm


async def _helm(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "helm", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@pytest.fixture
async def chart(real: Real) -> ObjectRef:
    """Revision 1 serves; revision 2 asks the wrong port."""
    import shutil

    if not shutil.which("helm"):
        pytest.skip("helm is not installed")
    folder = real.folder / "chart"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text(yaml.safe_dump({"apiVersion": "v2", "name": "tiny", "version": "0.1.0"}))
    (folder / "values.yaml").write_text("port: 8080\n")
    made = _deployment(real.namespace, 8080)
    text = yaml.safe_dump(made).replace("port: 8080", "port: {{ .Values.port }}")
    (folder / "templates" / "workload.yaml").write_text(text)
    name = f"tiny-{secrets.token_hex(3)}"
    for command in (["install"], ["upgrade", "--set", "port=8099"]):
        await _helm(*command, name, str(folder), "--namespace", real.namespace)
    return ObjectRef(kind="HelmRelease", namespace=real.namespace, name=name)


async def _approve(real: Real, action: Action) -> Approval:
    approval = await real.requested(action, cause=CauseClass.WRONG_LIVENESS_PROBE)
    await real.both_vote(approval)
    return approval


async def test_a_release_is_rolled_back_verified_and_undone(real: Real, chart: ObjectRef) -> None:
    helm = real.helm
    assert helm
    approval = await _approve(real, HelmRollbackAction(target=chart, revision=1))
    assert "8099" in approval.plan.diff
    state = await real.gate.execute(approval.id)
    assert state.state is ApprovalState.VERIFYING, state.outcome
    verdict = await real.gate.verify(approval.id)
    assert verdict.ok, verdict.summary
    history = await helm.history(real.namespace, chart.name)
    assert [(item.number, item.status) for item in history] == [(1, "superseded"), (2, "superseded"), (3, "deployed")]
    assert history[-1].description == "Rollback to 1"


async def test_a_rollback_of_a_release_is_undone(real: Real, chart: ObjectRef) -> None:
    approval = await _approve(real, HelmRollbackAction(target=chart, revision=1))
    await real.gate.execute(approval.id)
    ended = await real.gate.undo(approval.id)
    assert ended.state is ApprovalState.UNDONE, ended.outcome


async def test_a_release_is_uninstalled_by_two_and_brought_back(real: Real, chart: ObjectRef) -> None:
    assert real.helm
    approval = await _approve(real, HelmUninstallAction(target=chart))
    state = await real.gate.execute(approval.id)
    assert state.state is ApprovalState.VERIFYING, state.outcome
    assert await real.cluster.get("apps/v1", "Deployment", real.namespace, NAME) is None
    ended = await real.gate.undo(approval.id)
    assert ended.state is ApprovalState.UNDONE, ended.outcome
    assert await real.live()
    assert (await real.helm.status(real.namespace, chart.name)).status == "deployed"


async def test_a_release_that_was_upgraded_since_is_left_alone(real: Real, chart: ObjectRef) -> None:
    approval = await _approve(real, HelmRollbackAction(target=chart, revision=1))
    await _helm("upgrade", chart.name, str(real.folder / "chart"), "--namespace", real.namespace)
    ended = await real.gate.execute(approval.id)
    assert ended.state is ApprovalState.STALE
    assert real.helm
    assert (await real.helm.status(real.namespace, chart.name)).number == 3
