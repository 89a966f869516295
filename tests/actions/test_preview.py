"""The diff that people see: complete, stable, and without secrets."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from actions.objects import fingerprint
from actions.preview import mask_manifest_object, object_diff, require_only
from errors import Refused
from tests.standins.rollout import deployment


def _pair(**env: tuple[str | None, str | None]) -> tuple[dict[str, Any], dict[str, Any]]:
    before, after = deployment("d", "n"), deployment("d", "n")
    for name, values in env.items():
        for obj, value in zip((before, after), values, strict=True):
            if value is not None:
                obj["spec"]["template"]["spec"]["containers"][1]["env"].append({"name": name, "value": value})
    return before, after


def test_secrets_are_masked_and_their_change_is_told() -> None:
    before, after = _pair(
        API_TOKEN=("old-one", "new-one"),
        SESSION_KEY_SECRET=("same-one", "same-one"),
        DSN=("postgres://app:pw-one@db/x", "postgres://app:pw-two@db/x"),
        FRESH_PASSWORD=(None, "fresh-one"),
        PLAIN=("shown-old", "shown-new"),
    )
    diff = object_diff(before, after)
    for secret in ("old-one", "new-one", "same-one", "pw-one", "pw-two", "fresh-one", "hunter2"):
        assert secret not in diff
    assert diff.count("<masked, and changed>") == 2
    assert "shown-old" in diff and "shown-new" in diff


def test_what_controllers_write_does_not_show() -> None:
    before = deployment("d", "n")
    after = copy.deepcopy(before)
    after["metadata"] |= {"generation": 9, "resourceVersion": "7", "managedFields": [{}], "creationTimestamp": "x"}
    after["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "4"}
    after["status"] = {"replicas": 9}
    assert object_diff(before, after) == ""
    assert fingerprint(before) == fingerprint(after)


@pytest.mark.parametrize(
    "path",
    [
        ("metadata", "labels", "x"),
        ("metadata", "annotations", "x"),
        ("spec", "replicas"),
        ("spec", "template", "spec", "hostPID"),
        ("spec", "template", "metadata", "labels", "x"),
    ],
)
def test_any_meaningful_edit_changes_the_fingerprint_and_is_not_allowed(path: tuple[str, ...]) -> None:
    before = deployment("d", "n")
    after = copy.deepcopy(before)
    holder: Any = after
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = "y"
    assert fingerprint(before) != fingerprint(after)
    with pytest.raises(Refused, match="not part of the action"):
        require_only(before, after, ["/spec/template/spec/containers/1/livenessProbe"])
    require_only(before, after, [f"/{path[0]}/{path[1]}"])


def test_a_container_more_is_not_allowed_by_a_path_inside_one() -> None:
    before = deployment("d", "n")
    after = copy.deepcopy(before)
    after["spec"]["template"]["spec"]["containers"].append({"name": "miner", "image": "evil.test/x"})
    with pytest.raises(Refused, match="/spec/template/spec/containers of"):
        require_only(before, after, ["/spec/template/spec/containers/1/livenessProbe/httpGet/port"])


def test_true_is_not_one() -> None:
    before = deployment("d", "n")
    after = copy.deepcopy(before)
    before["spec"]["paused"], after["spec"]["paused"] = 1, True
    with pytest.raises(Refused, match="/spec/paused"):
        require_only(before, after, ["/spec/template"])


def test_a_manifests_secrets_are_masked() -> None:
    secret = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "djE="}, "stringData": {"p": "v2"}}
    shown = mask_manifest_object(secret)
    assert shown["data"] == {"k": "<masked>"}
    assert shown["stringData"] == {"p": "<masked>"}
    assert secret["data"] == {"k": "djE="}
