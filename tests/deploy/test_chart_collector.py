"""The chart's node agent and admission webhook, rendered by helm itself: they get what they need and no more."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from settings import Settings, load_settings

CHART = Path(__file__).parents[2] / "deploy" / "chart"
HELM = shutil.which("helm")
pytestmark = pytest.mark.skipif(
    HELM is None, reason="helm is not installed; go install helm.sh/helm/v3/cmd/helm@latest puts it into GOBIN"
)
ALL: dict[str, Any] = {
    "agent": {"enabled": True, "nodeSetup": True, "secrets": {"PARAMEDIC_COLLECTOR__SERVICE_KEY": "pk-hidden"}},
    "webhook": {"enabled": True},
    "networkPolicy": {"enabled": True, "from": [{"namespaceSelector": {}}]},
}
Document = dict[str, Any]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times faster


def _helm(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HELM or "helm", *args], capture_output=True, text=True, timeout=60)


@cache
def _rendered(values: str, *args: str) -> str:
    command = [HELM or "helm", "template", "pm", str(CHART), "--namespace", "ops", "-f", "-", *args]
    done = subprocess.run(command, input=values, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _render(values: Document, *args: str) -> list[Document]:
    return [document for document in yaml.load_all(_rendered(yaml.safe_dump(values), *args), LOADER) if document]


def _one(documents: list[Document], kind: str, end: str) -> Document:
    [found] = [item for item in documents if item["kind"] == kind and item["metadata"]["name"].endswith(end)]
    return found


def _rules(role: Document) -> set[tuple[str, str, str, str]]:
    """(group, resource, verb, name or empty) of a role."""
    return {
        (group, resource, verb, name)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


def _settings(container: Document, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the program itself reads from the container's environment: a name that it does not know is an error."""
    for item in container["env"]:
        if item["name"].startswith("PARAMEDIC_") and item["name"] != "PARAMEDIC_CONFIG":
            monkeypatch.setenv(item["name"], item.get("value", "node-1"))
    return load_settings()


def _pods(documents: list[Document]) -> list[Document]:
    found = []
    for document in documents:
        spec = document.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            found.append(spec["template"])
    return found


def test_nothing_of_them_is_there_until_asked_for() -> None:
    kinds = {document["kind"] for document in _render({})}
    assert not kinds & {"DaemonSet", "MutatingWebhookConfiguration", "Job", "CronJob", "Role"}


def test_all_of_it_lints(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(ALL))
    done = _helm("lint", "--strict", str(CHART), "-f", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("version", "api"), [("1.20.0", "batch/v1beta1"), ("1.25.0", "batch/v1"), ("1.33.0", "batch/v1")]
)
def test_every_kubernetes_gets_an_api_it_has(version: str, api: str) -> None:
    documents = _render(ALL, "--kube-version", version)
    assert _one(documents, "CronJob", "")["apiVersion"] == api


def test_an_older_kubernetes_is_refused() -> None:
    assert "kubeVersion" in _helm("template", "pm", str(CHART), "--kube-version", "1.19.0").stderr


def test_the_agent_has_three_capabilities_and_is_not_privileged() -> None:
    pod = _one(_render(ALL), "DaemonSet", "-agent")["spec"]["template"]["spec"]
    [agent] = pod["containers"]
    assert agent["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["DAC_READ_SEARCH", "FOWNER", "SYS_PTRACE"]},
    }
    assert pod["hostPID"] is True and not {"hostNetwork", "hostIPC"} & set(pod)
    [setup] = pod["initContainers"]
    assert setup["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_what_of_the_node_the_agent_sees() -> None:
    pod = _one(_render(ALL), "DaemonSet", "-agent")["spec"]["template"]["spec"]
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    writable = {
        (container["name"], paths[mount["name"]])
        for container in pod["containers"] + pod["initContainers"]
        for mount in container["volumeMounts"]
        if mount["name"] in paths and not mount.get("readOnly")
    }
    assert writable == {
        ("agent", "/var/lib/paramedic"),
        ("node-setup", "/var/lib/paramedic"),
        ("node-setup", "/proc/sys/kernel/core_pattern"),
    }
    assert set(paths.values()) - {path for _, path in writable} == {
        "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"
    }
    for mount in pod["containers"][0]["volumeMounts"]:  # links between two mounts are impossible: one mount, one path
        if mount["name"] in ("node", "image-layers"):
            assert mount["mountPath"] == paths[mount["name"]]
    without = _render({"agent": {"enabled": True, "imageLayers": ""}})
    pod = _one(without, "DaemonSet", "-agent")["spec"]["template"]["spec"]
    assert [volume["name"] for volume in pod["volumes"]] == ["node", "tmp", "configuration"]
    assert "initContainers" not in pod


def test_the_agent_reads_pods_and_their_owners_only() -> None:
    documents = _render(ALL)
    assert _rules(_one(documents, "ClusterRole", "-agent")) == {
        ("", "pods", "get", ""),
        ("", "pods", "list", ""),
        ("apps", "replicasets", "get", ""),
        ("batch", "jobs", "get", ""),
    }
    assert _rules(_one(documents, "ClusterRole", "-webhook")) == {
        ("", "nodes", "list", ""),
        ("", "pods", "list", ""),
        ("", "namespaces", "get", ""),
    }


def test_the_certificates_job_writes_one_secret_and_one_configuration() -> None:
    documents = _render(ALL)
    [configuration] = [item for item in documents if item["kind"] == "MutatingWebhookConfiguration"]
    name = configuration["metadata"]["name"]
    secret = "pm-paramedic-webhook-tls"
    assert _rules(_one(documents, "Role", "-certificate")) == {
        ("", "secrets", "get", secret),
        ("", "secrets", "patch", secret),
    }
    [empty] = [item for item in documents if item["kind"] == "Secret" and item["metadata"]["name"] == secret]
    assert not {"data", "stringData"} & set(empty), "an upgrade would put it back"
    assert _rules(_one(documents, "ClusterRole", "-certificate")) == {
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", verb, name) for verb in ("get", "patch")
    }
    service = _one(documents, "Service", "-webhook")["metadata"]["name"]
    jobs = [pod for pod in _pods(documents) if pod["spec"]["serviceAccountName"].endswith("-certificate")]
    assert len(jobs) == 2
    for pod in jobs:
        assert pod["spec"]["containers"][0]["args"] == [
            *("webhook", "certificate", f"--service={service}", "--namespace=ops"),
            *(f"--secret={secret}", f"--configuration={name}"),
        ]
    volumes = _one(documents, "Deployment", "-webhook")["spec"]["template"]["spec"]["volumes"]
    assert [volume["secret"]["secretName"] for volume in volumes if "secret" in volume] == [secret]


def test_every_binding_is_of_its_own_account_and_role() -> None:
    documents = _render(ALL)
    for binding in documents:
        if binding["kind"].endswith("RoleBinding"):
            [subject] = binding["subjects"]
            expected = binding["roleRef"]["name"].removesuffix("-read")
            assert (subject["kind"], subject["name"], subject["namespace"]) == ("ServiceAccount", expected, "ops")
            assert _one(documents, "ServiceAccount", subject["name"])["metadata"]["name"] == subject["name"]


def test_the_webhook_stands_in_no_pods_way() -> None:
    [configuration] = [item for item in _render(ALL) if item["kind"] == "MutatingWebhookConfiguration"]
    [hook] = configuration["webhooks"]
    assert (hook["failurePolicy"], hook["timeoutSeconds"], hook["sideEffects"]) == ("Ignore", 5, "None")
    assert hook["admissionReviewVersions"] == ["v1"]
    assert [(rule["resources"], rule["operations"]) for rule in hook["rules"]] == [(["pods"], ["CREATE"])]


def test_webhook_and_certificate_pods_are_restricted() -> None:
    pods = [pod["spec"] for pod in _pods(_render(ALL)) if not pod["spec"].get("hostPID")]
    assert len(pods) == 4
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not any("hostPath" in volume for volume in pod["volumes"])
        assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_each_service_and_policy_chooses_the_pods_of_its_own_part() -> None:
    documents = _render(ALL)
    pods = [pod["metadata"]["labels"] for pod in _pods(documents)]

    def chosen(selector: Document) -> int:
        return sum(selector.items() <= labels.items() for labels in pods)

    for service in (item for item in documents if item["kind"] == "Service"):
        assert chosen(service["spec"]["selector"]) == 1, service["metadata"]["name"]
    policies = [item for item in documents if item["kind"] == "NetworkPolicy"]
    assert len(policies) == 3
    for policy in policies:
        assert chosen(policy["spec"]["podSelector"]["matchLabels"]) == 1
    agent = _one(documents, "DaemonSet", "-agent")["spec"]["selector"]
    assert {"podSelector": agent} in _one(documents, "NetworkPolicy", "pm-paramedic")["spec"]["ingress"][0]["from"]


def test_agent_and_webhook_mean_the_same_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    values = ALL | {"cores": {"folder": "/data/pm", "mountPath": "/dumps"}}
    documents = _render(values)
    daemon = _one(documents, "DaemonSet", "-agent")["spec"]["template"]["spec"]
    setup = _settings(daemon["initContainers"][0], monkeypatch)
    assert setup.collector.proc == Path("/host/proc")
    monkeypatch.undo()
    agent = _settings(daemon["containers"][0], monkeypatch)
    deployment = _one(documents, "Deployment", "-webhook")["spec"]["template"]["spec"]
    webhook = _settings(deployment["containers"][0], monkeypatch).webhook
    assert agent.collector.roots == [webhook.node_folder] == [setup.webhook.node_folder] == [Path("/data/pm/cores")]
    assert setup.webhook.mount_path == webhook.mount_path == "/dumps"
    assert agent.collector.proc == Path("/proc")
    assert agent.collector.service_url == "http://pm-paramedic.ops.svc:80/api/v1/events"
    assert agent.collector.metrics_port == daemon["containers"][0]["ports"][0]["containerPort"]
    assert setup.data_dir == agent.data_dir == Path("/data/pm/agent")


def test_the_agents_secrets_are_its_own() -> None:
    documents = _render(ALL | {"secrets": {"PARAMEDIC_LLM__API_KEY": "sk-hidden"}})
    agent = _one(documents, "DaemonSet", "-agent")["spec"]["template"]["spec"]["containers"][0]
    assert agent["envFrom"] == [{"secretRef": {"name": "pm-paramedic-agent"}}]
    assert _one(documents, "Secret", "-agent")["stringData"] == ALL["agent"]["secrets"]
    assert "envFrom" not in _one(documents, "Deployment", "-webhook")["spec"]["template"]["spec"]["containers"][0]
    rest = [document for document in documents if document["kind"] != "Secret"]
    assert "hidden" not in json.dumps(rest)


def test_cert_manager_takes_the_jobs_place() -> None:
    documents = _render(ALL | {"webhook": {"enabled": True, "certManager": {"enabled": True}}})
    assert not {document["kind"] for document in documents} & {"Job", "CronJob", "Role"}
    certificate = _one(documents, "Certificate", "-webhook")
    [configuration] = [item for item in documents if item["kind"] == "MutatingWebhookConfiguration"]
    reference = configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
    assert reference == f"ops/{certificate['metadata']['name']}"
    service = _one(documents, "Service", "-webhook")["metadata"]["name"]
    assert f"{service}.ops.svc" in certificate["spec"]["dnsNames"]
    assert certificate["spec"]["issuerRef"]["name"] == _one(documents, "Issuer", "")["metadata"]["name"]
    secret = _one(documents, "Secret", "-webhook-tls")  # the chart's, so that it goes with the release
    assert secret["metadata"]["name"] == certificate["spec"]["secretName"] and not {"data", "stringData"} & set(secret)


@pytest.mark.parametrize(
    "values",
    [
        {"agent": {"privileged": True}},
        {"agent": {"extraCapabilities": ["SYS_ADMIN"]}},
        {"agent": {"serviceUrl": "ftp://x"}},
        {"agent": {"secrets": {"PATH": "/evil"}}},
        {"cores": {"folder": "/"}},
        {"cores": {"folder": "/var/../etc"}},
        {"cores": {"mountPath": "corefile"}},
        {"webhook": {"replicas": 0}},
        {"webhook": {"renewal": "daily"}},
        {"webhook": {"failurePolicy": "Fail"}},
    ],
)
def test_values_that_mean_nothing_are_refused(tmp_path: Path, values: Document) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    assert _helm("template", "pm", str(CHART), "-f", str(file)).returncode != 0


def test_every_value_is_in_the_schema() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())

    def check(value: object, known: Document, path: str) -> None:
        if isinstance(value, dict) and "properties" in known:
            assert known["additionalProperties"] is False, path
            for key in value:
                assert key in known["properties"], f"{path}.{key}"
                check(value[key], known["properties"][key], f"{path}.{key}")

    check(values, schema, "")
    told = (CHART / "values.yaml").read_text()
    for capability in ("DAC_READ_SEARCH", "FOWNER", "SYS_PTRACE", "DAC_OVERRIDE"):
        assert re.search(rf"#.*{capability}", told)


@pytest.mark.cluster
def test_a_real_api_server_takes_all_of_it(tmp_path: Path) -> None:
    """In one go: everything that the chart makes by itself, and the same with what others make or give."""
    given: Document = {
        "webhook": {
            "enabled": True,
            "certManager": {"enabled": True},
            "namespaceSelector": {"matchLabels": {"a": "b"}},
        },
        "agent": {"enabled": True, "existingSecret": "keys", "tellNode": True, "extraCapabilities": ["DAC_OVERRIDE"]},
        "actions": {"enabled": True, "namespaces": ["default"], "nodes": True, "helm": True},
        "persistence": {"enabled": True, "size": "1Gi", "storageClass": "fast"},
        "existingSecret": "keys",
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"disk": "large"},
        "tolerations": [{"operator": "Exists"}],
        "readSecrets": True,
    }
    documents = []
    for values in (ALL, given):
        name = f"pm{secrets.token_hex(4)}"
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        done = _helm(
            "template", name, str(CHART), "--namespace", "default", "-f", str(file), "--kube-version", "1.20.0"
        )
        assert done.returncode == 0, done.stderr
        documents += [item for item in yaml.load_all(done.stdout, LOADER) if item]
    theirs = [item for item in documents if item["apiVersion"].startswith("cert-manager.io/")]
    assert {item["kind"] for item in theirs} == {"Issuer", "Certificate"}
    kinds = {item["kind"] for item in documents}
    assert kinds >= {"PersistentVolumeClaim", "NetworkPolicy", "CronJob", "DaemonSet", "MutatingWebhookConfiguration"}
    applied = subprocess.run(
        ["kubectl", "apply", "--dry-run=server", "-f", "-"],
        input=yaml.safe_dump_all([item for item in documents if item not in theirs]),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert applied.returncode == 0, applied.stderr
