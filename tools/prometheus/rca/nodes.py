"""Which node a measurement is of, and which nodes pods ran on.

node_exporter names a node by the address that it was scraped at, the cluster by the node's name: kube-state-metrics
knows both, and node_exporter itself the machine's own name.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from diagnosis.metrics.series import MetricSeries
from tools.prometheus.client import Prometheus
from tools.prometheus.rca.catalogue import Matcher
from tools.prometheus.rca.discover import vector
from tools.prometheus.rca.windows import written
from tools.prometheus.selectors import quoted, selector


@dataclass(frozen=True)
class Nodes:
    """`called` is a scrape's address or host to the node's name; `known` are all names of the cluster's nodes; `of_pod`
    is (namespace, pod) to the node."""

    called: Mapping[str, str] = field(default_factory=dict)
    known: Set[str] = frozenset()
    of_pod: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def named(self, series: list[MetricSeries], namespace: str | None) -> list[MetricSeries]:
        """The series, those of nodes by the nodes' names. For one namespace without nodes that none of its pods ran
        on."""
        beside = set(self.of_pod.values())
        kept = []
        for one in series:
            if set(one.labels) == {"node"}:
                node = self.called.get(one.labels["node"], one.labels["node"])
                if namespace and beside and node in self.known - beside:
                    continue
                one = replace(one, labels={"node": node})
            kept.append(one)
        return kept


async def nodes_of(server: Prometheus, namespace: str | None, length: timedelta, end: datetime) -> Nodes:
    """Of nodes and pods that were there within the range. Empty where neither exporter tells. Raises ToolFailed."""

    async def asked(metric: str, by: str, *scope: Matcher) -> list[dict[str, str]]:
        over = f"last_over_time({selector(metric, *scope)}[{written(length.total_seconds())}])"
        return [labels for labels, _ in vector(await server.instant(f"max by ({by}) ({over})", end))]

    infos = await asked("kube_node_info", "node, internal_ip")
    known = {labels["node"] for labels in infos if labels.get("node")}
    called = {}
    for labels in await asked("node_uname_info", "nodename, instance"):
        own = labels.get("nodename", "")
        if own and (own in known or not known):
            called[host(labels.get("instance", ""))] = own
    called |= {labels["internal_ip"]: labels["node"] for labels in infos if labels.get("internal_ip")}
    scope: list[Matcher] = [("namespace", "=", quoted(namespace))] if namespace else []
    of_pod = {
        (labels.get("namespace", ""), labels.get("pod", "")): labels["node"]
        for labels in await asked("kube_pod_info", "namespace, pod, node", *scope)
        if labels.get("node")
    }
    return Nodes(called, known, of_pod)


def host(instance: str) -> str:
    """Of a scraped address, without its port."""
    name, _, port = instance.rpartition(":")
    return (name if name and port.isdigit() else instance).strip("[]")
