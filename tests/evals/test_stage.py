"""Nothing is left on the cluster, whatever ends a run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from evals.scenario import MADE_UP, Source
from evals.stage import LABEL, OWN, Stage, sweep
from tools.kubernetes.client import Cluster, KubernetesError

Object = dict[str, Any]
KINDS = {"Namespace": "namespaces", "ConfigMap": "configmaps", "PersistentVolume": "persistentvolumes"}
SCENARIO = """
title: A volume and a finalizer
group: controllers
target: ConfigMap/<<held>>
truth: {class: finalizer_stuck, object: ConfigMap/<<held>>}
shows: [{exists: ConfigMap/never}]
remedy: person
"""
MANIFESTS = """
kind: PersistentVolume
metadata: {name: <<disk>>}
---
kind: ConfigMap
metadata: {name: <<held>>, finalizers: [example.com/hold]}
"""


class Server:
    """Takes every write, knows the default account and finished distractors, and remembers what it was asked."""

    def __init__(self, refuse: str = "") -> None:
        self.seen: list[tuple[str, str, bytes]] = []
        self.items: list[Object] = []
        self._refuse = refuse

    async def path(self, version: str, kind: str, namespace: str | None, name: str | None = None) -> str:
        where = f"/{namespace}" if namespace else ""
        return f"{where}/{KINDS.get(kind, kind.lower())}" + (f"/{name}" if name else "")

    async def request(self, method: str, path: str, *, body: bytes = b"", **_: Any) -> Object:
        self.seen.append((method, path, body))
        if self._refuse and self._refuse in path and method == "POST":
            raise KubernetesError(403, "Forbidden", "no", path)
        if method != "GET":
            return {}
        if path.endswith("/never"):
            raise KubernetesError(404, "NotFound", "no", path)
        if "/deployment/" in path or "/job/" in path:
            done = {"observedGeneration": 1, "updatedReplicas": 1, "readyReplicas": 1, "replicas": 1}
            complete = [{"type": "Complete", "status": "True"}]
            return {"metadata": {"generation": 1}, "spec": {"replicas": 1}, "status": {**done, "conditions": complete}}
        return {"items": self.items, "metadata": {}}

    def asked(self, method: str) -> list[str]:
        return [path for seen, path, _ in self.seen if seen == method]


def _stage(tmp_path: Path, server: Server) -> Stage:
    (tmp_path / "scenario.yaml").write_text(SCENARIO)
    (tmp_path / "manifests.yaml").write_text(MANIFESTS)
    return Stage(cast(Cluster, server), Source(name="mine", folder=tmp_path), MADE_UP, "run1")


def _cleaned(server: Server, stage: Stage) -> None:
    deleted = server.asked("DELETE")
    assert f"/persistentvolumes/{stage.names['disk']}" in deleted
    assert deleted[-1] == f"/namespaces/{stage.namespace}"
    patched = [body for method, path, body in server.seen if method == "PATCH" and path.endswith(stage.names["held"])]
    assert patched == [b'{"metadata": {"finalizers": null}}']


async def test_cancelled_while_waiting_for_the_fault(tmp_path: Path) -> None:
    server = Server()
    stage = _stage(tmp_path, server)
    entering = asyncio.create_task(stage.__aenter__())
    while not any(path.endswith("/never") for path in server.asked("GET")):
        await asyncio.sleep(0.01)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    _cleaned(server, stage)


async def test_refused_by_the_server_half_way(tmp_path: Path) -> None:
    server = Server(refuse="/configmaps")
    stage = _stage(tmp_path, server)
    with pytest.raises(KubernetesError):
        await stage.__aenter__()
    assert server.asked("DELETE")[-1] == f"/namespaces/{stage.namespace}"


async def test_an_error_inside_does_not_keep_the_namespace(tmp_path: Path) -> None:
    server = Server()
    stage = _stage(tmp_path, server)
    stage.scenario = stage.scenario.model_copy(update={"shows": []})
    with pytest.raises(ValueError, match="inside"):
        async with stage:
            raise ValueError("inside")
    _cleaned(server, stage)


async def test_everything_of_the_cluster_carries_the_label_by_which_it_is_swept(tmp_path: Path) -> None:
    server = Server()
    stage = _stage(tmp_path, server)
    stage.scenario = stage.scenario.model_copy(update={"shows": []})
    async with stage:
        made = {path: body.decode() for method, path, body in server.seen if method == "POST"}
    assert f'"{LABEL}": "run1"' in made["/namespaces"]
    assert f'"{OWN}": "{stage.namespace}"' in made["/namespaces"]
    assert f'"{LABEL}": "run1"' in made["/persistentvolumes"]


async def test_a_sweep_removes_what_a_killed_run_left() -> None:
    server = Server()
    server.items = [{"metadata": {"name": "left-behind"}}]
    assert await sweep(cast(Cluster, server), "run1") == 5
    assert "/namespaces/left-behind" in server.asked("DELETE")
