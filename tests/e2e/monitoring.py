"""Debian's Prometheus and node_exporter and a real kube-state-metrics as processes beside a cluster: the kubelets'
cAdvisor and /metrics/resource and the pods are scraped through the API server."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.harness import until
from tests.e2e.kube import Kube
from tests.standins.prometheus_server import free_port

SCRAPE = 5
"""Seconds."""
_PODS = "pods.json"
_PODS_ENDS = "^(veth.*|cali.*|lxc.*)$"
_OF_CLUSTERS = (
    f"--collector.netclass.ignored-devices={_PODS_ENDS}",
    f"--collector.netdev.device-exclude={_PODS_ENDS}",
    "--collector.filesystem.mount-points-exclude=^/(dev|proc|sys|run)($|/)|/kubelet/pods/",
)
"""As clusters run node_exporter: with each pod's network and volumes it would tell hundreds of series more."""
_RESOURCES = "pods,deployments,replicasets,statefulsets,daemonsets,jobs,nodes"
Object = dict[str, Any]


def program(name: str) -> str:
    """Where it is; a skip, or a failure where the cluster's tests are required, that names it."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not on PATH; .ci/run shows how it comes there"
        if os.environ.get("PARAMEDIC_REQUIRE_CLUSTER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def monitoring(folder: Path, kube: Kube, namespaces: Sequence[str]) -> Iterator[str]:
    """The URL of a Prometheus that scrapes the cluster; of pods and objects, those of the namespaces."""
    prometheus, state_metrics = program("prometheus"), program("kube-state-metrics")
    node_exporter = program("prometheus-node-exporter")
    port, state_port, own_port, node_port = free_port(), free_port(), free_port(), free_port()
    server, files = _credentials(folder, kube.kubeconfig)
    nodes = kube.call("GET", "api/v1/nodes")["items"]
    names = [node["metadata"]["name"] for node in nodes]
    config = _config(folder, server, files, names, f"127.0.0.1:{state_port}")
    config["scrape_configs"].append(_of_machine(nodes[0], node_port))
    (folder / "prometheus.yml").write_text(json.dumps(config))
    commands = [
        [state_metrics, f"--kubeconfig={kube.kubeconfig}", "--host=127.0.0.1", f"--port={state_port}",
         "--telemetry-host=127.0.0.1", f"--telemetry-port={own_port}", f"--resources={_RESOURCES}",
         f"--namespaces={','.join(namespaces)}"],
        [prometheus, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"],
        [node_exporter, *_OF_CLUSTERS, f"--web.listen-address=127.0.0.1:{node_port}", "--log.level=error"],
    ]  # fmt: skip
    stop, processes = threading.Event(), []
    discovery = threading.Thread(target=_discover, args=(stop, kube, folder, server, namespaces))
    discovery.start()
    try:
        for command in commands:
            with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
                processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        for url in (f"http://127.0.0.1:{state_port}/healthz", f"http://127.0.0.1:{port}/-/ready"):
            until(lambda url=url: _answers(url), 60, url)  # type: ignore[misc]
        yield f"http://127.0.0.1:{port}"
    finally:
        stop.set()
        discovery.join()
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)


def ask(url: str, query: str) -> list[Object]:
    """The results of an instant query."""
    answer = httpx.get(f"{url}/api/v1/query", params={"query": query}, timeout=30, trust_env=False)
    answer.raise_for_status()
    found: list[Object] = answer.json()["data"]["result"]
    return found


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _credentials(folder: Path, kubeconfig: Path) -> tuple[str, Object]:
    """The API server's host:port, and the section tls_config with the kubeconfig's certificates as files."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    parts = {
        "ca_file": cluster["certificate-authority-data"],
        "cert_file": user["client-certificate-data"],
        "key_file": user["client-key-data"],
    }
    for name, data in parts.items():
        (folder / name).write_bytes(base64.b64decode(data))
    return cluster["server"].removeprefix("https://"), {name: str(folder / name) for name in parts}


def _config(folder: Path, server: str, tls: Object, nodes: Sequence[str], state_metrics: str) -> Object:
    def through(name: str, **more: object) -> Object:
        return {"job_name": name, "scheme": "https", "tls_config": tls, **more}

    def of_nodes(name: str, path: str) -> Object:
        targets = [
            {
                "targets": [server],
                "labels": {"__metrics_path__": f"/api/v1/nodes/{node}/proxy/{path}", "instance": node},
            }
            for node in nodes
        ]
        return through(name, static_configs=targets)

    return {
        "global": {"scrape_interval": f"{SCRAPE}s", "scrape_timeout": f"{SCRAPE}s"},
        "scrape_configs": [
            of_nodes("kubernetes-cadvisor", "metrics/cadvisor"),
            of_nodes("kubernetes-resource", "metrics/resource"),
            through("kubernetes-pods", file_sd_configs=[{"files": [str(folder / _PODS)], "refresh_interval": "10s"}]),
            {"job_name": "kube-state-metrics", "honor_labels": True, "static_configs": [{"targets": [state_metrics]}]},
        ],
    }


def _of_machine(node: Object, port: int) -> Object:
    """The job of the machine's node_exporter. Its target is called as where it runs on each node: by the node's address
    and the usual port, not by the node's name."""
    addresses = {item["type"]: item["address"] for item in node["status"]["addresses"]}
    labels = {"instance": f"{addresses['InternalIP']}:9100"}
    return {"job_name": "node-exporter", "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": labels}]}


def _pods(kube: Kube, server: str, namespaces: Sequence[str]) -> list[Object]:
    """Running pods with a port that is named http."""
    found = []
    for namespace in namespaces:
        for pod in kube.all("Pod", namespace):
            name = pod["metadata"]["name"]
            if pod["status"].get("phase") != "Running" or pod["metadata"].get("deletionTimestamp"):
                continue
            for container in pod["spec"]["containers"]:
                for port in container.get("ports", []):
                    if port.get("name") != "http":
                        continue
                    path = f"/api/v1/namespaces/{namespace}/pods/{name}:{port['containerPort']}/proxy/metrics"
                    labels = {"namespace": namespace, "pod": name, "container": container["name"], "instance": name}
                    found.append({"targets": [server], "labels": {"__metrics_path__": path, **labels}})
    return found


def _discover(stop: threading.Event, kube: Kube, folder: Path, server: str, namespaces: Sequence[str]) -> None:
    """Keep the file of the pods to scrape: Debian's Prometheus has no discovery of Kubernetes built in."""
    known: list[Object] | None = None
    while not stop.wait(0 if known is None else 1):
        pods = _pods(kube, server, namespaces)
        if pods != known:
            new = folder / f"new-{_PODS}"
            new.write_text(json.dumps(pods))
            new.rename(folder / _PODS)
            known = pods
