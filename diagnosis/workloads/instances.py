"""Instances of a software (a Milvus, a database, …): which pods belong together, by rules over labels.

A rule matches a pod when every one of its labels is there with its value: on the pod, or else on its workload, since a
pod template need not repeat them. A workload without a pod is known by its labels and those of its template. The first
rule that matches decides. The instance's name is the first of the rule's `name_from` keys that is there; without any it
is the workload's own name, never the pod's, so that a restarted pod stays in its instance. Two instances of one
namespace differ by name, equal names by namespace and rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from diagnosis.workloads.containers import containers_of
from diagnosis.workloads.fields import Object, mapping, text
from diagnosis.workloads.snapshot import Snapshot
from incidents.models import ObjectRef

_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
"""What the API takes as a label's value (empty ones say nothing). Anything else is not an identity."""

_SCALED = ("Deployment", "StatefulSet")

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
"""An image's tag, by the grammar of image references."""


@dataclass(frozen=True)
class Rule:
    """`labels` must all be there. `name_from`, `version_from`: keys of labels, or of the workload's annotations."""

    name: str
    labels: Mapping[str, str]
    name_from: Sequence[str] = ()
    version_from: Sequence[str] = ()


@dataclass(frozen=True)
class Member:
    """One pod of an instance."""

    pod: Object
    name: str
    workload: ObjectRef
    version: str | None

    @property
    def restarts(self) -> int:
        """Of all its containers together."""
        return sum(container.restarts for container in containers_of(self.pod))

    @property
    def ready(self) -> bool:
        own = [container for container in containers_of(self.pod) if container.section == "containers"]
        return bool(own) and all(container.ready for container in own)


@dataclass
class Instance:
    rule: str
    namespace: str
    name: str
    members: list[Member] = field(default_factory=list)
    idle: dict[ObjectRef, str | None] = field(default_factory=dict)
    """Workloads without a pod, such as those that are scaled to zero, and the version that their template is of."""

    @property
    def key(self) -> str:
        """What the record knows it by."""
        return f"{self.namespace}/{self.rule}/{self.name}"

    @property
    def versions(self) -> list[str]:
        told = [*(member.version for member in self.members), *self.idle.values()]
        return sorted({version for version in told if version})

    @property
    def workloads(self) -> list[ObjectRef]:
        return sorted({member.workload for member in self.members} | set(self.idle), key=str)


def instances_of(snapshot: Snapshot, rules: Sequence[Rule]) -> list[Instance]:
    """Every instance that the rules see in the snapshot's pods, and in workloads that have none, by namespace, rule and
    name."""
    found: dict[tuple[str, str, str], Instance] = {}
    busy = set()
    for pod in snapshot.all("Pod"):
        workload = snapshot.workload_of(pod)
        busy.add(workload)
        above = snapshot.get(workload.kind, workload.namespace, workload.name) or {}
        labels = _strings(above, "labels") | _strings(pod, "labels")
        rule = next((rule for rule in rules if _matches(rule, labels)), None)
        if rule is None:
            continue
        named = _strings(above, "annotations") | labels
        namespace = text(pod, "metadata", "namespace")
        key = namespace, rule.name, _first(rule.name_from, named) or workload.name
        instance = found.setdefault(key, Instance(rule.name, namespace, key[2]))
        version = _first(rule.version_from, named) or _tag(pod)
        instance.members.append(Member(pod, text(pod, "metadata", "name"), workload, version))
    for kind in _SCALED:
        for item in snapshot.all(kind):
            namespace, template = text(item, "metadata", "namespace"), mapping(item, "spec", "template")
            labels = _strings(item, "labels") | _strings(template, "labels")
            workload = ObjectRef(kind=kind, namespace=namespace, name=text(item, "metadata", "name"))
            rule = next((rule for rule in rules if _matches(rule, labels)), None)
            if rule is None or workload in busy:
                continue
            named = _strings(item, "annotations") | labels
            key = namespace, rule.name, _first(rule.name_from, named) or workload.name
            instance = found.setdefault(key, Instance(rule.name, namespace, key[2]))
            instance.idle[workload] = template_version(item, rule)
    return [found[key] for key in sorted(found)]


def template_version(workload: Object, rule: Rule) -> str | None:
    """The version that new pods of the workload would have."""
    template = mapping(workload, "spec", "template")
    named = _strings(workload, "annotations") | _strings(workload, "labels") | _strings(template, "labels")
    return _first(rule.version_from, named) or _tag(template)


def _matches(rule: Rule, labels: Mapping[str, str]) -> bool:
    return bool(rule.labels) and all(labels.get(key) == value for key, value in rule.labels.items())


def _first(keys: Sequence[str], values: Mapping[str, str]) -> str | None:
    return next((value for key in keys if _VALUE.fullmatch(value := values.get(key, ""))), None)


def _strings(item: Object, part: str) -> dict[str, str]:
    return {key: value for key, value in mapping(item, "metadata", part).items() if isinstance(value, str)}


def _tag(pod: Object) -> str | None:
    """The tag of the first ordinary container's image."""
    image = next((one.image for one in containers_of(pod) if one.section == "containers"), "")
    last = image.partition("@")[0].rpartition("/")[2]
    tag = last.partition(":")[2]
    return tag if _TAG.fullmatch(tag) else None
