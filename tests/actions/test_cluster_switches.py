"""On a real cluster: objects that have no generation there, references, and several changes as one patch."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from actions.objects import generation, normalise, read_live
from incidents.actions import (
    Action,
    ChangeConfigReference,
    ChangeService,
    Combined,
    CordonNode,
    ResumeCronJob,
    RevertImage,
)
from incidents.models import ObjectRef
from incidents.plan import ApprovalState
from tests.actions.conftest import probe_change
from tests.actions.test_cluster import IMAGE, NAME, Real, _deployment, real
from tools.kubernetes.client import Object

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
__all__ = ["real"]


async def _live(real: Real, target: ObjectRef) -> Object:
    found = await read_live(real.cluster, target.kind, target.namespace, target.name)
    assert found is not None
    return found


async def _there_and_back_and_there(real: Real, action: Action) -> None:
    """Do, undo (proved equal), do again, verify."""
    before = normalise(await _live(real, action.target))
    approval = await real.approved(action)
    executed = await real.gate.execute(approval.id)
    assert executed.state is ApprovalState.VERIFYING, executed.outcome
    undone = await real.gate.undo(approval.id)
    assert undone.state is ApprovalState.UNDONE, undone.outcome
    assert normalise(await _live(real, action.target)) == before
    again = await real.approved(action)
    await real.gate.execute(again.id)
    verdict = await real.gate.verify(again.id)
    assert verdict.ok, verdict.summary


async def test_a_service_is_led_to_its_pods(real: Real) -> None:
    made = _deployment(real.namespace)
    made["spec"]["template"]["spec"]["containers"][1]["ports"] = [{"containerPort": 8080, "name": "web"}]
    await real.create(made)
    await real.ready()
    target = ObjectRef(kind="Service", namespace=real.namespace, name="oak")
    spec = {"selector": {"x": "aok"}, "ports": [{"port": 80, "targetPort": 9}]}
    meta = {"name": target.name, "namespace": real.namespace}
    service = await real.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
    assert generation(service) == 0
    action = ChangeService(target=target, selector={"x": NAME}, port=80, target_port="web")
    approval = await real.approved(action)
    path = await real.cluster.path("v1", "Service", real.namespace, target.name)
    merge = "application/merge-patch+json"
    edit = json.dumps({"spec": {"sessionAffinity": "ClientIP"}}).encode()
    await real.cluster.request("PATCH", path, body=edit, content_type=merge)
    assert (await real.gate.execute(approval.id)).state is ApprovalState.STALE
    await _there_and_back_and_there(real, action)


async def test_a_cron_job_goes_on(real: Real) -> None:
    target = ObjectRef(kind="CronJob", namespace=real.namespace, name="nightly")
    pod = {"restartPolicy": "Never", "containers": [{"name": "a", "image": IMAGE, "command": ["/bin/busybox", "true"]}]}
    job = {"spec": {"template": {"spec": pod}}}
    obj: dict[str, Any] = {"kind": "CronJob", "metadata": {"name": target.name, "namespace": real.namespace}}
    obj["spec"] = {"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": job}
    known = await real.cluster.request("GET", "/apis/batch/v1")
    modern = any(item["name"] == "cronjobs" for item in known["resources"])
    await real.create({"apiVersion": "batch/v1" if modern else "batch/v1beta1", **obj})
    await _there_and_back_and_there(real, ResumeCronJob(target=target))


async def test_three_changes_of_one_template_are_one_rollout(real: Real) -> None:
    for name, data in (("old", {"a": "1"}), ("new", {"a": "1", "b": "2"})):
        meta = {"name": name, "namespace": real.namespace}
        await real.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
    made = _deployment(real.namespace)
    main = made["spec"]["template"]["spec"]["containers"][1]
    main["envFrom"] = [{"configMapRef": {"name": "old"}}]
    await real.create(made)
    await real.ready()
    target = ObjectRef(kind="Deployment", namespace=real.namespace, name=NAME)
    path = await real.cluster.path("apps/v1", "Deployment", real.namespace, NAME)
    spoiled = json.dumps(
        [{"op": "replace", "path": "/spec/template/spec/containers/1/image", "value": f"{IMAGE}.none"}]
    )
    await real.cluster.request("PATCH", path, body=spoiled.encode(), content_type="application/json-patch+json")
    parts = [
        RevertImage(target=target, container="main", image=IMAGE),
        ChangeConfigReference(target=target, kind="ConfigMap", name="old", to_name="new"),
        probe_change(None, target=target, period_seconds=2),
    ]
    await _there_and_back_and_there(real, Combined(target=target, parts=parts))
    live = await _live(real, target)
    after = live["spec"]["template"]["spec"]["containers"][1]
    assert (after["image"], after["envFrom"][0]["configMapRef"]["name"]) == (IMAGE, "new")


async def test_a_node_is_cordoned_though_its_controller_adds_a_taint(real: Real) -> None:
    """The node is an object of this test's own; no kubelet stands behind it."""
    target = ObjectRef(kind="Node", name=f"node-{secrets.token_hex(4)}")
    path = "/api/v1/nodes"
    await real.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": target.name}})
    try:
        real.new_gate(nodes=True)
        await _there_and_back_and_there(real, CordonNode(target=target, unschedulable=True))
    finally:
        await real.cluster.request("DELETE", f"{path}/{target.name}", body=b"{}")
