"""What is added to pods of the API's shape, and what may not be mounted or believed."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest

from collector.webhook.inject import LABEL, VOLUME, inject
from collector.webhook.paths import refused
from collector.webhook.review import Reviewer
from errors import InvalidInput, ToolFailed
from settings import WebhookSettings
from tests.snapshot_cases import loaded
from tests.standins.json_patch import apply_patch

NODE = "/var/lib/paramedic/cores"


def pod(**annotations: str) -> dict[str, Any]:
    """As the ReplicaSet controller sends it: no name yet."""
    found = copy.deepcopy(loaded("native_crash").all("Pod")[0])
    metadata = {"generateName": "shop-7d9f-", "labels": found["metadata"]["labels"], "annotations": annotations}
    found.pop("status")
    return {**found, "metadata": metadata}


def asked(**more: str) -> dict[str, Any]:
    return pod(**{"paramedic.io/inject": "true"}, **{f"paramedic.io/{key}": value for key, value in more.items()})


def mounts(container: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in container.get("volumeMounts", []) if item["name"] == VOLUME]


def test_every_container_gets_its_own_folder_by_the_pods_own_identity() -> None:
    before = asked()
    after = inject(before, NODE, "/corefile").pod
    assert after is not None
    assert [item for item in after["spec"]["volumes"] if item["name"] == VOLUME] == [
        {"name": VOLUME, "hostPath": {"path": NODE, "type": "DirectoryOrCreate"}}
    ]
    for container in after["spec"]["containers"]:
        (mount,) = mounts(container)
        assert mount["mountPath"] == "/corefile"
        assert mount["subPathExpr"] == (
            "$(PARAMEDIC_POD_NAMESPACE)/$(PARAMEDIC_POD_NAME)_$(PARAMEDIC_POD_UID)/" + container["name"]
        )
        fields = {item["name"]: item["valueFrom"]["fieldRef"]["fieldPath"] for item in container["env"][-3:]}
        assert fields["PARAMEDIC_POD_UID"] == "metadata.uid" and fields["PARAMEDIC_POD_NAME"] == "metadata.name"
    assert after["metadata"]["labels"][LABEL] == "injected"
    assert before == asked(), "the pod that came in is not changed"


def test_a_second_time_changes_nothing() -> None:
    once = inject(asked(), NODE, "/corefile").pod
    assert once is not None
    again = inject(once, NODE, "/corefile")
    assert again.pod is None and again.warnings == []


def test_chosen_containers_and_init_containers() -> None:
    before = asked(path="/cores", container="setup, second")
    before["spec"]["initContainers"] = [{"name": "setup", "image": "x"}]
    before["spec"]["containers"] = [{"name": "first", "image": "x"}, {"name": "second", "image": "x"}]
    after = inject(before, NODE, "/corefile").pod
    assert after is not None
    assert mounts(after["spec"]["initContainers"][0]) and mounts(after["spec"]["containers"][1])
    assert mounts(after["spec"]["containers"][0]) == []


def test_a_name_that_no_container_has_is_told() -> None:
    done = inject(asked(container="nobody"), NODE, "/corefile")
    assert done.pod is None and "nobody" in done.warnings[0]


def test_coredogs_annotations_mean_the_same() -> None:
    ours = inject(asked(path="/cores"), NODE, "/corefile").pod
    theirs = inject(pod(**{"coredog.io/inject": "true", "coredog.io/path": "/cores"}), NODE, "/corefile").pod
    assert ours is not None and theirs is not None and ours["spec"] == theirs["spec"]


def test_what_is_mounted_there_already_stays() -> None:
    before = asked()
    own = {"name": "data", "mountPath": "/corefile/"}
    before["spec"]["containers"][0]["volumeMounts"] = [own]
    done = inject(before, NODE, "/corefile")
    assert done.pod is not None
    assert done.pod["spec"]["containers"][0]["volumeMounts"] == [own]
    assert "something else is mounted" in done.warnings[0]
    assert mounts(done.pod["spec"]["containers"][1])


def test_a_volume_of_the_pods_own_by_our_name_is_left_alone() -> None:
    before = asked()
    before["spec"]["volumes"] = [{"name": VOLUME, "hostPath": {"path": "/etc"}}]
    done = inject(before, NODE, "/corefile")
    assert done.pod is None and "of its own" in done.warnings[0]


def test_a_pod_cannot_say_that_it_is_another() -> None:
    before = asked()
    lies = [{"name": "PARAMEDIC_POD_UID", "value": "../../other"}, {"name": "KEPT", "value": "1"}]
    before["spec"]["containers"][0]["env"] = [*lies, {"name": "PARAMEDIC_POD_NAME", "value": "other"}]
    after = inject(before, NODE, "/corefile").pod
    assert after is not None
    env = after["spec"]["containers"][0]["env"]
    assert [item["name"] for item in env] == ["KEPT", *(item["name"] for item in env[1:])] and len(env) == 4
    assert all("valueFrom" in item for item in env[1:])


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/",
            "//",
            "/.",
            "/..",
            "/etc",
            "//etc",
            "/etc/",
            "/etc/../etc",
            "/a/../etc/x",
            "/./usr/lib",
            "//var",
            "/var/run",
        ),
        *(
            "/corefile/../../bin",
            "/proc/self",
            "/root",
            "/home/x",
            "relative",
            "/a:b",
            "/a\nb",
            "/" + "x" * 300,
        ),
    ],
)
def test_forbidden_paths(path: str) -> None:
    assert refused(path) is not None
    done = inject(pod(**{"paramedic.io/inject": "true", "paramedic.io/path": path}), NODE, "/corefile")
    assert done.pod is None and len(done.warnings) == 1


@pytest.mark.parametrize("path", ["/corefile", "/cores/", "/data//cores", "/etcetera", "/opt/app/cores", "/usrdata"])
def test_other_paths(path: str) -> None:
    assert refused(path) is None


# --- reviews ----------------------------------------------------------------------------------------------------------


async def nothing(_: str) -> list[str]:
    return []


async def free(_: str) -> str | None:
    return None


def review(item: dict[str, Any], operation: str = "CREATE") -> bytes:
    request = {
        "uid": "u-1",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": operation,
        "namespace": "team",
        "object": item,
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


async def answered(
    item: dict[str, Any], look: Any = nothing, quota: Any = free, forbids: Any = free, **settings: Any
) -> dict[str, Any]:
    found = await Reviewer(WebhookSettings(**settings), look, quota, forbids).answer(review(item))
    assert found["response"]["uid"] == "u-1" and found["response"]["allowed"] is True
    return dict(found["response"])


async def test_the_patch_makes_the_pod_that_was_meant() -> None:
    for before in (asked(), {**asked(), "metadata": {"annotations": {"paramedic.io/inject": "true"}}}):
        response = await answered(before)
        patch = json.loads(base64.b64decode(response["patch"]))
        assert apply_patch(copy.deepcopy(before), patch) == inject(before, NODE, "/corefile").pod


async def test_a_pod_that_does_not_ask_is_not_touched() -> None:
    for item in (pod(), pod(**{"paramedic.io/inject": "false", "coredog.io/inject": "true"}), {}, {"metadata": None}):
        assert set(await answered(item)) == {"uid", "allowed"}


async def test_where_cores_would_be_lost_is_told_and_the_folder_is_given() -> None:
    async def look(path: str) -> list[str]:
        return [f"on every node: cores are written elsewhere than {path}", "x" * 400]

    response = await answered(asked(), look=look)
    assert "patch" in response and "elsewhere than /corefile" in response["warnings"][0]
    assert all(len(text) <= 250 for text in response["warnings"])


async def test_a_namespace_that_is_full_or_not_allowed_gets_a_warning() -> None:
    async def full(_: str) -> str | None:
        return "namespace team has 5 pods with a folder for cores already"

    assert "5 pods" in (await answered(asked(), quota=full))["warnings"][0]
    response = await answered(asked(), namespaces=["other"])
    assert "patch" not in response and "webhook.namespaces" in response["warnings"][0]


async def test_a_cluster_that_does_not_answer_costs_nothing() -> None:
    async def away(_: str) -> list[str]:
        raise ToolFailed("no answer")

    assert "patch" in await answered(asked(), look=away)
    assert "patch" in await answered(asked(), forbids=away)


@pytest.mark.parametrize("spec", [None, [], {"containers": None}, {"containers": [{"env": 3}]}, {"volumes": "x"}])
async def test_a_pod_of_no_shape_is_allowed(spec: Any) -> None:
    response = await answered({**asked(), "spec": spec})
    assert "patch" not in response or json.loads(base64.b64decode(response["patch"]))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b"[" * 100_000, json.dumps({"kind": "Pod"}).encode()])
async def test_what_is_no_review_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        await Reviewer(WebhookSettings(), nothing, free, free).answer(body)
