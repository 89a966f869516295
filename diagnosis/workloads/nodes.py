"""Nodes as they report themselves: conditions, the lease that the kubelet renews, and the pods on them.

Sources: https://kubernetes.io/docs/reference/node/node-status/ (conditions, heartbeats; a lease is renewed every 10 s
and a node counts as lost after 40 s) and https://kubernetes.io/docs/concepts/architecture/leases/.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from diagnosis.workloads.fields import Object, objects, text, when
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.snapshot import Snapshot, ref_of
from incidents.models import ObjectRef

STALE = timedelta(seconds=40)
"""Without a renewal for so long, the node controller gives a node up (kube-controller-manager's default)."""


def nodes_in(scope: Scope) -> Iterator[Object]:
    """The nodes that a diagnosis is about: those that its pods are or were on; all where everything is asked about."""
    used = {text(pod, "spec", "nodeName") for pod in scope.pods}
    for node in scope.snapshot.all("Node"):
        asked = scope.target is not None and scope.target == ref_of(node)
        if asked or scope.namespaces is None or text(node, "metadata", "name") in used:
            yield node


def condition_at(node: Object, kind: str) -> tuple[Object, str]:
    """A condition with its JSON pointer; both empty where the node does not report it."""
    for index, item in enumerate(objects(node, "status", "conditions")):
        if item.get("type") == kind:
            return item, f"/status/conditions/{index}"
    return {}, ""


def stale_lease(snapshot: Snapshot, namespace: str, name: str) -> tuple[Object, timedelta] | None:
    """A lease that its holder has stopped renewing, and for how long; None for a fresh one and for none at all."""
    lease = snapshot.get("Lease", namespace, name)
    renewed = when(lease, "spec", "renewTime")
    if lease is None or renewed is None or snapshot.observed_at - renewed <= STALE:
        return None
    return lease, snapshot.observed_at - renewed


def fresh_lease(snapshot: Snapshot, namespace: str, name: str) -> Object | None:
    """A lease that is being renewed: its holder lives."""
    lease = snapshot.get("Lease", namespace, name)
    renewed = when(lease, "spec", "renewTime")
    return lease if lease is not None and renewed is not None and snapshot.observed_at - renewed <= STALE else None


def workloads_on(scope: Scope, name: str) -> list[ObjectRef]:
    """The workloads of the scope with a pod on a node."""
    pods = [pod for pod in scope.pods if text(pod, "spec", "nodeName") == name]
    return list(dict.fromkeys(scope.snapshot.workload_of(pod) for pod in pods))
