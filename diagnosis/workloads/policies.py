"""What NetworkPolicies let through: evaluation in three values, since labels of namespaces may not have been read.

Source: https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/. A pod that no policy of
a direction selects is open in it; otherwise what any of them allows is allowed. Traffic within the same pod and from
the pod's own node is never filtered. Whether the cluster's network enforces policies at all cannot be seen here.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from diagnosis.workloads.fields import Object, mapping, number, objects, pick, strings, text
from diagnosis.workloads.snapshot import Snapshot

NAMESPACE_LABEL = "kubernetes.io/metadata.name"
"""Set by the API server since Kubernetes 1.21 to the namespace's name."""


@dataclass(frozen=True)
class Peer:
    """One end: a pod, or nothing in particular (a name server that was not seen)."""

    pod: Object | None
    namespace: str

    @property
    def labels(self) -> Object:
        return mapping(self.pod, "metadata", "labels")

    @property
    def address(self) -> str:
        return text(self.pod, "status", "podIP")


@dataclass(frozen=True)
class Port:
    """A port at its receiving end, after a Service's mapping; `names` are the names that the pod gives to it."""

    number: int
    protocol: str = "TCP"
    names: frozenset[str] = frozenset()


def selecting(snapshot: Snapshot, pod: Object, direction: str) -> list[Object]:
    """The policies that select a pod in a direction (`Ingress` or `Egress`)."""
    return [
        policy
        for policy in snapshot.all("NetworkPolicy", text(pod, "metadata", "namespace"))
        if matches(pick(policy, "spec", "podSelector"), mapping(pod, "metadata", "labels"))
        and direction in types_of(policy)
    ]


def types_of(policy: Object) -> list[str]:
    """The directions of a policy; by default Ingress, and Egress where it has rules for that."""
    return strings(policy, "spec", "policyTypes") or [
        "Ingress",
        *(["Egress"] if pick(policy, "spec", "egress") else []),
    ]


def allows(snapshot: Snapshot, policy: Object, direction: str, peer: Peer, port: Port) -> bool | None:
    """Whether one policy lets a connection through; None when that depends on what was not read."""
    answer: bool | None = False
    for rule in objects(policy, "spec", direction.lower()):
        if not _port_allowed(rule, port):
            continue
        allowed = _peer_allowed(snapshot, policy, rule, direction, peer)
        if allowed:
            return True
        answer = None if allowed is None else answer
    return answer


def blocked_by(snapshot: Snapshot, pod: Object, direction: str, peer: Peer, port: Port) -> list[Object]:
    """The policies that together stop a connection of `pod` in a direction; empty when it passes or nothing certain can
    be said."""
    policies = selecting(snapshot, pod, direction)
    answers = [allows(snapshot, policy, direction, peer, port) for policy in policies]
    return policies if policies and all(answer is False for answer in answers) else []


def matches(selector: object, labels: Object) -> bool:
    """A label selector; an empty one matches everything."""
    if any(labels.get(key) != value for key, value in mapping(selector, "matchLabels").items()):
        return False
    for rule in objects(selector, "matchExpressions"):
        key, values, operator = text(rule, "key"), strings(rule, "values"), text(rule, "operator")
        if operator == "In" and labels.get(key) not in values:
            return False
        if operator == "NotIn" and key in labels and labels.get(key) in values:
            return False
        if (operator == "Exists" and key not in labels) or (operator == "DoesNotExist" and key in labels):
            return False
    return True


def _port_allowed(rule: Object, port: Port) -> bool:
    ports = objects(rule, "ports")
    if not ports:
        return True
    for entry in ports:
        wanted, last = pick(entry, "port"), number(entry, "endPort")
        if (text(entry, "protocol") or "TCP") != port.protocol:
            continue
        if wanted is None or wanted == port.number or (isinstance(wanted, str) and wanted in port.names):
            return True
        if isinstance(wanted, int) and last is not None and wanted <= port.number <= last:
            return True
    return False


def _peer_allowed(snapshot: Snapshot, policy: Object, rule: Object, direction: str, peer: Peer) -> bool | None:
    peers = objects(rule, "from" if direction == "Ingress" else "to")
    if not peers:
        return True
    answer: bool | None = False
    for entry in peers:
        allowed = _one_peer(snapshot, policy, entry, peer)
        if allowed:
            return True
        answer = None if allowed is None else answer
    return answer


def _one_peer(snapshot: Snapshot, policy: Object, entry: Object, peer: Peer) -> bool | None:
    if isinstance(pick(entry, "ipBlock"), dict):
        return _in_block(mapping(entry, "ipBlock"), peer.address)
    spaces, pods = pick(entry, "namespaceSelector"), pick(entry, "podSelector")
    if isinstance(spaces, dict):
        inside = _namespace_matches(snapshot, spaces, peer.namespace)
    else:
        inside = peer.namespace == text(policy, "metadata", "namespace")
    if not inside:
        return inside
    if not isinstance(pods, dict) or not pods:
        return inside
    if peer.pod is None:
        return None
    return inside if matches(pods, peer.labels) else False


def _namespace_matches(snapshot: Snapshot, selector: Object, namespace: str) -> bool | None:
    if not selector:
        return True
    found = snapshot.get("Namespace", None, namespace)
    if found is not None:
        return matches(selector, mapping(found, "metadata", "labels"))
    if set(mapping(selector, "matchLabels")) == {NAMESPACE_LABEL} and not objects(selector, "matchExpressions"):
        return text(selector, "matchLabels", NAMESPACE_LABEL) == namespace
    return None


def _in_block(block: Object, address: str) -> bool | None:
    try:
        where = ipaddress.ip_address(address)
        network = ipaddress.ip_network(text(block, "cidr"), strict=False)
        except_ = [ipaddress.ip_network(other, strict=False) for other in strings(block, "except")]
    except ValueError:
        return None
    return where in network and not any(where in other for other in except_)
