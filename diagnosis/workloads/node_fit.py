"""What a node lacks for a pod, as far as the objects tell: labels, taints, cordon, room.

Rules: kubernetes.io/docs/concepts/scheduling-eviction (assign-pod-node, taint-and-toleration). Room is what the node
offers less what pods that were read ask for; when not all pods were read it is an upper bound.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from diagnosis.workloads.fields import Object, decimal, mapping, objects, pick, quantity, strings, text
from diagnosis.workloads.snapshot import Snapshot

Used = Mapping[str, Mapping[str, float]]
MATCH = ("selector", "affinity", "volume")
"""Lacks that say that the pod does not belong on the node at all."""


@dataclass(frozen=True)
class Lack:
    """One thing. `kind`: selector, affinity, volume, cordon, taint, resource. `at` is where the node shows it."""

    kind: str
    words: str
    at: str
    what: str = ""
    value: str = ""
    effect: str = ""
    have: float | None = None
    need: float | None = None


@dataclass(frozen=True)
class Fit:
    """A node and what it lacks."""

    node: Object
    lacks: list[Lack]

    @property
    def name(self) -> str:
        return text(self.node, "metadata", "name")

    @cached_property
    def belongs(self) -> bool:
        return not any(lack.kind in MATCH for lack in self.lacks)

    def has(self, kind: str) -> bool:
        return any(lack.kind == kind for lack in self.lacks)


def fits(snapshot: Snapshot, pod: Object, used: Used | None = None) -> list[Fit]:
    """Every node that was read with what it lacks for the pod, the nearest first. `used` is `used_of(snapshot)`, for
    callers that ask more than once."""
    used = used_of(snapshot) if used is None else used
    need = requests_of(pod)
    volumes = list(volume_terms(snapshot, pod))
    found = []
    for node in snapshot.all("Node"):
        name = text(node, "metadata", "name")
        found.append(
            Fit(node, [*_match(node, pod, volumes), *_shut(node, pod), *_room(node, need, used.get(name, {}))])
        )
    return sorted(found, key=lambda fit: (sum(4 if lack.kind in MATCH else 1 for lack in fit.lacks), fit.name))


def requests_of(pod: Object) -> dict[str, float]:
    """What a pod asks of its node: the sum over its containers, or its largest init container; and one pod."""
    total: dict[str, float] = defaultdict(float)
    for container in objects(pod, "spec", "containers"):
        for resource, amount in _requests(container).items():
            total[resource] += amount
    for container in objects(pod, "spec", "initContainers"):
        for resource, amount in _requests(container).items():
            total[resource] = max(total[resource], amount)
    for resource, value in mapping(pod, "spec", "overhead").items():
        total[resource] += quantity(value) or 0.0
    return {**total, "pods": 1.0}


def _requests(container: Object) -> dict[str, float]:
    given = {**mapping(container, "resources", "limits"), **mapping(container, "resources", "requests")}
    return {str(name): amount for name, value in given.items() if (amount := quantity(value)) is not None}


def used_of(snapshot: Snapshot) -> Used:
    """What the pods that were read ask for, by node and resource."""
    used: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for pod in snapshot.all("Pod"):
        node = text(pod, "spec", "nodeName")
        if node and text(pod, "status", "phase") not in ("Succeeded", "Failed"):
            for resource, amount in requests_of(pod).items():
                used[node][resource] += amount
    return used


def _match(node: Object, pod: Object, volumes: list[tuple[str, Object]]) -> Iterator[Lack]:
    labels = mapping(node, "metadata", "labels")
    for key, value in mapping(pod, "spec", "nodeSelector").items():
        if labels.get(key) != value:
            has = f"has {key}={labels[key]}" if key in labels else f"has no label {key}"
            yield Lack("selector", f"{has}, asked is {key}={value}", "/metadata/labels", key, str(value))
    required = pick(pod, "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    if isinstance(required, dict) and not _terms_match(node, required):
        yield Lack("affinity", "does not match the required node affinity", "/metadata/labels")
    for name, terms in volumes:
        if not _terms_match(node, terms):
            yield Lack("volume", f"is not where volume {name} can be used", "/metadata/labels", name)


def _shut(node: Object, pod: Object) -> Iterator[Lack]:
    tolerations = objects(pod, "spec", "tolerations")
    cordon = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    if pick(node, "spec", "unschedulable") is True and not _tolerated(cordon, tolerations):
        yield Lack("cordon", "is cordoned", "/spec/unschedulable")
    for taint in objects(node, "spec", "taints"):
        key, value, effect = text(taint, "key"), text(taint, "value"), text(taint, "effect")
        if effect == "PreferNoSchedule" or key == cordon["key"] or _tolerated(taint, tolerations):
            continue
        shown = f"{key}={value}:{effect}" if value else f"{key}:{effect}"
        yield Lack("taint", f"has taint {shown}, which the pod does not tolerate", "/spec/taints", key, value, effect)


def _room(node: Object, need: dict[str, float], used: Mapping[str, float]) -> Iterator[Lack]:
    offered = mapping(node, "status", "allocatable")
    if not offered:
        return
    for resource, amount in sorted(need.items()):
        have = (quantity(offered.get(resource)) or 0.0) - used.get(resource, 0.0)
        if amount > 0 and amount > have:
            words = f"has {shown(resource, max(have, 0.0))} of {resource} left, asked is {shown(resource, amount)}"
            yield Lack("resource", words, "/status/allocatable", resource, have=max(have, 0.0), need=amount)


def shown(resource: str, amount: float) -> str:
    """An amount as a quantity: bytes in Mi, cores in millicores."""
    if resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        return f"{int(amount) >> 20}Mi"
    return f"{round(amount * 1000)}m" if resource == "cpu" else f"{amount:g}"


def _tolerated(taint: Object, tolerations: list[Object]) -> bool:
    for toleration in tolerations:
        if text(toleration, "effect") not in ("", text(taint, "effect")):
            continue
        key = text(toleration, "key")
        if text(toleration, "operator") == "Exists":
            if key in ("", text(taint, "key")):
                return True
        elif key == text(taint, "key") and text(toleration, "value") == text(taint, "value"):
            return True
    return False


def _terms_match(node: Object, required: Object) -> bool:
    terms = objects(required, "nodeSelectorTerms")
    labels = {str(key): str(value) for key, value in mapping(node, "metadata", "labels").items()}
    fields = {"metadata.name": text(node, "metadata", "name")}
    return any(
        (objects(term, "matchExpressions") or objects(term, "matchFields"))
        and all(_expression(labels, expression) for expression in objects(term, "matchExpressions"))
        and all(_expression(fields, expression) for expression in objects(term, "matchFields"))
        for term in terms
    )


def _expression(values: dict[str, str], expression: Object) -> bool:
    key, operator, wanted = text(expression, "key"), text(expression, "operator"), strings(expression, "values")
    value = values.get(key)
    if operator == "In":
        return value in wanted
    if operator == "NotIn":
        return value not in wanted
    if operator in ("Exists", "DoesNotExist"):
        return (value is not None) is (operator == "Exists")
    left, right = decimal(value), decimal(wanted[0] if wanted else None)
    if left is None or right is None:
        return False
    return left > right if operator == "Gt" else left < right


def volume_terms(snapshot: Snapshot, pod: Object) -> Iterator[tuple[str, Object]]:
    """The node affinity of volumes that the pod's claims are bound to."""
    for volume in objects(pod, "spec", "volumes"):
        name = text(volume, "persistentVolumeClaim", "claimName")
        claim = snapshot.get("PersistentVolumeClaim", text(pod, "metadata", "namespace"), name) if name else None
        bound = snapshot.get("PersistentVolume", None, text(claim, "spec", "volumeName"))
        required = pick(bound, "spec", "nodeAffinity", "required")
        if isinstance(required, dict):
            yield text(bound, "metadata", "name"), required
