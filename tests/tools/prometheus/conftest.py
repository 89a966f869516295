"""A real Prometheus that scrapes a small exporter, and a real Alertmanager, on loopback; Debian's packages.

Tests that need one are skipped by its name where it is not installed.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from aiohttp import web

EXPORTED = """
container_memory_working_set_bytes{namespace="shop",pod="cart-0",container="web",id="/a"} 1.048576e+08
container_memory_working_set_bytes{namespace="shop",pod="cart-0",container="",id="/"} 2e+08
container_memory_working_set_bytes{namespace="other",pod="x",container="web",id="/b"} 5e+08
container_cpu_usage_seconds_total{namespace="shop",pod="cart-0",container="web",cpu="cpu00"} 2
container_cpu_usage_seconds_total{namespace="shop",pod="cart-0",container="web",cpu="cpu01"} 3
container_cpu_cfs_periods_total{namespace="shop",pod="cart-0",container="web"} 1000
container_cpu_cfs_throttled_periods_total{namespace="shop",pod="cart-0",container="web"} 900
kube_node_status_condition{node="n1",condition="MemoryPressure",status="true"} 1
kube_node_status_condition{node="n1",condition="MemoryPressure",status="false"} 0
kube_node_status_condition{node="n2",condition="MemoryPressure",status="true"} 1
node_network_receive_drop_total{node="n1",device="eth0"} 40
node_network_receive_drop_total{node="n1",device="lo"} 7
"""
RULES = {
    "groups": [
        {
            "name": "g",
            "interval": "1s",
            "rules": [
                {"alert": "CartFull", "expr": 'container_memory_working_set_bytes{pod="cart-0",container="web"} > 1'},
                {"alert": "OtherFull", "expr": 'container_memory_working_set_bytes{namespace="other"} > 1'},
            ],
        }
    ]
}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)  # reading the machine's authorities takes long


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@asynccontextmanager
async def running(url: str, *command: str) -> AsyncIterator[str]:
    """The server until the end; it is ready when `/-/ready` says so."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await until(lambda client: client.get(f"{url}/-/ready"), lambda answer: answer.status_code == 200)
        yield url
    finally:
        process.terminate()
        await process.wait()


async def until(ask: Callable[[httpx.AsyncClient], object], seen: Callable[[httpx.Response], bool]) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(150):
            try:
                answer = await ask(client)  # type: ignore[misc]
                if seen(answer):
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)
    raise AssertionError("the server did not come to it in 15 s")


@pytest.fixture
async def exporter() -> AsyncIterator[str]:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=EXPORTED.lstrip())

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def prometheus(exporter: str, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a Prometheus that has scraped the exporter."""
    path, port = program("prometheus"), free_port()
    scrape = {"job_name": "t", "scrape_interval": "1s", "static_configs": [{"targets": [exporter]}]}
    (tmp_path / "rules.json").write_text(json.dumps(RULES))
    (tmp_path / "prometheus.yml").write_text(
        json.dumps({"scrape_configs": [scrape], "rule_files": [str(tmp_path / "rules.json")]})
    )
    command = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    async with running(f"http://127.0.0.1:{port}", path, *command) as url:
        asked = {"query": 'ALERTS{alertstate="firing"}'}
        await until(
            lambda client: client.get(f"{url}/api/v1/query", params=asked),
            lambda answer: len(answer.json()["data"]["result"]) == 2,
        )
        yield url


@pytest.fixture
async def alertmanager(tmp_path: Path) -> AsyncIterator[str]:
    path, port = program("prometheus-alertmanager"), free_port()
    (tmp_path / "am.yml").write_text(json.dumps({"route": {"receiver": "none"}, "receivers": [{"name": "none"}]}))
    command = [f"--config.file={tmp_path}/am.yml", f"--storage.path={tmp_path}/am", "--cluster.listen-address="]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    async with running(f"http://127.0.0.1:{port}", path, *command) as url:
        yield url
