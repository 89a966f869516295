"""Changes of a pod template that need something else in the cluster: what they derive, refuse and take back."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from actions.catalogue.images import registry, repository
from actions.objects import normalise
from errors import Refused
from incidents.actions import (
    Action,
    AddPullSecret,
    ChangeConfigReference,
    ChangeProbe,
    ChangeResources,
    ChangeScheduling,
    ChangeVariable,
    Combined,
    RevertImage,
    Toleration,
)
from incidents.models import CauseClass, ObjectRef
from incidents.plan import ApprovalState, Risk
from tests.actions.conftest import NAME, NAMESPACE, World, probe_change

TARGET = ObjectRef(kind="Deployment", namespace=NAMESPACE, name=NAME)
OLD, BROKEN = f"{NAME}-config", f"{NAME}-cfg"


def _live(world: World) -> dict[str, Any]:
    found = world.api.get("Deployment", NAMESPACE, NAME)
    assert found is not None
    return found


def _pod(item: dict[str, Any]) -> dict[str, Any]:
    return item["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def _put(world: World, kind: str, name: str, **fields: Any) -> None:
    namespace = {} if kind == "Node" else {"namespace": NAMESPACE}
    labels = fields.pop("labels", {})
    world.api.put(
        {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": labels} | namespace, **fields}
    )


def _node(world: World, name: str, *, labels: dict[str, str] | None = None, ready: str = "True", **spec: Any) -> None:
    status = {
        "conditions": [{"type": "Ready", "status": ready}],
        "allocatable": {"cpu": "2", "memory": "1Gi"},
    }
    _put(world, "Node", name, spec=spec, status=status, labels=labels or {})


def _pull_secret(world: World, name: str, server: str, kind: str = "kubernetes.io/dockerconfigjson") -> None:
    config = base64.b64encode(json.dumps({"auths": {server: {"auth": "c2VjcmV0"}}}).encode()).decode()
    _put(world, "Secret", name, type=kind, data={".dockerconfigjson": config})


@pytest.fixture
def broken(world: World) -> World:
    """Everything that the actions below repair, at once; the controllers have rolled it out as revision 2."""

    def spoil(item: dict[str, Any]) -> None:
        pod = _pod(item)
        pod["containers"][1]["image"] = "example.test/app:3"
        pod["containers"][1]["env"][2]["valueFrom"]["configMapKeyRef"].update(name=BROKEN, key="lvl")
        pod["containers"][0]["envFrom"] = [{"configMapRef": {"name": BROKEN}}]
        pod["volumes"] = [{"name": "v", "configMap": {"name": BROKEN, "items": [{"key": "lvl", "path": "x"}]}}]
        pod["containers"][1]["env"].append({"name": "URL", "value": "pg://u:hunter4@dbb:5432/x"})
        pod["imagePullSecrets"] = [{"name": "gone"}]
        pod["nodeSelector"] = {"disk": "sdd"}

    world.api.edit("Deployment", NAMESPACE, NAME, spoil)
    _put(world, "ConfigMap", BROKEN, data={"lvl": "x"})
    _put(world, "ConfigMap", "whole", data={"lvl": "x", "level": "y"})
    _put(world, "Service", "db", spec={"clusterIP": "10.0.0.9", "ports": [{"port": 5432}]})
    _put(world, "Service", "peers", spec={"clusterIP": "None", "ports": [{"port": 1}]})
    _put(world, "Secret", "plain", type="Opaque", data={})
    _pull_secret(world, "pull", "https://example.test/v1/")
    _pull_secret(world, "other", "https://index.docker.io/v1/")
    _node(world, "n1", labels={"disk": "ssd"})
    _node(world, "n2", labels={"disk": "hdd"}, taints=[{"key": "team", "value": "shop", "effect": "NoSchedule"}])
    return world


def _reference(**changes: Any) -> ChangeConfigReference:
    fields: dict[str, Any] = {"kind": "ConfigMap", "name": BROKEN, "to_name": "whole"}
    return ChangeConfigReference(target=TARGET, **(fields | changes))


def _image(image: str = "example.test/app:2", container: str = "main") -> RevertImage:
    return RevertImage(target=TARGET, container=container, image=image)


def _variable(**changes: Any) -> ChangeVariable:
    fields: dict[str, Any] = {"variable": "URL", "old": "dbb", "new": "db", "host": "db", "port": 5432}
    return ChangeVariable(target=TARGET, **({"container": "main"} | fields | changes))


def _selector(**wanted: str) -> ChangeScheduling:
    return ChangeScheduling(target=TARGET, node_selector=wanted)


def _tolerate(key: str = "team", value: str | None = "shop", **more: Any) -> ChangeScheduling:
    return ChangeScheduling(target=TARGET, toleration=Toleration(key=key, value=value, effect="NoSchedule"), **more)


GOOD: list[Any] = [
    pytest.param(_reference(), id="all-references"),
    pytest.param(_reference(container="main"), id="one-container"),
    pytest.param(_reference(key="lvl", container="main", to_key="level"), id="name-and-key"),
    pytest.param(AddPullSecret(target=TARGET, secret="pull"), id="pull-secret-beside"),
    pytest.param(AddPullSecret(target=TARGET, secret="pull", replaces="gone"), id="pull-secret-instead"),
    pytest.param(_image(), id="image"),
    pytest.param(_variable(), id="variable"),
    pytest.param(_variable(new="peers", host="peers"), id="headless-service"),
    pytest.param(_selector(disk="ssd"), id="node-selector"),
    pytest.param(_tolerate(node_selector={"disk": "hdd"}), id="toleration-and-selector"),
    pytest.param(Combined(target=TARGET, parts=[_image(), _reference(), _selector(disk="ssd")]), id="combined"),
    pytest.param(
        Combined(target=TARGET, parts=[probe_change(8080), probe_change(None, period_seconds=5)]),
        id="one-probe-twice",
    ),
]


@pytest.mark.parametrize("action", GOOD)
async def test_undo_leaves_the_spec_as_it_was_and_done_again_it_verifies(broken: World, action: Action) -> None:
    before = normalise(_live(broken))
    approval = await broken.approved(action)
    assert (await broken.gate.execute(approval.id)).state is ApprovalState.VERIFYING
    assert normalise(_live(broken)) != before
    ended = await broken.gate.undo(approval.id)
    assert ended.state is ApprovalState.UNDONE, ended.outcome
    assert normalise(_live(broken)) == before
    assert len(broken.writes) == 2
    again = await broken.approved(action)
    await broken.gate.execute(again.id)
    verdict = await broken.gate.verify(again.id)
    assert verdict.ok, verdict.summary


@pytest.mark.parametrize(
    "action", [_reference(), _image(), _selector(disk="ssd"), AddPullSecret(target=TARGET, secret="pull")]
)
async def test_a_target_that_was_edited_meanwhile_is_left_alone(broken: World, action: Action) -> None:
    approval = await broken.approved(action)
    broken.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["spec"].update(replicas=3))
    ended = await broken.gate.execute(approval.id)
    assert ended.state is ApprovalState.STALE
    assert broken.writes == []


@pytest.mark.parametrize("action", [_reference(), _image(), _tolerate(node_selector={"disk": "hdd"})])
async def test_a_managed_workload_gets_a_proposal(broken: World, action: Action) -> None:
    marks = {"argocd.argoproj.io/tracking-id": "x:apps/Deployment:a/b"}
    broken.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["metadata"].update(annotations=marks))
    with pytest.raises(Refused, match="managed by Argo CD"):
        await broken.plan(action)
    assert broken.api.attempts == []


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (_reference(name="nosuch"), "does not refer to ConfigMap nosuch"),
        (_reference(to_name="nosuch"), "does not exist"),
        (_reference(to_name=BROKEN), "already"),
        (_reference(to_name=OLD), "has no key lvl"),
        (_reference(key="lvl", to_name=BROKEN, to_key="nokey"), "has no key nokey"),
        (_reference(key="lvl", to_key="level"), "change the whole volume"),
        (_reference(container="nosuch"), "no container"),
        (_reference(kind="Secret", to_name="pull"), "does not refer to Secret"),
        (AddPullSecret(target=TARGET, secret="nosuch"), "does not exist"),
        (AddPullSecret(target=TARGET, secret="plain"), "no pull secret"),
        (AddPullSecret(target=TARGET, secret="other"), "no credentials for example.test"),
        (AddPullSecret(target=TARGET, secret="gone"), "already"),
        (AddPullSecret(target=TARGET, secret="pull", replaces="nosuch"), "names no pull secret nosuch"),
        (_image("example.test/app:9"), "no revision"),
        (_image("example.test/evil:2"), "another repository"),
        (_image("evil.test/app:2"), "another repository"),
        (_image("example.test/app:3"), "already"),
        (_image(container="nosuch"), "no container"),
        (_variable(new="dbc", host="dbc"), "no Service dbc"),
        (_variable(new="db.other", host="db.other"), r"no Service db\.other"),
        (_variable(new="evil.test/x?db", host="db", old="nosuch"), "does not have nosuch in it once"),
        (_variable(new="evil", host="db"), "does not lead to db"),
        (_variable(new="169.254.169.254", host="169.254.169.254"), "no Service"),
        (_variable(port=1), "offers 5432, not 1"),
        (_variable(variable="LEVEL"), "no literal variable"),
        (_variable(variable="NONE"), "no literal variable"),
        (_variable(container="nosuch"), "no container"),
        (_variable(old="5432", new="1", port=5432), "does not lead to port 5432"),
        (_variable(new="db:1"), "does not lead to port 5432"),
        (_variable(new="evil.test/db"), "does not lead to db"),
        (_variable(new="db@evil.test"), "does not lead to db"),
        (_selector(disk="none"), "no ready node would take"),
        (_selector(other="x"), "no key other"),
        (_selector(disk="sdd"), "already"),
        (_tolerate(), "no ready node would take"),
        (_tolerate(value="x"), "no ready node has taint"),
        (_tolerate("node.kubernetes.io/not-ready", None), "the cluster's own"),
        (_tolerate("node-role.kubernetes.io/master", None), "the cluster's own"),
        (Combined(target=TARGET, parts=[probe_change(8080), probe_change(8082)]), "two of the changes"),
        (
            Combined(target=TARGET, parts=[_image(), probe_change(target=TARGET.model_copy(update={"name": "x"}))]),
            "one patch changes one object",
        ),
        (Combined(target=TARGET, parts=[_image(), _selector(disk="none")]), "no ready node would take"),
    ],
)
async def test_what_does_not_exist_or_would_not_help_is_refused(broken: World, action: Action, why: str) -> None:
    with pytest.raises(Refused, match=why):
        await broken.plan(action)
    assert broken.api.attempts == []


async def test_a_combined_plan_is_one_patch_and_one_preview(broken: World) -> None:
    parts = [_image(), _reference(container="main", key="lvl", to_key="level"), probe_change(8080)]
    plan = await broken.plan(Combined(target=TARGET, parts=parts))
    assert len(plan.writes) == len(plan.inverse) == 1
    assert all(words in plan.diff for words in ("app:2", "name: whole", "port: 8080"))
    assert plan.risk is Risk.MEDIUM
    assert plan.containers == ["main"]


async def test_credentials_beside_an_address_are_not_shown(broken: World) -> None:
    plan = await broken.plan(_variable())
    assert "hunter" not in plan.diff + plan.title + plan.blast_radius + plan.action.model_dump_json()
    assert "<masked, and changed>" in plan.diff


async def test_secrets_and_their_values_are_not_in_a_plan(broken: World) -> None:
    plan = await broken.plan(AddPullSecret(target=TARGET, secret="pull"))
    assert "c2VjcmV0" not in plan.model_dump_json()


async def test_a_missing_reference_no_longer_hinders_the_rollback_that_takes_it_out(broken: World) -> None:
    from incidents.actions import RollbackRevision

    broken.api.remove("ConfigMap", NAMESPACE, BROKEN)
    assert (await broken.plan(RollbackRevision(target=TARGET, revision=1))).writes


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("nginx:1", "docker.io/library/nginx"),
        ("index.docker.io/library/nginx@sha256:ab", "docker.io/library/nginx"),
        ("a/b:c", "docker.io/a/b"),
        ("localhost:5000/a:1", "localhost:5000/a"),
        ("localhost:5000/a", "localhost:5000/a"),
        ("R.test/a/b/c:1@sha256:ab", "r.test/a/b/c"),
    ],
)
def test_references_of_one_repository_are_the_same(short: str, long: str) -> None:
    assert repository(short) == long
    assert registry(short) == long.partition("/")[0]


def _resources(**fields: str) -> ChangeResources:
    return ChangeResources(target=TARGET, container="main", **fields)


def _limit(**fields: Any) -> dict[str, Any]:
    return {"spec": {"limits": [{"type": "Container", **fields}]}}


def _quota(key: str, used: str, hard: str) -> dict[str, Any]:
    return {"spec": {"hard": {key: hard}}, "status": {"hard": {key: hard}, "used": {key: used}}}


@pytest.mark.parametrize(
    ("kind", "fields", "action", "why"),
    [
        ("LimitRange", _limit(max={"memory": "100Mi"}), _resources(memory_limit="128Mi"), "at most memory 100Mi"),
        ("LimitRange", _limit(max={"memory": "128Mi"}), _resources(memory_limit="128Mi"), None),
        ("LimitRange", _limit(min={"cpu": "200m"}), _resources(cpu_request="100m"), "at least cpu 200m"),
        ("LimitRange", _limit(maxLimitRequestRatio={"memory": "2"}), _resources(memory_limit="128Mi"), "2 times"),
        (
            "ResourceQuota",
            _quota("limits.memory", "128Mi", "200Mi"),
            _resources(memory_limit="128Mi"),
            "limits.memory",
        ),
        ("ResourceQuota", _quota("limits.memory", "128Mi", "256Mi"), _resources(memory_limit="128Mi"), None),
        ("ResourceQuota", _quota("requests.cpu", "0", "1"), _resources(cpu_request="600m"), "requests.cpu is"),
        (
            "ResourceQuota",
            _quota("memory", "64Mi", "65Mi"),
            _resources(memory_request="33Mi"),
            "64Mi of 65Mi",
        ),
        ("Node", None, _resources(memory_limit="3Gi", memory_request="2Gi"), "large enough"),
        ("Node", None, _resources(cpu_request="2"), None),
        ("Node", None, _resources(cpu_request="2001m"), "large enough"),
    ],
)
async def test_resources_stay_within_what_would_be_admitted_and_placed(
    world: World, kind: str, fields: dict[str, Any] | None, action: ChangeResources, why: str | None
) -> None:
    if fields is None:
        _node(world, "n1")
    else:
        _put(world, kind, "bound", **fields)
    if why is None:
        assert (await world.plan(action)).writes
        return
    with pytest.raises(Refused, match=why):
        await world.plan(action)


async def test_an_operators_resource_is_named_with_the_field_to_change(broken: World) -> None:
    from actions.ownership import Managed

    shop = broken.api.put(
        {
            "apiVersion": "example.io/v1",
            "kind": "Shop",
            "metadata": {"name": "s", "namespace": NAMESPACE},
            "spec": {"web": {"image": "example.test/app:3"}, "db": {"image": "example.test/db:3"}, "note": "app:3"},
        }
    )
    owner = {"apiVersion": "example.io/v1", "kind": "Shop", "name": "s", "uid": shop["metadata"]["uid"]}
    owned = {"ownerReferences": [owner | {"controller": True}]}
    broken.api.edit("Deployment", NAMESPACE, NAME, lambda item: item["metadata"].update(owned))
    with pytest.raises(Managed) as refused:
        await broken.plan(_image())
    assert refused.value.change == (
        f"--- Shop {NAMESPACE}/s now\n+++ Shop {NAMESPACE}/s after\n"
        "-/spec/web/image: example.test/app:3\n+/spec/web/image: example.test/app:2"
    )
    broken.api.edit("Shop", NAMESPACE, "s", lambda item: item["spec"].update(job={"image": "example.test/app:3"}))
    with pytest.raises(Managed) as unclear:
        await broken.plan(_image())
    assert "--- Deployment" in unclear.value.change
    assert broken.api.attempts == []


async def test_a_probe_is_changed_once_for_two_causes(world: World) -> None:
    parts = [probe_change(8080), ChangeProbe(target=TARGET, container="main", probe="liveness", timeout_seconds=5)]
    plan = await world.plan(Combined(target=TARGET, parts=parts), cause=CauseClass.WRONG_LIVENESS_PROBE)
    assert "timeoutSeconds: 5" in plan.diff and "port: 8080" in plan.diff
