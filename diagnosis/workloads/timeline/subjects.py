"""What a timeline is about: the workloads of a scope with all that they make, and what they lean on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from diagnosis.workloads.events import Event
from diagnosis.workloads.fields import Object, mapping, text
from diagnosis.workloads.nodes import nodes_in
from diagnosis.workloads.references import references_of
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.services import services_in
from diagnosis.workloads.snapshot import Snapshot, bare, ref_of
from incidents.models import ObjectRef

_MAKERS = ("ReplicaSet", "Job", "ControllerRevision")
_NOT_THEIRS = ("kube-root-ca.crt",)  # the control plane's own, in every namespace


@dataclass
class Subjects:
    """`own` are the objects that the scope names, `made` what those make but pods (with the workload above each),
    `leaned_on` what pods are configured and reached by, `nodes` where they run."""

    own: dict[ObjectRef, Object] = field(default_factory=dict)
    made: list[tuple[ObjectRef, Object]] = field(default_factory=list)
    pods: list[tuple[ObjectRef, Object]] = field(default_factory=list)
    leaned_on: dict[ObjectRef, Object] = field(default_factory=dict)
    nodes: list[Object] = field(default_factory=list)


def subjects_of(scope: Scope) -> Subjects:
    """The subjects of a scope, each once, in a stable order."""
    snapshot, found = scope.snapshot, Subjects()
    for ref in dict.fromkeys(bare(ref) for ref in scope.workloads):
        item = snapshot.get(ref.kind, ref.namespace, ref.name)
        if item is not None and ref.kind != "Node":
            found.own[ref] = item
            found.made += [(ref, made) for kind in _MAKERS for made in snapshot.owned_by(item, kind)]
    found.pods = [(snapshot.workload_of(pod), pod) for pod in scope.pods]
    for item in (*_configured_by(snapshot, found), *services_in(scope), *_scaling(snapshot, found)):
        ref = ref_of(item)
        if ref not in found.own:
            found.leaned_on[ref] = item
    asked = [item for ref in scope.workloads if ref.kind == "Node" and (item := snapshot.get("Node", None, ref.name))]
    found.nodes = list({text(node, "metadata", "name"): node for node in (*nodes_in(scope), *asked)}.values())
    return found


def _configured_by(snapshot: Snapshot, found: Subjects) -> Iterator[Object]:
    """ConfigMaps, Secrets and claims that pods and templates refer to; of pods of one maker, one is enough."""
    holders: dict[object, Object] = {}
    for ref, item in found.own.items():
        template = mapping(mapping(item, "spec", "jobTemplate") or item, "spec", "template")
        holders[ref] = {"metadata": {"namespace": ref.namespace}, **template, "kind": "Pod"}
    for _, pod in found.pods:
        owners = snapshot.owners(pod)
        holders.setdefault(owners[0] if owners else ref_of(pod), pod)
    seen: set[tuple[str, str, str]] = set()
    for key, holder in holders.items():
        namespace = (key.namespace if isinstance(key, ObjectRef) else None) or ""
        for reference in references_of(holder):
            place = (reference.kind, namespace, reference.name)
            if place in seen or reference.name in _NOT_THEIRS:
                continue
            seen.add(place)
            read = snapshot.get(*place)
            if read is not None and text(read, "type") != "kubernetes.io/service-account-token":
                yield read


def _scaling(snapshot: Snapshot, found: Subjects) -> Iterator[Object]:
    for namespace in dict.fromkeys(ref.namespace for ref in found.own):
        for item in snapshot.all("HorizontalPodAutoscaler", namespace):
            kind, name = text(item, "spec", "scaleTargetRef", "kind"), text(item, "spec", "scaleTargetRef", "name")
            if ObjectRef(kind=kind, namespace=namespace, name=name) in found.own:
                yield item


def gone_pods(snapshot: Snapshot, found: Subjects) -> Iterator[tuple[ObjectRef, list[Event]]]:
    """Events of pods that are gone, with their workload: the controllers' own events name the pods that they made."""
    there = {(ref_of(pod).namespace or "", ref_of(pod).name) for _, pod in found.pods}
    for workload, item in (*found.own.items(), *found.made):
        ref = ref_of(item)
        for event in snapshot.events_for(ref.kind, ref.namespace, ref.name, text(item, "metadata", "uid")):
            if event.reason not in ("SuccessfulCreate", "SuccessfulDelete"):
                continue
            place = (ref.namespace or "", event.message.rpartition(": ")[2].strip())
            if place not in there and (events := snapshot.events_for("Pod", *place)):
                there.add(place)
                yield workload, events
