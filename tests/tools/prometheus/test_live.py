"""Against a real Prometheus and a real Alertmanager."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from diagnosis.workloads.load import load_snapshot
from diagnosis.workloads.metrics import read_answer
from diagnosis.workloads.snapshot import Snapshot
from errors import InvalidInput, ToolFailed
from settings import AlertmanagerSettings, PrometheusSettings
from tools.kubernetes.save import save_snapshot
from tools.prometheus.alertmanager import Alertmanager
from tools.prometheus.client import Prometheus
from tools.prometheus.measure import monitoring, queries
from tools.prometheus.rca.catalogue import FIXED
from tools.prometheus.rca.discover import vector
from tools.prometheus.rca.gather import by_container
from tools.prometheus.selectors import one_of, quoted, selector

HOSTILE = ['a"} or vector(1) #', "a\\", 'b"\n{', "x|.*", "a.b", ".*"]


async def test_everything_about_a_namespace_is_read_in_one_go(prometheus: str, tmp_path: Path) -> None:
    async with monitoring(PrometheusSettings(url=prometheus, timeout=60), AlertmanagerSettings()) as servers:
        found = await servers.measure("shop", ["n1", "10.0.0.1"])
    assert found.unseen == []
    by_name = {series.name: series for series in found.series}
    assert sorted(by_name) == [
        "container_cpu_cfs_periods_total",
        "container_cpu_cfs_throttled_periods_total",
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
        "kube_node_status_condition",
        "node_network_receive_drop_total",
    ]
    assert len(found.series) == len(by_name)
    memory = by_name["container_memory_working_set_bytes"]
    assert memory.labels == {"namespace": "shop", "pod": "cart-0", "container": "web"}
    assert (memory.last, by_name["container_cpu_usage_seconds_total"].last) == (100 * (1 << 20), 5)
    assert by_name["kube_node_status_condition"].about("node") == "n1"
    assert by_name["node_network_receive_drop_total"].last == 40
    assert [(alert.name, alert.active) for alert in found.alerts] == [("CartFull", True)]
    pod = {"kind": "Pod", "metadata": {"namespace": "shop", "name": "cart-0"}}
    save_snapshot(Snapshot([pod], series=found.series, alerts=found.alerts, focus="shop"), tmp_path / "saved")
    again = load_snapshot(tmp_path / "saved")
    assert sorted(again.series.names()) == sorted(by_name)
    assert [alert.name for alert in again.alerts] == ["CartFull"]


async def test_queries_ranges_and_counts(prometheus: str) -> None:
    async with Prometheus(PrometheusSettings(url=f"{prometheus}/", timeout=60)) as server:
        assert await server.series_count("container_memory_working_set_bytes") == 4
        assert await server.series_count('nothing{a="b"}') == 0
        now = datetime.now(UTC)
        await _copies_count_once_and_whole_pods_where_there_is_no_more(server, now)
        document = await server.range("vector(3)", now - timedelta(minutes=1), now, timedelta(seconds=10))
        series, missed = read_answer(document, "three", "here", 10)
        assert (series[0].name, len(series[0].points), series[0].last, missed) == ("three", 7, 3.0, [])
        at = datetime(2020, 1, 1, tzinfo=UTC)
        assert (await server.instant("time()", at))["data"]["result"][0] == at.timestamp()
        with pytest.raises(ToolFailed, match=r"refused a query: .*parse error"):
            await server.instant("sum(")
        for start, end, step in [
            (now, now - timedelta(seconds=1), timedelta(seconds=1)),
            (now - timedelta(days=30), now, timedelta(seconds=1)),
            (now, now, timedelta(0)),
            (now.replace(tzinfo=None), now.replace(tzinfo=None), timedelta(seconds=1)),
        ]:
            with pytest.raises(InvalidInput):
                await server.range("up", start, end, step)
        for query in ("", " ", "up" * 8000, "up\0"):
            with pytest.raises(InvalidInput):
                await server.instant(query)

        for name in HOSTILE:
            await _stays_a_name(server, name)


async def _copies_count_once_and_whole_pods_where_there_is_no_more(server: Prometheus, now: datetime) -> None:
    apart = await by_container(server, "shop", [now])
    assert "container_memory_working_set_bytes" in apart and "container_sockets" not in apart
    wanted = {one.metric: one for one in FIXED}
    memory, sockets = wanted["container_memory_working_set_bytes"], wanted["container_sockets"]
    assert vector(await server.instant(memory.expression("shop", "30s"))) == [
        ({"namespace": "shop", "pod": "cart-0", "container": "web"}, 100 * (1 << 20))
    ]
    assert vector(await server.instant(sockets.expression("shop", "30s"))) == []
    assert vector(await server.instant(sockets.of_pods().expression("shop", "30s"))) == [
        ({"namespace": "shop", "pod": "cart-0"}, 7)
    ]


async def _stays_a_name(server: Prometheus, name: str) -> None:
    """A query that a name could break out of would be refused, or find what it does not ask for."""
    for _, query, _ in queries(name, [name]):
        assert (await server.instant(query))["data"]["result"] == []
    assert await server.series_count(selector("up", ("job", "!~", one_of([name])))) == 1
    found = await server.instant(f'label_replace(vector(1), "a", {quoted(name.replace("$", "$$"))}, "", "")')
    assert found["data"]["result"][0]["metric"] == {"a": name}


async def test_alerts_of_a_namespace_and_of_none(alertmanager: str) -> None:
    labels = [{"namespace": "shop"}, {"namespace": "shop2"}, {"namespace": "other"}, {"node": "n1"}]
    posted = [{"labels": {"alertname": "A", **more}, "annotations": {"summary": "s"}} for more in labels]
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=60) as client:
        (await client.post(f"{alertmanager}/api/v2/alerts", json=posted)).raise_for_status()
    async with monitoring(PrometheusSettings(), AlertmanagerSettings(url=alertmanager, timeout=60)) as servers:
        found = await servers.measure("shop", [])
    assert found.unseen == []
    assert sorted(str(alert.labels.get("namespace")) for alert in found.alerts) == ["None", "shop"]
    assert all(alert.active and alert.started for alert in found.alerts)
    async with Alertmanager(AlertmanagerSettings(url=alertmanager, timeout=60)) as server:
        assert [alert["labels"] for alert in await server.alerts('a"}|.*')] == [{"alertname": "A", "node": "n1"}]
