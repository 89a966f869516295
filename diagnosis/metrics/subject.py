"""What a series is about: a workload, one of its pods, a node, or a call from one workload to another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from diagnosis.workloads.metrics import ALIASES
from incidents.models import ObjectRef

Owners = Mapping[tuple[str, str], ObjectRef]
"""(namespace, pod) to the workload at the top of its owners."""

_KINDS = {
    "deployment": "Deployment",
    "statefulset": "StatefulSet",
    "daemonset": "DaemonSet",
    "job_name": "Job",
    "cronjob": "CronJob",
}
_CALLERS = ("source_workload", "source_canonical_service", "source_app", "client", "caller", "source_service")
_CALLEES = (
    "destination_workload", "destination_canonical_service", "destination_service_name", "destination_app",
    "server", "callee", "destination_service",
)  # fmt: skip
_CALLEES_NAMESPACES = ("destination_workload_namespace", "destination_service_namespace")
_OF_CALLS = ("caller", "callee")
_TELLS: dict[str, list[tuple[str, int]]] = {}
"""Label to (what it tells, its place among those that tell the same)."""
for _role, _names in (
    *((role, ALIASES[role]) for role in ("namespace", "pod", "node", "workload", "service", "container")),
    ("caller", _CALLERS),
    ("callee", _CALLEES),
    ("callee_namespace", _CALLEES_NAMESPACES),
):
    for _place, _name in enumerate(_names):
        _TELLS.setdefault(_name, []).append((_role, _place))
_NOBODY = ("", "unknown", "user")
# names that the ReplicaSet, the DaemonSet and the StatefulSet controllers make: the alphabet is that of
# k8s.io/apimachinery/pkg/util/rand, which has no vowels and none of 0, 1 and 3
_OF_REPLICA_SET = re.compile(r"^(.+)-[bcdfghjklmnpqrstvwxz2456789]{6,10}-[bcdfghjklmnpqrstvwxz2456789]{5}$")
_OLD_REPLICA_SET = re.compile(r"^(.+)-[a-z0-9]{8,10}-[a-z0-9]{5}$")
_OF_STATEFUL_SET = re.compile(r"^(.+)-\d{1,4}$")
_OF_OTHERS = re.compile(r"^(.+)-(?=[a-z0-9]*\d)[bcdfghjklmnpqrstvwxz2456789]{5}$")


@dataclass(frozen=True)
class Subject:
    """Empty strings for what the labels do not say. `caller` and `callee` are those of a call's measurement."""

    namespace: str = ""
    workload: str = ""
    pod: str = ""
    container: str = ""
    node: str = ""
    service: str = ""
    caller: str = ""
    callee: str = ""
    callee_namespace: str = ""
    kind: str = "Workload"

    @property
    def entity(self) -> str:
        """The name that is ranked: of a call the callee's, then the workload's, the service's, the node's. Empty when
        nothing is said; such series are about the system as a whole."""
        if self.callee:
            return _joined(self.callee_namespace or self.namespace, self.callee)
        if self.workload or self.service:
            return _joined(self.namespace, self.workload or self.service)
        return f"node/{self.node.lower()}" if self.node else ""

    @property
    def calling(self) -> str:
        """The caller's entity, of a call's measurement; else empty."""
        return _joined(self.namespace, self.caller) if self.caller else ""

    @property
    def ranked_kind(self) -> str:
        """The kind of the object that is ranked."""
        if self.callee:
            return "Workload"
        if self.workload:
            return self.kind
        return "Service" if self.service else "Node"

    @property
    def ref(self) -> ObjectRef:
        """The object that is ranked."""
        kind, namespace = self.ranked_kind, self.namespace or None
        if self.callee:
            return ObjectRef(kind=kind, namespace=self.callee_namespace or namespace, name=self.callee)
        if self.workload or self.service:
            return ObjectRef(kind=kind, namespace=namespace, name=self.workload or self.service)
        return ObjectRef(kind=kind, name=self.node)


def subject_of(labels: Mapping[str, str], owners: Owners | None = None) -> Subject:
    """The subject by the labels' usual names; the workload of a pod by its owner, else by its name's form."""
    found = _roles(labels)
    namespace, pod, node = found.get("namespace", ""), found.get("pod", ""), found.get("node", "")
    workload, service = found.get("workload", ""), found.get("service", "")
    kind = next((_KINDS[key] for key in _KINDS if workload and labels.get(key) == workload), "Workload")
    if pod:
        owner = (owners or {}).get((namespace, pod))
        if owner is not None:
            workload, kind = owner.name, owner.kind
        elif not workload:
            workload = workload_of_pod(pod)
    callee, caller = found.get("callee", ""), found.get("caller", "")
    if callee:
        inside = found.get("callee_namespace", namespace)
        outside = labels.get("source_workload_namespace") or namespace
        return Subject(outside, workload, pod, "", node, service, caller, callee.split(".")[0], inside, kind)
    return Subject(namespace, workload, pod, found.get("container", ""), node, service, kind=kind)


def _roles(labels: Mapping[str, str]) -> dict[str, str]:
    """What each label tells; of several that tell the same, the first of its names."""
    first: dict[str, int] = {}
    found: dict[str, str] = {}
    for key, value in labels.items():
        for role, place in _TELLS.get(key, ()):
            if value and place < first.get(role, len(_TELLS)) and (value not in _NOBODY or role not in _OF_CALLS):
                first[role], found[role] = place, value
    return found


@lru_cache(maxsize=4096)
def workload_of_pod(pod: str) -> str:
    """The workload's name in a pod's, by the form that its controller gives it; the pod's own when it has none."""
    for form in (_OF_REPLICA_SET, _OLD_REPLICA_SET, _OF_STATEFUL_SET, _OF_OTHERS):
        if found := form.match(pod):
            return found[1]
    return pod


def _joined(namespace: str, name: str) -> str:
    return (f"{namespace}/{name}" if namespace else name).lower()
