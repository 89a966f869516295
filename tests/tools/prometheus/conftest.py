"""A real Prometheus that scrapes a small exporter, and a real Alertmanager, on loopback; Debian's packages.

Tests that need one are skipped by its name where it is not installed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.standins.prometheus_server import free_port, program, running, until

EXPORTED = """
container_memory_working_set_bytes{namespace="shop",pod="cart-0",container="web",id="/a"} 1.048576e+08
container_memory_working_set_bytes{namespace="shop",pod="cart-0",container="web",id="/before-its-restart"} 9e+07
container_memory_working_set_bytes{namespace="shop",pod="cart-0",container="",id="/"} 2e+08
container_sockets{namespace="shop",pod="cart-0"} 7
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
                {"alert": "CartFull", "expr": 'container_memory_working_set_bytes{pod="cart-0",id="/a"} > 1'},
                {"alert": "OtherFull", "expr": 'container_memory_working_set_bytes{namespace="other"} > 1'},
            ],
        }
    ]
}


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
