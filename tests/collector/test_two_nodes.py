"""Two agents of two nodes and one service, as processes: the same crash on both is one incident and one notice."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from tests.standins import crashing
from tests.standins.kube_api import KubeApi
from tests.standins.llm import KEY as MODEL_KEY
from tests.standins.llm import OPENAI_MODEL, LlmStandIn, Say
from tests.standins.notices import SLACK_PATH, NoticeServers
from tests.standins.programs import environment, free_port, process, until
from tests.standins.rollout import deployment

pytestmark = [pytest.mark.gdb, pytest.mark.system, pytest.mark.timeout(400)]
KEY = "agent-key-0123456789"
NODES = ("node-a", "node-b")
UIDS = ("0f0e0d0c-1111-4222-8333-00000000000a", "0f0e0d0c-1111-4222-8333-00000000000b")
SPACE = "team"


@dataclass
class Site:
    folder: Path
    service: str
    slack: NoticeServers
    may_go_on: threading.Event

    async def ready(self) -> bool:
        try:
            async with httpx.AsyncClient(base_url=self.service, trust_env=False, timeout=60) as client:
                return (await client.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    def crash(self, node: int, run: int) -> Path:
        """A real core, as the kernel leaves it in the folder of a node."""
        where = self.folder / NODES[node] / "cores" / SPACE / f"shop-{node}_{UIDS[node]}" / "main"
        where.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(crashing.core("null", run), where / f"core.{run}"))


def pod(number: int) -> dict[str, Any]:
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop", "uid": "u1", "controller": True}
    metadata = {"name": f"shop-{number}", "namespace": SPACE, "uid": UIDS[number], "ownerReferences": [owner]}
    spec = {"nodeName": NODES[number], "containers": [{"name": "main", "image": "example.test/app:2"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {}}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    crashing.require_tools()
    port, slack, go_on = free_port(), NoticeServers(), threading.Event()
    made = Site(tmp_path, f"http://127.0.0.1:{port}", slack, go_on)
    (tmp_path / "store").mkdir()
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(KubeApi())
        api.put(deployment("shop", SPACE))
        for number in range(2):
            api.put(pod(number))
        model = stack.enter_context(LlmStandIn())
        # the analysis of the first core is not over before the second has come
        model.script = [lambda _: Say("ready" if go_on.wait(60) else "late")]
        runner = web.AppRunner(slack.app(), access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        hook = f"http://127.0.0.1:{runner.addresses[0][1]}{SLACK_PATH}"
        key = {"name": "agents", "sha256": hashlib.sha256(KEY.encode()).hexdigest(), "scopes": ["read", "autofix"]}
        store = {"STORE__URL": (tmp_path / "store").as_uri()}
        service = store | {
            "KUBERNETES__ENABLED": "false",
            "API__PORT": port,
            "API__KEYS": json.dumps([key]),
            "CORE__EXECUTABLE_DIRS": json.dumps([str(crashing.program().parent)]),
            "LLM__MODEL": f"openai:{OPENAI_MODEL}",
            "LLM__BASE_URL": model.openai_url,
            "LLM__API_KEY": MODEL_KEY,
            "LLM__TIMEOUT": 120,
            "NOTIFY__CHANNELS": json.dumps([{"name": "ops", "kind": "slack", "webhook_url": hook}]),
        }
        await stack.enter_async_context(process("service", ["serve"], environment(tmp_path, service), tmp_path))
        await until(made.ready, "the service")  # else the agents would wait before they tell it again
        for number, node in enumerate(NODES):
            made.crash(number, run=number)
            agent = store | {
                "KUBERNETES__KUBECONFIG": api.kubeconfig(tmp_path),
                "COLLECTOR__ROOTS": json.dumps([str(tmp_path / node / "cores")]),
                "COLLECTOR__NODE_NAME": node,
                "COLLECTOR__POLL_SECONDS": 0.1,
                "COLLECTOR__NODE_PROCESSES": "false",
                "COLLECTOR__IMAGE_LAYERS": "[]",
                "COLLECTOR__SERVICE_URL": f"{made.service}/api/v1/events",
                "COLLECTOR__SERVICE_KEY": KEY,
                "SHIPPING__DISK_RESERVE_BYTES": 0,
            }
            await stack.enter_async_context(process(node, ["collect"], environment(tmp_path, agent), tmp_path))
        stack.callback(go_on.set)
        yield made


async def test_the_same_crash_on_two_nodes_is_one_incident_and_one_notice(site: Site) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=site.service, headers=headers, trust_env=False, timeout=60) as client:

        async def incident(count: int, ended: bool) -> dict[str, Any] | None:
            found: list[dict[str, Any]] = (await client.get("/api/v1/incidents")).json()["incidents"]
            assert len(found) <= 1, "one crash is one incident"
            right = found and found[0]["count"] == count and (found[0]["status"] == "diagnosed" or not ended)
            return found[0] if right else None

        await until(lambda: incident(2, ended=False), "a core of each node")
        site.may_go_on.set()
        one = await until(lambda: incident(2, ended=True), "the diagnosis")
        assert (one["target"]["kind"], one["target"]["namespace"], one["target"]["name"]) == (
            "Deployment",
            SPACE,
            "shop",
        )
        shown = (await client.get(f"/api/v1/incidents/{one['id']}")).json()
        assert shown["nodes"] == list(NODES)
        crash = shown["diagnosis"]["crash"]
        assert crash["history"]["nodes"] == list(NODES) and "2 times on 2 nodes" in crash["history"]["sentence"]
        assert shown["diagnosis"]["causes"][0]["class"] == "null_dereference"

        async def told() -> bool:
            return bool(site.slack.slack)

        await until(told, "the notice")
        again = site.crash(1, run=2)
        await until(lambda: incident(3, ended=True), "another core of the second node")
        assert not again.exists()
        (notice,) = site.slack.slack
        assert "same crash 2 times on 2 nodes" in json.dumps(notice)
        assert (await client.get(f"/api/v1/incidents/{one['id']}")).json()["nodes"] == list(NODES)
