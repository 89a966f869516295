"""`GET /api/v1/instances` over a real cluster client and the API stand-in, and the command that prints it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from incidents.database import utcnow
from incidents.models import ObjectRef
from incidents.storms import Crash, StormStore
from settings import KubernetesSettings
from tests.standins.kube_api import KubeApi
from tests.standins.parts import Parts, Served
from tools.kubernetes.client import Cluster


def pod(name: str, instance: str, namespace: str = "db") -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "milvus", "app.kubernetes.io/instance": instance}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": "n1", "containers": [{"name": "milvus", "image": "milvusdb/milvus:v2.4.1"}]},
        "status": {"containerStatuses": [{"name": "milvus", "ready": True, "restartCount": 4}]},
    }


async def test_instances_with_pods_versions_restarts_and_crashes(service: Served, parts: Parts, tmp_path: Path) -> None:
    assert (await service.client.get("/api/v1/instances")).status_code == 503, "without a cluster"
    async with KubeApi() as api:
        for item in (pod("a", "blue"), pod("b", "blue"), pod("c", "green"), pod("d", "blue", "other")):
            api.put(item)
        kube = KubernetesSettings(kubeconfig=api.kubeconfig(tmp_path), request_timeout=60.0)
        async with await Cluster.connect(kube) as cluster:
            parts.cluster = cluster
            parts.storms = StormStore(parts.database)  # type: ignore[attr-defined]
            workload = ObjectRef(kind="Pod", namespace="db", name="a")
            crash = Crash(
                id="1", at=utcnow(), instance="db/milvus-helm/blue", workload=workload, pod="a", ending="exit_code"
            )
            await parts.storms.add([crash, crash])  # type: ignore[attr-defined]
            answer = (await service.client.get("/api/v1/instances?namespace=db")).json()
            assert [(one["name"], one["crashes"], one["restarts"]) for one in answer["instances"]] == [
                ("blue", 1, 8),
                ("green", 0, 4),
            ]
            assert answer["instances"][0]["versions"] == ["v2.4.1"]
            assert answer["instances"][0]["pods"][0]["node"] == "n1"
            everywhere = (await service.client.get("/api/v1/instances")).json()["instances"]
            assert len(everywhere) == 3
            for wrong in ("../x", "A", "a" * 64, ""):
                refused = await service.client.get("/api/v1/instances", params={"namespace": wrong})
                assert refused.status_code == 422, wrong
            printed = await _command(service.url, "instances", "-n", "db")
            assert "db/blue  milvus-helm  v2.4.1  2/2 ready  8 restarts" in printed
            document = json.loads(await _command(service.url, "instances", "--json"))
            assert document["instances"] == everywhere


async def _command(url: str, *arguments: str) -> str:
    cli = Path(__file__).parents[2] / "cli.py"
    env = {**os.environ, "PARAMEDIC_URL": url}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(cli), *arguments, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, error.decode()
    return out.decode()
