"""Nodes by the cluster's names, however their exporter was scraped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from diagnosis.metrics.series import MetricSeries
from settings import PrometheusSettings
from tools.prometheus.client import Prometheus
from tools.prometheus.rca.catalogue import FIXED
from tools.prometheus.rca.nodes import Nodes, host, nodes_of

END = datetime(2026, 11, 20, 12, tzinfo=UTC)
INFOS = [{"node": "worker-1", "internal_ip": "10.0.0.1"}, {"node": "worker-2", "internal_ip": "fd00::2"}]
NAMES = [
    {"nodename": "vm", "instance": "10.0.0.1:9100"},
    {"nodename": "worker-2", "instance": "exporter.example:9100"},
]
PODS = [{"namespace": "shop", "pod": "cart-0", "node": "worker-1"}, {"namespace": "shop", "pod": "new-0", "node": ""}]


async def _nodes(rows: dict[str, list[dict[str, str]]]) -> Nodes:
    async def handle(request: web.Request) -> web.Response:
        query = str((await request.post())["query"])
        found: list[dict[str, Any]] = next((
            [{"metric": row, "value": [0, "1"]} for row in labels] for name, labels in rows.items() if name in query
        ), [])  # fmt: skip
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": found}})

    app = web.Application()
    app.router.add_post("/api/v1/query", handle)
    async with TestServer(app) as server, Prometheus(PrometheusSettings(url=str(server.make_url("/")))) as client:
        return await nodes_of(client, "shop", timedelta(minutes=10), END)


def _node(name: str) -> MetricSeries:
    return MetricSeries.of("node_cpu_busy", {"node": name}, [1.0], [1.0])


async def test_a_node_is_called_as_the_cluster_calls_it() -> None:
    nodes = await _nodes({"kube_node_info": INFOS, "node_uname_info": NAMES, "kube_pod_info": PODS})
    assert nodes.of_pod == {("shop", "cart-0"): "worker-1"}
    scraped = ["10.0.0.1", "fd00::2", "exporter.example", "worker-1", "10.0.0.9"]
    pod = MetricSeries.of("cpu", {"namespace": "shop", "pod": "cart-0", "node": "worker-2"}, [1.0], [1.0])
    told = nodes.named([*map(_node, scraped), pod], None)
    assert [one.labels["node"] for one in told] == [
        "worker-1", "worker-2", "worker-2", "worker-1", "10.0.0.9", "worker-2",
    ]  # fmt: skip
    # of one namespace the nodes that it runs on, and those that nobody knows
    assert [one.labels["node"] for one in nodes.named([_node(name) for name in scraped], "shop")] == [
        "worker-1", "worker-1", "10.0.0.9",
    ]  # fmt: skip


async def test_without_a_cluster_the_machines_own_name_is_told() -> None:
    nodes = await _nodes({"node_uname_info": NAMES})
    assert [nodes.named([_node(name)], "shop")[0].labels["node"] for name in ("10.0.0.1", "10.0.0.2")] == [
        "vm", "10.0.0.2",
    ]  # fmt: skip
    assert (await _nodes({})).named([_node("n1")], "shop")[0].labels == {"node": "n1"}


def test_addresses_lose_their_port() -> None:
    for instance, name in (("10.0.0.1:9100", "10.0.0.1"), ("[fd00::2]:9100", "fd00::2"), ("n1", "n1"), ("", "")):
        assert host(instance) == name


def test_of_devices_the_nodes_own_are_read() -> None:
    by_name = {wanted.name: wanted for wanted in FIXED if wanted.name.startswith("node_")}
    disk = by_name["node_disk_io_time_seconds_total"].expression("shop", "60s")
    assert disk.startswith("max by (node, instance) (rate(") and "zram" in disk and "shop" not in disk
    left = by_name["node_filesystem_avail_share"].expression(None, "60s")
    assert left.startswith("min by (node, instance) (last_over_time(node_filesystem_avail_bytes{fstype!~"), left
    assert "sum without (cpu, mode, device)" in by_name["node_network_receive_bytes_total"].expression(None, "60s")
