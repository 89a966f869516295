"""Capturing a namespace: what fails is named and costs nothing else, secrets stay behind; live on a cluster too."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from pathlib import Path

import pytest
from aiohttp import web

from diagnosis.workloads.diagnose import diagnose
from diagnosis.workloads.load import load_snapshot
from errors import NotFound
from incidents.models import ObjectRef
from settings import AlertmanagerSettings, KubernetesSettings, PrometheusSettings, load_settings
from tests.standins.kube_api import KubeApi
from tools.kubernetes.capture import capture
from tools.kubernetes.client import Cluster, ClusterUnreachable
from tools.prometheus.measure import monitoring

SNAPSHOTS = Path(__file__).parents[2] / "fixtures" / "snapshots"


def serve(api: KubeApi, name: str) -> str:
    """Put a captured case behind the stand-in; return its namespace."""
    namespace = str(json.loads((SNAPSHOTS / f"{name}.truth.json").read_text())["namespace"])
    api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for item in load_snapshot(SNAPSHOTS / name).items():
        if item["kind"] in ("Pod", "Event", "Deployment", "ReplicaSet", "Service", "ConfigMap"):
            api.put(item)
    return namespace


async def connect(api: KubeApi, folder: Path) -> Cluster:
    return await Cluster.connect(KubernetesSettings(kubeconfig=api.kubeconfig(folder), request_timeout=60))


async def test_a_captured_fault_is_diagnosed_as_from_files(tmp_path: Path) -> None:
    async with KubeApi() as api:
        namespace = serve(api, "missing_config_key")
        async with await connect(api, tmp_path) as cluster:
            snapshot = await capture(cluster, namespace)
    found = diagnose(snapshot, namespace=namespace)
    assert found.causes[0].cause_class.value == "missing_config_key"
    assert found.causes[0].facts["existing_keys"] == ["loglevel", "mode"]
    assert api.log == [], "a capture writes nothing"


async def test_measurements_are_read_beside_the_objects_and_a_server_that_is_gone_costs_only_them(
    tmp_path: Path,
) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        query = str((await request.post()).get("query", request.path))
        asked.append(query)
        item = {"metric": {"namespace": namespace, "pod": "p"}, "values": [[1.7e9, "5"]]}
        alert = {"labels": {"alertname": "A", "namespace": namespace}, "state": "firing"}
        data = {"resultType": "matrix", "result": [item] if "working_set" in query else [], "alerts": [alert]}
        return web.json_response({"status": "success", "data": data})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    prometheus = PrometheusSettings(url=f"http://127.0.0.1:{runner.addresses[0][1]}")
    async with KubeApi() as api:
        namespace = serve(api, "oom_killed")
        node = load_snapshot(SNAPSHOTS / "oom_killed").all("Node")[0]
        api.put(node)
        async with (
            await connect(api, tmp_path) as cluster,
            monitoring(prometheus, AlertmanagerSettings()) as servers,
        ):
            seen = await capture(cluster, namespace, monitoring=servers)
            await runner.cleanup()
            without = await capture(cluster, namespace, monitoring=servers)
    assert [series.last for series in seen.series.find("container_memory_working_set_bytes")] == [5.0]
    assert [alert.name for alert in seen.alerts] == ["A"]
    assert any(node["metadata"]["name"] in query for query in asked)
    assert [line for line in without.unseen if line not in seen.unseen] == [
        "measurements could not be read: Prometheus could not be asked: ConnectError"
    ]
    assert len(without.all("Pod")) == len(seen.all("Pod")) > 0


async def test_logs_of_the_clusters_own_pods_are_read_where_they_are_not_ready(tmp_path: Path) -> None:
    async with KubeApi() as api:
        namespace = serve(api, "service_healthy")
        pod = json.loads(json.dumps(load_snapshot(SNAPSHOTS / "service_healthy").all("Pod", namespace)[0]))
        for name, ready in (("coredns-bad", False), ("coredns-good", True)):
            pod["metadata"] = {"name": name, "namespace": "kube-system", "labels": {}, "uid": name}
            for status in pod["status"]["containerStatuses"]:
                status["ready"] = ready
            api.put(json.loads(json.dumps(pod)))
        async with await connect(api, tmp_path) as cluster:
            await capture(cluster, namespace)
    read = {line.rsplit("/", 2)[1] for line in api.requests if line.endswith("/log") and "/kube-system/" in line}
    assert read == {"coredns-bad"}


async def test_kinds_that_cannot_be_read_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    async with KubeApi() as api:
        namespace = serve(api, "oom_killed")
        api.forbidden_kinds = {"Deployment", "Service"}
        async with await connect(api, tmp_path) as cluster:
            snapshot = await capture(cluster, namespace)
    assert f"Deployment in {namespace} could not be read: not allowed" in snapshot.unseen
    assert any("PodDisruptionBudget" in line and "does not have it" in line for line in snapshot.unseen)
    found = diagnose(snapshot, namespace=namespace)
    assert found.causes[0].cause_class.value == "oom_killed"
    assert found.causes[0].object.kind == "Deployment", "named by the ReplicaSet's own reference"
    assert f"Deployment in {namespace} could not be read: not allowed" in found.unseen


async def test_values_of_secrets_and_config_maps_stay_behind(tmp_path: Path) -> None:
    async with KubeApi() as api:
        namespace = serve(api, "missing_config_key")
        pod = next(item for item in load_snapshot(SNAPSHOTS / "missing_config_key").items() if item["kind"] == "Pod")
        pod["spec"]["imagePullSecrets"] = [{"name": "pull"}, {"name": "gone"}]
        api.put(pod)
        meta = {"name": "pull", "namespace": namespace}
        api.put({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"auth": "aHVudGVyMg=="}})
        async with await connect(api, tmp_path) as cluster:
            snapshot = await capture(cluster, namespace)
    assert snapshot.get("Secret", namespace, "pull")["data"] == {"auth": ""}  # type: ignore[index]
    assert snapshot.lacks("Secret", namespace, "gone") is True
    assert snapshot.lacks("Secret", namespace, "other") is True, "the names were listed"
    assert snapshot.lacks("Secret", "elsewhere", "other") is None
    assert "aHVudGVyMg" not in json.dumps(snapshot.items())


async def test_an_older_version_is_asked_where_the_newer_one_is_unknown(tmp_path: Path) -> None:
    """The stand-in serves autoscalers in autoscaling/v1 alone; Gateway API kinds are in no older cluster."""
    async with KubeApi() as api:
        namespace = serve(api, "oom_killed")
        meta = {"name": "scaler", "namespace": namespace}
        api.put({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": meta, "spec": {}})
        async with await connect(api, tmp_path) as cluster:
            snapshot = await capture(cluster, namespace)
    scaler = snapshot.get("HorizontalPodAutoscaler", namespace, "scaler")
    assert scaler is not None and scaler["apiVersion"] == "autoscaling/v1"
    assert snapshot.lacks("HTTPRoute", namespace, "any") is True, "a server without the kind has none"
    assert not any("HTTPRoute" in line for line in snapshot.unseen)
    assert snapshot.focus == namespace


async def test_what_may_not_be_read_in_full_is_not_called_missing(tmp_path: Path) -> None:
    """The names of ConfigMaps are listed; the keys of one that a pod needs cannot be read."""
    async with KubeApi() as api:
        namespace = serve(api, "missing_config_key")
        name = next(item["metadata"]["name"] for item in api.objects.values() if item["kind"] == "ConfigMap")

        def forbid() -> None:
            api.forbidden_kinds.add("ConfigMap")

        api.before("GET", forbid, match=f"/configmaps/{name}")
        async with await connect(api, tmp_path) as cluster:
            snapshot = await capture(cluster, namespace)
    assert snapshot.lacks("ConfigMap", namespace, name) is None
    assert any(f"ConfigMap {namespace}/{name} could not be read: not allowed" in line for line in snapshot.unseen)


async def test_no_such_namespace_and_no_such_cluster(tmp_path: Path) -> None:
    async with KubeApi() as api, await connect(api, tmp_path) as cluster:
        with pytest.raises(NotFound, match="no namespace nowhere"):
            await capture(cluster, "nowhere")
    settings = KubernetesSettings(kubeconfig=api.kubeconfig(tmp_path), request_timeout=2)
    async with await Cluster.connect(settings) as cluster:
        with pytest.raises(ClusterUnreachable):
            await capture(cluster, "nowhere")


@pytest.mark.cluster
async def test_a_real_crash_loop_is_captured_with_its_previous_log() -> None:
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    namespace, name = f"cap-{secrets.token_hex(3)}", f"w{secrets.token_hex(3)}"
    labels = {f"l{secrets.token_hex(2)}": "x"}
    script = "echo 'FATAL: the ledger is locked'; sleep 1; exit 5"
    shell = {"image": "docker.io/local/busybox:1", "imagePullPolicy": "IfNotPresent"}
    containers = [
        {"name": "side", "command": ["sh", "-c", "exec sleep 10000"], **shell},
        {"name": "main", "command": ["sh", "-c", script], **shell},
    ]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers, "terminationGracePeriodSeconds": 1}}
    workload = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    target = ObjectRef(kind="Deployment", namespace=namespace, name=name)
    async with await Cluster.connect(load_settings().kubernetes) as cluster:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        await cluster.request("POST", "/api/v1/namespaces", body=json.dumps(space).encode())
        try:
            path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
            await cluster.request("POST", path, body=json.dumps(workload).encode())
            for _ in range(60):
                await asyncio.sleep(1)
                snapshot = await capture(cluster, namespace, target)
                if any(key[3] for key in snapshot.log_keys()):
                    break
        finally:
            await cluster.request("DELETE", f"/api/v1/namespaces/{namespace}")
    found = diagnose(snapshot, target=target)
    assert (found.causes[0].cause_class.value, found.causes[0].object.container) == ("application_error", "main")
    assert found.causes[0].facts["log_line"] == "FATAL: the ledger is locked"
