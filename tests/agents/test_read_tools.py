"""The read-only tools, against the API server's stand-in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import pytest
from aiohttp import web
from pydantic import ValidationError

from agents.read_tools import cluster_tools, core_tools
from agents.read_tools.arguments import Kind
from agents.read_tools.cluster import _VERSIONS
from agents.tool_loop import Reading, ReadTool
from errors import NotFound, Refused
from settings import GdbSettings, KubernetesSettings
from tests.standins.kube_api import KubeApi
from tools.kubernetes.client import Cluster

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "cart-1", "namespace": "shop", "managedFields": [{"manager": "kubelet"}]},
    "spec": {"containers": [{"name": "web", "env": [{"name": "DB_PASSWORD", "value": "hunter2hunter2"}]}]},
    "status": {
        "phase": "Running",
        "containerStatuses": [{"name": "web", "restartCount": 7, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}],
    },
}


class ApiWithLogs(KubeApi):
    """The stand-in, with container logs."""

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/log"):
            self.requests.append(request.path_qs)
            return web.Response(text="\n".join(f"line {n} token=abcdef0123456789" for n in range(500)))
        return await super()._handle(request)


@pytest.fixture
async def api() -> AsyncIterator[ApiWithLogs]:
    async with ApiWithLogs() as standin:
        for namespace in ("shop", "bank"):
            standin.put({**POD, "metadata": {**POD["metadata"], "namespace": namespace}})  # type: ignore[dict-item]
        standin.put(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "conf", "namespace": "shop"},
                "data": {"k": "very private"},
            }
        )
        standin.put(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": "e1", "namespace": "shop"},
                "involvedObject": {"kind": "Pod", "name": "cart-1"},
                "type": "Warning",
                "reason": "BackOff",
                "message": "Back-off restarting failed container",
                "count": 3,
            }
        )
        yield standin


@pytest.fixture
async def tools(api: ApiWithLogs, tmp_path: Path) -> AsyncIterator[dict[str, ReadTool]]:
    async with await Cluster.connect(
        KubernetesSettings(kubeconfig=api.kubeconfig(tmp_path), request_timeout=60)
    ) as cluster:
        yield {tool.name: tool for tool in cluster_tools(cluster, ["shop"])}


async def call(tool: ReadTool, **args: Any) -> Reading:
    result = await tool.run(tool.args.model_validate(args))
    assert isinstance(result, Reading)
    return result


async def test_get_is_redacted_and_observed(tools: dict[str, ReadTool]) -> None:
    read = await call(tools["get_object"], kind="Pod", namespace="shop", name="cart-1")
    assert read.source == "GET /api/v1/namespaces/shop/pods/cart-1"
    assert "hunter2" not in read.text and "managedFields" not in read.text and "CrashLoopBackOff" in read.text
    assert [str(item) for item in read.objects] == ["Pod shop/cart-1"]
    read = await call(tools["get_object"], kind="ConfigMap", namespace="shop", name="conf")
    assert "very private" not in read.text and '"k"' in read.text


async def test_list_log_and_events(tools: dict[str, ReadTool], api: ApiWithLogs) -> None:
    listed = await call(tools["list_objects"], kind="Pod", namespace="shop")
    assert "web waiting CrashLoopBackOff restarts=7" in listed.text
    assert (await call(tools["list_objects"], kind="Pod", namespace="shop", contains="zzz")).text == "(none)"
    log = await call(
        tools["get_log"], namespace="shop", pod="cart-1", container="web", previous=True, contains="line 49", lines=5
    )
    assert log.text.splitlines()[-1] == "line 499 token=[redacted]" and len(log.text.splitlines()) == 5
    assert "previous=true" in api.requests[-1]
    events = await call(tools["get_events"], namespace="shop")
    assert "Warning BackOff Pod/cart-1 x3: Back-off restarting failed container" in events.text


async def test_an_older_server_is_asked_in_its_own_version(tools: dict[str, ReadTool], api: ApiWithLogs) -> None:
    api.put(
        {
            "apiVersion": "batch/v1beta1",
            "kind": "CronJob",
            "metadata": {"name": "nightly", "namespace": "shop"},
            "spec": {"schedule": "0 1 * * *"},
        }
    )
    read = await call(tools["get_object"], kind="CronJob", namespace="shop", name="nightly")
    assert "0 1 * * *" in read.text and read.source == "GET /apis/batch/v1beta1/namespaces/shop/cronjobs/nightly"
    with pytest.raises(NotFound):
        await call(tools["get_object"], kind="CronJob", namespace="shop", name="nothing")


async def test_other_namespaces_and_missing_objects(tools: dict[str, ReadTool], api: ApiWithLogs) -> None:
    before = len(api.requests)
    for name, args in (
        ("get_object", {"kind": "Pod", "namespace": "bank", "name": "cart-1"}),
        ("get_object", {"kind": "Pod", "name": "cart-1"}),
        ("list_objects", {"kind": "Pod"}),
        ("get_log", {"namespace": "bank", "pod": "cart-1", "container": "web"}),
        ("get_events", {"namespace": "kube-system"}),
    ):
        with pytest.raises(Refused):
            await call(tools[name], **args)
    assert len(api.requests) == before
    with pytest.raises(NotFound):
        await call(tools["get_object"], kind="Pod", namespace="shop", name="nothing")


@pytest.mark.parametrize(
    "args",
    [
        {"kind": "Secret", "namespace": "shop", "name": "x"},
        {"kind": "Pod", "namespace": "shop", "name": "../../secrets/x"},
        {"kind": "Pod", "namespace": "shop", "name": "x?dryRun=All"},
        {"kind": "Pod", "namespace": "shop", "name": "x", "method": "DELETE"},
    ],
)
def test_what_cannot_be_asked(tools: dict[str, ReadTool], args: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        tools["get_object"].args.model_validate(args)


def test_nothing_can_write(tools: dict[str, ReadTool]) -> None:
    assert set(tools) == {"get_object", "list_objects", "get_log", "get_events"}
    assert set(get_args(Kind)) == set(_VERSIONS) and "Secret" not in _VERSIONS


def test_core_tools_are_the_queries_without_raw_memory(tmp_path: Path) -> None:
    tools = core_tools(core=tmp_path / "core", executable=None, settings=GdbSettings())
    names = {tool.name for tool in tools}
    assert {"gdb_backtrace", "gdb_locals", "gdb_expression"} <= names and "gdb_memory" not in names
    assert all(tool.spec().schema["type"] == "object" for tool in tools)
    expression = next(tool for tool in tools if tool.name == "gdb_expression")
    for text in ("system(1)", "$_shell", "a;shell id", "x\nshell id", "1+1"):
        with pytest.raises(ValidationError):
            expression.args.model_validate({"expression": text})
