"""What a capture asks a monitoring server about a namespace: a fixed list of queries, each with its own window.

Names are those of cAdvisor (through the kubelet), kube-state-metrics and node_exporter. A query that fails is a
sentence, and the others are asked all the same; a server that is not there is one sentence.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

from diagnosis.workloads.metrics import ALIASES, MAX_SERIES, Alert, Series, read_alerts, read_answer
from errors import ToolFailed
from settings import AlertmanagerSettings, PrometheusSettings
from tools.prometheus.alertmanager import Alertmanager
from tools.prometheus.client import Prometheus
from tools.prometheus.selectors import one_of, quoted, selector

_CONCURRENT = 4
_LONG = (timedelta(hours=3), timedelta(minutes=1))
_SHORT = (timedelta(minutes=20), timedelta(seconds=30))

_Window = tuple[timedelta, timedelta]
_OF_CONTAINERS: tuple[tuple[str, _Window], ...] = (
    ("container_memory_working_set_bytes", _LONG),
    ("container_cpu_usage_seconds_total", _LONG),
    ("container_cpu_cfs_throttled_periods_total", _SHORT),
    ("container_cpu_cfs_periods_total", _SHORT),
    ("kube_pod_container_status_restarts_total", _LONG),
)
_OF_NODES = (
    "node_netstat_Tcp_RetransSegs", "node_netstat_Tcp_OutSegs",
    "node_network_receive_drop_total", "node_network_receive_packets_total", "node_network_receive_errs_total",
    "node_network_transmit_drop_total", "node_network_transmit_packets_total", "node_network_transmit_errs_total",
)  # fmt: skip
_PRESSURES = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]
MAX_NODES = 200


@dataclass
class Measured:
    """What was found, and sentences about what was not."""

    series: list[Series] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Monitoring:
    """The servers that are configured."""

    prometheus: Prometheus | None = None
    alertmanager: Alertmanager | None = None

    async def measure(self, namespace: str, nodes: list[str], until: datetime | None = None) -> Measured:
        """Series of a namespace's containers and of nodes, and alerts, up to a time (now). Raises nothing."""
        found = Measured()
        if self.prometheus is not None:
            await _series(self.prometheus, namespace, nodes[:MAX_NODES], until or datetime.now(UTC), found)
        await _alerts(self, namespace, found)
        return found

    async def __aenter__(self) -> Monitoring:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        for server in (self.prometheus, self.alertmanager):
            if server is not None:
                await server.close()


def queries(namespace: str, nodes: list[str]) -> list[tuple[str, str, _Window]]:
    """(name of the metric, query, window) for a namespace and for nodes, by their names and addresses.

    A container's series are joined over its restarts: cAdvisor makes new ones, with other ids.
    """
    own = (("namespace", "=", quoted(namespace)), ("container", "!=", quoted("")), ("container", "!=", quoted("POD")))
    found = [
        (name, f"max by (namespace, pod, container) (sum without (cpu) ({selector(name, *own)}))", window)
        for name, window in _OF_CONTAINERS
    ]
    if nodes:
        by_name = ("node", "=~", one_of(nodes))
        conditions = (("condition", "=~", one_of(_PRESSURES)), ("status", "=", quoted("true")), by_name)
        found.append(("kube_node_status_condition", selector("kube_node_status_condition", *conditions), _SHORT))
        by_instance = ("instance", "=~", one_of([*nodes, *(f"{node}:9100" for node in nodes)]))
        real = ("device", "!~", quoted("lo|veth.*|cali.*|lxc.*"))
        for name in _OF_NODES:
            both = (selector(name, by_instance, real), selector(name, by_name, real))
            found.append((name, " or ".join(both), _SHORT))
    return found


async def _series(server: Prometheus, namespace: str, nodes: list[str], until: datetime, found: Measured) -> None:
    try:
        await server.instant("vector(1)")
    except ToolFailed as error:
        found.unseen.append(f"measurements could not be read: {error}")
        return
    gate = asyncio.Semaphore(_CONCURRENT)

    async def one(name: str, query: str, window: _Window) -> list[Series]:
        long, step = window
        async with gate:
            try:
                document: dict[str, Any] = await server.range(query, until - long, until, step)
            except ToolFailed as error:
                found.unseen.append(f"metric {name} could not be read: {error}")
                return []
        source = f"Prometheus range query of {long.total_seconds() / 60:g} minutes by {step.total_seconds():g} s"
        series, missed = await asyncio.to_thread(read_answer, document, name, source, MAX_SERIES)
        found.unseen += [f"metric {name}: {sentence}" for sentence in missed]
        return series

    for series in await asyncio.gather(*(one(*asked) for asked in queries(namespace, nodes))):
        found.series += series
    if len(found.series) > MAX_SERIES:
        found.unseen.append(f"only the first {MAX_SERIES} of {len(found.series)} series were kept")
        del found.series[MAX_SERIES:]


async def _alerts(servers: Monitoring, namespace: str, found: Measured) -> None:
    """From Alertmanager, which knows of all; without one, the alerts of Prometheus' own rules."""
    document: object
    try:
        if servers.alertmanager is not None:
            document = await servers.alertmanager.alerts(namespace)
        elif servers.prometheus is not None and not any("measurements could not" in line for line in found.unseen):
            document = await servers.prometheus.alerts()
        else:
            return
    except ToolFailed as error:
        found.unseen.append(f"alerts could not be read: {error}")
        return
    for alert in read_alerts(document):
        spaces = {alert.labels[label] for label in ALIASES["namespace"] if alert.labels.get(label)}
        if not spaces or namespace in spaces:
            found.alerts.append(alert)


def monitoring(prometheus: PrometheusSettings, alertmanager: AlertmanagerSettings) -> Monitoring:
    """The configured servers, not asked yet. Raises InvalidInput for certificate files that cannot be used."""
    return Monitoring(
        Prometheus(prometheus) if prometheus.url else None,
        Alertmanager(alertmanager) if alertmanager.url else None,
    )
