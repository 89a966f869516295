"""The Helm chart, rendered by helm itself: it lints, grants the least, and fits a restricted pod."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "deploy" / "chart"
HELM = shutil.which("helm")
pytestmark = pytest.mark.skipif(
    HELM is None, reason="helm is not installed; go install helm.sh/helm/v3/cmd/helm@latest puts it into GOBIN"
)

READING = {"get", "list", "watch"}
ACTING = {"actions": {"enabled": True, "namespaces": ["shop", "pay"]}}
Document = dict[str, Any]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times faster


def _helm(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HELM or "helm", *args], capture_output=True, text=True, timeout=60)


def _render(tmp_path: Path, values: Document | None = None, name: str = "pm", namespace: str = "ops") -> list[Document]:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values or {}))
    done = _helm("template", name, str(CHART), "--namespace", namespace, "-f", str(file))
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.load_all(done.stdout, LOADER) if document]


def _of(documents: list[Document], kind: str) -> list[Document]:
    return [document for document in documents if document["kind"] == kind]


def _grants(documents: list[Document]) -> set[tuple[str | None, str, str, str]]:
    """Everything granted, as (namespace or None for the cluster, API group, resource, verb)."""
    found = set()
    for role in _of(documents, "ClusterRole") + _of(documents, "Role"):
        where = role["metadata"].get("namespace")
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    found |= {(where, group, resource, verb) for verb in rule["verbs"]}
    return found


def _writes(documents: list[Document]) -> set[tuple[str | None, str, str, str]]:
    return {grant for grant in _grants(documents) if grant[3] not in READING}


def _env(documents: list[Document]) -> dict[str, str]:
    container = _of(documents, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]
    return {item["name"]: item["value"] for item in container["env"]}


def test_it_lints() -> None:
    done = _helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_write_is_granted_while_actions_are_off(tmp_path: Path) -> None:
    documents = _render(tmp_path)
    assert _writes(documents) == set()
    assert _of(documents, "Role") == []
    assert _env(documents)["PARAMEDIC_GATE__KILL_SWITCH"] == "true"


def test_namespaces_and_helm_mean_nothing_while_actions_are_off(tmp_path: Path) -> None:
    values = {"actions": {"enabled": False, "namespaces": ["shop"], "helm": True}}
    assert _writes(_render(tmp_path, values)) == set()


def test_actions_grant_what_the_gate_does_and_only_in_the_named_namespaces(tmp_path: Path) -> None:
    documents = _render(tmp_path, ACTING)
    expected = {
        (namespace, group, resource, verb)
        for namespace in ("shop", "pay")
        for group, resource, verb in (
            ("apps", "deployments", "patch"),
            ("apps", "statefulsets", "patch"),
            ("apps", "daemonsets", "patch"),
            ("batch", "cronjobs", "patch"),
            ("", "services", "patch"),
            ("", "pods", "delete"),
        )
    }
    assert _writes(documents) == expected
    assert json.loads(_env(documents)["PARAMEDIC_GATE__NAMESPACES"]) == ["shop", "pay"]
    assert "PARAMEDIC_GATE__KILL_SWITCH" not in _env(documents)  # the file's own still counts


def test_nodes_are_patched_only_where_that_is_switched_on_too(tmp_path: Path) -> None:
    actions = ACTING["actions"] | {"nodes": True}
    documents = _render(tmp_path, {"actions": actions})
    assert {grant for grant in _writes(documents) if grant[0] is None} == {(None, "", "nodes", "patch")}
    assert _env(documents)["PARAMEDIC_GATE__NODES"] == "true"
    assert _env(_render(tmp_path, ACTING))["PARAMEDIC_GATE__NODES"] == "false"
    assert _writes(_render(tmp_path, {"actions": actions | {"enabled": False}})) == set()


def test_helm_actions_reach_secrets_of_the_named_namespaces_only(tmp_path: Path) -> None:
    rule = {"apiGroups": [""], "resources": ["services"], "verbs": ["delete"]}
    values = {"actions": {"enabled": True, "namespaces": ["shop"], "helm": True, "helmRules": [rule]}}
    documents = _render(tmp_path, values)
    assert {where for where, *_ in _writes(documents)} == {"shop"}
    assert {verb for _, _, resource, verb in _writes(documents) if resource == "secrets"} == {
        *("create", "update", "delete")
    }
    assert ("shop", "", "services", "delete") in _writes(documents)


def test_secrets_are_read_only_on_request_and_never_listed_cluster_wide(tmp_path: Path) -> None:
    assert not any(resource == "secrets" for _, _, resource, _ in _grants(_render(tmp_path)))
    asked = _grants(_render(tmp_path, {"readSecrets": True}))
    assert {grant for grant in asked if grant[2] == "secrets"} == {(None, "", "secrets", "get")}


def test_no_rule_has_a_wildcard(tmp_path: Path) -> None:
    everything = {"readSecrets": True, "actions": {"enabled": True, "namespaces": ["shop"], "helm": True}}
    for grant in _grants(_render(tmp_path, everything)):
        assert "*" not in grant


def test_every_binding_names_this_service_account_and_nobody_else(tmp_path: Path) -> None:
    documents = _render(tmp_path, ACTING)
    account = _of(documents, "ServiceAccount")[0]["metadata"]
    for binding in _of(documents, "ClusterRoleBinding") + _of(documents, "RoleBinding"):
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
        ]


def test_the_pod_meets_the_restricted_pod_security_standard(tmp_path: Path) -> None:
    pod = _of(_render(tmp_path), "Deployment")[0]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert not any("hostPath" in volume for volume in pod["volumes"])
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_secrets_go_into_the_environment_not_the_configmap(tmp_path: Path) -> None:
    documents = _render(tmp_path, {"secrets": {"PARAMEDIC_LLM__API_KEY": "sk-hidden"}, "config": "language = 'zh'\n"})
    assert _of(documents, "Secret")[0]["stringData"] == {"PARAMEDIC_LLM__API_KEY": "sk-hidden"}
    assert "sk-hidden" not in json.dumps(_of(documents, "ConfigMap") + _of(documents, "Deployment"))
    assert _of(documents, "ConfigMap")[0]["data"]["paramedic.toml"] == "language = 'zh'\n"
    named = _render(tmp_path, {"secrets": {"PARAMEDIC_LLM__API_KEY": "sk-hidden"}, "existingSecret": "mine"})
    assert _of(named, "Secret") == []


@pytest.mark.parametrize(
    "values",
    [
        {"actions": {"enabled": True}},
        {"actions": {"enabled": True, "namespaces": ["*"]}},
        {"action": {"enabled": True}},
        {"secrets": {"PATH": "/evil"}},
        {"service": {"port": "eighty"}},
    ],
)
def test_values_that_mean_nothing_are_refused(tmp_path: Path, values: Document) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    assert _helm("template", "pm", str(CHART), "-f", str(file)).returncode != 0


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The chart's rights on the real cluster, under a name of their own: (acting namespace, other namespace)."""
    name = f"pm{secrets.token_hex(4)}"
    acting, other = f"{name}-act", f"{name}-other"
    documents = _render(tmp_path, {"actions": {"enabled": True, "namespaces": [acting]}}, name, other)
    rights = [item for item in documents if item["kind"].endswith(("Role", "RoleBinding", "ServiceAccount"))]
    cluster_wide = [item for item in rights if item["kind"].startswith("Cluster")]
    for namespace in (acting, other):
        assert _kubectl("create", "namespace", namespace).returncode == 0
    try:
        applied = _kubectl("apply", "-f", "-", text=yaml.safe_dump_all(rights))
        assert applied.returncode == 0, applied.stderr
        yield acting, other
    finally:
        _kubectl("delete", "--ignore-not-found", "-f", "-", text=yaml.safe_dump_all(cluster_wide))
        _kubectl("delete", "namespace", acting, other, "--wait=false")


def _kubectl(*args: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["kubectl", *args], input=text, capture_output=True, text=True, timeout=60)


@pytest.mark.cluster
def test_a_real_api_server_grants_exactly_that(installed: tuple[str, str]) -> None:
    acting, other = installed
    account = f"system:serviceaccount:{other}:{acting.removesuffix('-act')}-paramedic"

    def may(verb: str, resource: str, namespace: str) -> bool:
        asked = _kubectl("auth", "can-i", verb, resource, "-n", namespace, "--as", account)
        assert asked.stdout.strip() in ("yes", "no"), asked.stderr
        return asked.stdout.strip() == "yes"

    assert (
        may("list", "pods", other) and may("get", "pods/log", other) and may("list", "controllerrevisions.apps", other)
    )
    assert may("patch", "deployments.apps", acting) and may("delete", "pods", acting)
    assert not may("patch", "deployments.apps", other) and not may("delete", "pods", other)
    assert not may("get", "secrets", acting)
    for verb, resource in (
        ("create", "pods"),
        ("delete", "deployments.apps"),
        ("create", "pods/exec"),
        ("patch", "nodes"),
    ):
        assert not may(verb, resource, acting), f"{verb} {resource}"
