"""The chart as people get it: the product's image, installed by helm, its pods running; a crash becomes an incident."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e import manifests as make
from tests.e2e.build import CLUSTER, Images
from tests.e2e.collecting import DUMP, create_pod
from tests.e2e.cores import CoreFolder
from tests.e2e.harness import ROOT, run, until
from tests.e2e.harness import name as random_name
from tests.e2e.kube import Kube
from tests.e2e.stage import Stage
from tests.standins import s3

Object = dict[str, Any]
CHART = ROOT / "deploy" / "chart"
LAYERS = "/var/cache/debian-kube/run/containerd/io.containerd.snapshotter.v1.overlayfs"


@dataclass
class Release:
    """What helm installed, and how it is reached."""

    name: str
    namespace: str
    label: str
    kube: Kube
    stage: Stage
    http: httpx.Client
    bucket: Path

    def opted_in(self) -> str:
        """A namespace whose pods the webhook is asked about."""
        found = self.stage.namespace()
        headers = {"Content-Type": "application/merge-patch+json"}
        change = {"metadata": {"labels": {self.label: "on"}}}
        self.kube.call("PATCH", f"api/v1/namespaces/{found}", json=change, headers=headers)
        return found

    def ask(self, path: str) -> Object:
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text[:500]
        found: Object = answer.json()
        return found

    def pods(self) -> list[tuple[str, str]]:
        found = self.kube.all("Pod", self.namespace)
        return [(pod["metadata"]["name"], json.dumps(pod["status"].get("containerStatuses"))[:1000]) for pod in found]


@pytest.fixture(scope="module")
def release(kube: Kube, stage: Stage, cores: CoreFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    if (reason := s3.missing()) is not None:
        pytest.skip(reason)
    if run(CLUSTER, "which").strip() != "native":
        pytest.skip("the image is made of this machine's files, and its pods reach a store on this machine")
    folder = tmp_path_factory.mktemp("chart")
    image = run(CLUSTER.with_name("product"), timeout=400).strip()
    (node,) = kube.call("GET", "api/v1/nodes")["items"]
    address = next(one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP")
    server = s3.S3Server(folder / "s3", host=address).start()
    name, label, key = f"e2e-{secrets.token_hex(3)}", f"paramedic-{secrets.token_hex(4)}", secrets.token_urlsafe(24)
    namespace = stage.namespace()
    store = {"url": f"s3://{s3.BUCKET}", "endpoint": server.endpoint, "allow_http": True}
    config = [
        "[store]",
        *(f"{setting} = {json.dumps(value)}" for setting, value in store.items()),
        "[collector]",
        "settle_seconds = 5",
        "grace_seconds = 5",
        f'image_layers = ["{LAYERS}/snapshots/*/fs"]',
        "[[api.keys]]",
        'name = "agent"',
        f'sha256 = "{hashlib.sha256(key.encode()).hexdigest()}"',
        'scopes = ["read", "autofix"]',
    ]
    # there is no DNS in this cluster; the kubelet knows the service by its environment variables
    variables = name.upper().replace("-", "_") + "_PARAMEDIC_SERVICE"
    of_the_store = {"PARAMEDIC_STORE__ACCESS_KEY": s3.ACCESS, "PARAMEDIC_STORE__SECRET_KEY": s3.SECRET}
    values = {
        "image": {"repository": image.rpartition(":")[0], "tag": image.rpartition(":")[2]},
        "config": "\n".join(config) + "\n",
        "secrets": of_the_store,
        "persistence": {"enabled": False},
        "cores": {"folder": f"{cores.on_node}/{name}", "mountPath": "/cores"},
        "agent": {
            "enabled": True,
            "nodeSetup": True,  # the pattern that this run has set already
            "tellNode": True,
            "serviceUrl": f"http://$({variables}_HOST):$({variables}_PORT)/api/v1/events",
            "secrets": {**of_the_store, "PARAMEDIC_COLLECTOR__SERVICE_KEY": key},
            "imageLayers": LAYERS,
        },
        "webhook": {"enabled": True, "replicas": 1, "namespaceSelector": {"matchLabels": {label: "on"}}},
    }
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    try:
        helm(kube, "install", name, CHART, "-n", namespace, "-f", folder / "values.yaml", "--wait", "--timeout", "150s")
        service = kube.call("GET", f"api/v1/namespaces/{namespace}/services/{name}-paramedic")
        url = f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False) as http:
            yield Release(name, namespace, label, kube, stage, http, server.folder / s3.BUCKET)
    finally:
        helm(kube, "uninstall", name, "-n", namespace, check=False)
        server.kill()


def test_a_crash_becomes_an_incident_with_its_core_in_the_store(release: Release, images: Images) -> None:
    namespace, name, container = release.opted_in(), random_name(), random_name()
    pod = make.template(make.labels(), [*make.companions(1), make.container(container, images.quotes_next, DUMP)])
    pod["metadata"]["annotations"] = {"paramedic.io/inject": "true"}
    release.kube.create(namespace, make.deployment(name, pod))
    incident = until(
        lambda: next(iter(release.ask(f"/api/v1/incidents?namespace={namespace}")["incidents"]), None),
        90,
        "an incident",
        show=lambda: logs(release),
    )
    assert (incident["target"]["kind"], incident["target"]["name"]) == ("Deployment", name)

    def crash() -> Object | None:
        found: Object | None = (release.ask(f"/api/v1/incidents/{incident['id']}").get("diagnosis") or {}).get("crash")
        return found

    report = until(crash, 90, "its report", show=lambda: release.ask(f"/api/v1/incidents/{incident['id']}"))
    assert "Exchange::quote" in json.dumps(report["threads"][0]["frames"][:3]), "the agent stored the program too"
    stored = {path.name.split(".", 1)[1] for path in release.bucket.glob(f"paramedic/{namespace}/{name}/*/*")}
    assert stored == {"core.zst", "json"}


def test_a_crash_without_a_core_is_an_incident_that_says_why(release: Release, images: Images) -> None:
    namespace, name = release.opted_in(), random_name()
    pod = make.template(make.labels(), [make.container(random_name(), images.quotes_next, DUMP)])
    release.kube.create(namespace, make.deployment(name, pod))  # without the annotation
    incident = until(
        lambda: next(iter(release.ask(f"/api/v1/incidents?namespace={namespace}")["incidents"]), None),
        90,
        "an incident",
        show=lambda: logs(release),
    )
    assert (incident["target"]["kind"], incident["target"]["name"]) == ("Deployment", name)
    assert "left no core" in incident["event"] and "paramedic.io/inject" in incident["event"]


def test_the_agents_pod_says_what_the_node_does_with_cores(release: Release) -> None:
    agent = f"daemonset/{release.name}-paramedic-agent"
    command = ["kubectl", "-n", release.namespace, "exec", agent, "-c", "agent", "--", "paramedic", "node", "check"]
    said = run(*command, env={**os.environ, "KUBECONFIG": str(release.kube.kubeconfig)}, check=False)
    assert re.search(r"^ok +kernel.core_pattern: /cores/core", said, re.MULTILINE), said
    assert re.search(r"^ok +folder of cores", said, re.MULTILINE), said


def test_a_webhook_whose_pods_are_gone_blocks_no_pod(release: Release) -> None:
    namespace = release.opted_in()
    template = make.template(make.labels(), make.companions(1))
    template["metadata"]["annotations"] = {"paramedic.io/inject": "true"}
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    first = copy.deepcopy(pod)
    first["metadata"]["name"] = random_name()
    assert "paramedic-cores" in json.dumps(create_pod(release.kube, namespace, first)["spec"])
    webhook = f"{release.name}-paramedic-webhook"
    release.kube.patch("Deployment", release.namespace, webhook, {"spec": {"replicas": 0}})
    until(lambda: not release.kube.statuses(release.namespace, "webhook"), 60, "no webhook", show=release.pods)
    pod["metadata"]["name"] = random_name()
    assert "paramedic-cores" not in json.dumps(create_pod(release.kube, namespace, pod)["spec"])


def test_uninstalled_it_leaves_nothing_that_acts(release: Release) -> None:
    tls = f"{release.name}-paramedic-webhook-tls"
    made = release.kube.get("Secret", release.namespace, tls)["data"]
    assert made.keys() == {"ca.crt", "tls.crt", "tls.key"}
    helm(release.kube, "upgrade", release.name, CHART, "-n", release.namespace, "--reuse-values")
    assert release.kube.get("Secret", release.namespace, tls)["data"] == made, "an upgrade keeps the certificate"
    helm(release.kube, "uninstall", release.name, "-n", release.namespace)
    assert release.kube.find("Secret", release.namespace, tls) is None
    until(lambda: not release.pods(), 150, "its pods gone", show=release.pods)
    for path in (
        "apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
        "apis/rbac.authorization.k8s.io/v1/clusterroles",
        "apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        f"apis/batch/v1/namespaces/{release.namespace}/jobs",
    ):
        left = [item["metadata"]["name"] for item in release.kube.call("GET", path)["items"]]
        assert not [name for name in left if release.name in name], path


def helm(kube: Kube, *arguments: str | Path, check: bool = True) -> str:
    return run("helm", *arguments, env={**os.environ, "KUBECONFIG": str(kube.kubeconfig)}, timeout=200, check=check)


def logs(release: Release) -> list[tuple[str, str]]:
    found = []
    for pod in release.kube.all("Pod", release.namespace):
        for item in pod["spec"]["containers"]:
            name = pod["metadata"]["name"]
            found.append((name, release.kube.log(release.namespace, name, item["name"])[-2000:]))
    return found
