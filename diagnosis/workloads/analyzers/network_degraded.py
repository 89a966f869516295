"""A slow or lossy network: as measurements show it, or as probes and connections that time out around one node.

Timeouts alone are weak: a starved machine gives them too. They count where several workloads of one node have them and
those of other nodes do not, and with less confidence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import pairwise

from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.events import Event
from diagnosis.workloads.evidence import of_event
from diagnosis.workloads.fields import Object, condition, text
from diagnosis.workloads.metrics import Series
from diagnosis.workloads.probes import Symptom, symptom_of
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.services import services_of
from incidents.models import CauseClass, Fact, ObjectRef

NAME = "network_degraded"
READS = ("Pod", "Event", "Node")
RULED_OUT = "network: neither measurements nor timeouts point at one node"
CAUSES = {
    CauseClass.NETWORK_DEGRADED: Documented(
        "The network of a node loses or delays packets.",
        "Counters of retransmitted, dropped or broken packets, or alerts about them; without these, probes and "
        "connections of several workloads of one node that time out while those of other nodes do not.",
        "None from here: a person looks at the node's network; pods can be moved by cordoning the node.",
    ),
}

LOSS = 0.02
"""Share of lost packets that is felt: TCP's throughput falls with its square root (Mathis et al. 1997)."""
RETRANSMITTED = 0.05
_PACKETS = 1000  # fewer say nothing
_WORKLOADS = 3
_RECENT = timedelta(minutes=15)
_ALERTS = {"NodeNetworkReceiveErrs", "NodeNetworkTransmitErrs", "NodeHighNumberConntrackEntriesUsed"}
_RATIOS = (
    ("retransmitted", ("node_netstat_Tcp_RetransSegs",), ("node_netstat_Tcp_OutSegs",), RETRANSMITTED),
    ("dropped on receipt", ("node_network_receive_drop_total",), ("node_network_receive_packets_total",), LOSS),
    ("dropped on sending", ("node_network_transmit_drop_total",), ("node_network_transmit_packets_total",), LOSS),
    ("broken on receipt", ("node_network_receive_errs_total",), ("node_network_receive_packets_total",), LOSS),
    ("broken on sending", ("node_network_transmit_errs_total",), ("node_network_transmit_packets_total",), LOSS),
)


def find(scope: Scope) -> Iterable[Found]:
    measured = set()
    for node, claims, facts in _measured(scope):
        measured.add(node)
        yield _found(
            scope, node, 0.9, f"The network of node {node} loses packets.", claims, facts, _failing_on(scope, node)
        )
    for node, claims, refs in _timeouts(scope):
        if node not in measured:
            text_ = (
                f"Probes and connections of {len(refs)} workloads on node {node} time out, those of other nodes do not."
            )
            yield _found(scope, node, 0.6, text_, claims, {}, refs)


def _found(
    scope: Scope,
    node: str,
    confidence: float,
    summary: str,
    claims: list[Claim],
    facts: dict[str, Fact],
    refs: list[ObjectRef],
) -> Found:
    return Found(
        CauseClass.NETWORK_DEGRADED,
        ObjectRef(kind="Node", name=node),
        confidence,
        summary,
        claims,
        facts={"node": node, **facts},
        explains=refs,
        next_steps=[f"Look at the network of node {node} (interface, cable, driver, overlay), and at its load"],
    )


def _measured(scope: Scope) -> Iterator[tuple[str, list[Claim], dict[str, Fact]]]:
    """Nodes of the scope whose counters or alerts tell of loss."""
    snapshot, now = scope.snapshot, scope.snapshot.observed_at
    nodes = {text(pod, "spec", "nodeName") for pod in scope.pods} - {""}
    for node in sorted(nodes):
        claims: list[Claim] = []
        facts: dict[str, Fact] = {}
        for what, lost, all_, limit in _RATIOS:
            for series in _of_node(scope, lost, node):
                whole = _matching(series, _of_node(scope, all_, node))
                if whole is None:
                    continue
                share, packets = _increase(series) / max(1.0, _increase(whole)), _increase(whole)
                if packets >= _PACKETS and share >= limit:
                    said = f"{share:.1%} of the packets of node {node} are {what}"
                    claims.append(Claim(said, [series.evidence(now), whole.evidence(now)]))
                    facts[f"share_{what.replace(' ', '_')}"] = round(share, 4)
        for alert in snapshot.alerts:
            about = {alert.labels.get(label, "").split(":")[0] for label in ("node", "instance", "nodename")}
            if alert.active and alert.name in _ALERTS and node in about:
                claims.append(Claim(f"Alert {alert.name} is active for node {node}", [alert.evidence(now)]))
        if claims:
            yield node, claims, facts


def _of_node(scope: Scope, names: tuple[str, ...], node: str) -> list[Series]:
    """By the node's name or address; `instance` carries the exporter's port behind it. Loopback loses nothing."""
    addresses = {node, *_addresses(scope.snapshot.get("Node", None, node))}
    return [
        series
        for series in scope.snapshot.series.find(*names)
        if (series.about("node") or series.labels.get("instance", "").rsplit(":", 1)[0]) in addresses
        and series.labels.get("device") != "lo"
    ]


def _addresses(node: Object | None) -> list[str]:
    found = (node or {}).get("status")
    listed = found.get("addresses") if isinstance(found, dict) else None
    return [text(entry, "address") for entry in listed if text(entry, "address")] if isinstance(listed, list) else []


def _matching(series: Series, others: list[Series]) -> Series | None:
    return next((other for other in others if other.labels.get("device") == series.labels.get("device")), None)


def _increase(series: Series) -> float:
    """What a counter grew by over its points; a reset starts anew from zero."""
    values = [value for _, value in series.points]
    return sum(after - before if after >= before else after for before, after in pairwise(values))


def _failing_on(scope: Scope, node: str) -> list[ObjectRef]:
    troubled = [container.pod for container in scope.troubled if text(container.pod, "spec", "nodeName") == node]
    calls = [
        call
        for call in services_of(scope.snapshot).calls
        if call.timed_out and text(call.pod, "spec", "nodeName") == node
    ]
    return list(dict.fromkeys([*map(scope.snapshot.workload_of, troubled), *(call.workload for call in calls)]))


def _timeouts(scope: Scope) -> Iterator[tuple[str, list[Claim], list[ObjectRef]]]:
    """One node of several on which workloads time out. Who asks about one of them is told by its neighbours."""
    snapshot, now = scope.snapshot, scope.snapshot.observed_at
    told: dict[str, dict[ObjectRef, Claim]] = defaultdict(dict)
    well: dict[str, set[ObjectRef]] = defaultdict(set)
    pods = scope.pods
    asked = scope.target is not None and any(_timed_out_probe(scope, pod) is not None for pod in pods)
    if asked:
        spaces = sorted({text(pod, "metadata", "namespace") for pod in pods})
        pods = [pod for space in spaces for pod in snapshot.all("Pod", space)]
    for pod in pods:
        node, owner = text(pod, "spec", "nodeName"), snapshot.workload_of(pod)
        event = _timed_out_probe(scope, pod)
        if event is not None:
            name = text(pod, "metadata", "name")
            told[node].setdefault(
                owner, Claim(f"A probe of pod {name} times out: {quoted(event.message)}", [of_event(event, now)])
            )
        elif condition(pod, "Ready").get("status") == "True":
            well[node].add(owner)
    for call in services_of(snapshot).calls:
        node = text(call.pod, "spec", "nodeName")
        if call.timed_out and (asked or call.workload in scope.workloads):
            well[node].discard(call.workload)
            claim = Claim(f"{call.workload} times out: {quoted(call.line.text)}", [call.evidence(snapshot)])
            told[node].setdefault(call.workload, claim)
    if len(told) == 1:
        node, found = next(iter(told.items()))
        elsewhere = {ref for other, refs in well.items() if other != node for ref in refs}
        here = snapshot.get("Node", None, node)
        up = condition(here, "Ready").get("status") == "True"
        if len(found) >= _WORKLOADS and len(elsewhere) >= 2 and up and len(well[node]) < len(found):
            yield node, list(found.values())[:4], list(found)


def _timed_out_probe(scope: Scope, pod: Object) -> Event | None:
    """A recent failure of a probe over the network that nothing answered; a probe by command is the program's own."""
    for event in reversed(scope.pod_events(pod)):
        recent = event.last is not None and scope.snapshot.observed_at - event.last <= _RECENT
        by_network = "://" in event.message or "dial tcp" in event.message
        if recent and by_network and event.reason == "Unhealthy":
            return event if symptom_of(event.message, "httpGet") is Symptom.TIMEOUT else None
    return None
