"""Services as data: their ports, the pods and templates that they select, and what an address means to a caller.

Sources: https://kubernetes.io/docs/concepts/services-networking/service/ (selection, ports, headless Services) and
…/dns-pod-service/ (which names resolve to what).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

from diagnosis.workloads.addresses import Address, addresses_of
from diagnosis.workloads.calls import Call, calls_in
from diagnosis.workloads.fields import Object, mapping, number, objects, pick, strings, text
from diagnosis.workloads.routes import ROUTES, services_behind
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.snapshot import Snapshot, ref_of
from incidents.models import ObjectRef

_TEMPLATED = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController")
_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class ServicePort:
    """One port of a Service. `target` is a number or the name of a container's port; `at` a JSON pointer."""

    name: str
    port: int
    target: int | str
    protocol: str
    at: str


@dataclass(frozen=True)
class Template:
    """What makes pods (or a pod that nothing makes): the labels that its pods carry, and how many it wants."""

    ref: ObjectRef
    labels: dict[str, str]
    spec: Object
    wanted: int
    item: Object
    labels_at: str


def ports_of(service: Object) -> list[ServicePort]:
    """The ports of a Service; a target that is not given is the port itself."""
    found = []
    for index, raw in enumerate(objects(service, "spec", "ports")):
        port, target = number(raw, "port"), pick(raw, "targetPort")
        if port is None:
            continue
        if isinstance(target, bool) or not isinstance(target, int | str) or target in ("", 0):
            target = port
        if isinstance(target, str) and target.isascii() and target.isdecimal() and len(target) < 6:
            target = int(target)
        found.append(
            ServicePort(text(raw, "name"), port, target, text(raw, "protocol") or "TCP", f"/spec/ports/{index}")
        )
    return found


def selector_of(service: Object) -> dict[str, str]:
    """The selector; empty for a Service whose endpoints something else writes."""
    if text(service, "spec", "type") == "ExternalName":
        return {}
    return _labels(pick(service, "spec", "selector"))


def headless(service: Object) -> bool:
    return text(service, "spec", "clusterIP") == "None"


class Services:
    """What is known of the Services of a snapshot, looked up once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._by_label: dict[tuple[str, str, str], list[Object]] = defaultdict(list)
        self._templates: dict[str, list[Template]] = {}
        self._templates_by_label: dict[str, dict[tuple[str, str], list[Template]]] = {}
        self._addresses: dict[int, list[Address]] = {}
        for pod in snapshot.all("Pod"):
            if text(pod, "metadata", "deletionTimestamp") or text(pod, "status", "phase") in _ENDED:
                continue
            for key, value in _labels(pick(pod, "metadata", "labels")).items():
                self._by_label[text(pod, "metadata", "namespace"), key, value].append(pod)

    def pods(self, service: Object) -> list[Object]:
        """The live pods that a Service selects."""
        return self.pods_with(text(service, "metadata", "namespace"), selector_of(service))

    def pods_with(self, namespace: str, selector: dict[str, str]) -> list[Object]:
        if not selector:
            return []
        lists = [self._by_label.get((namespace, key, value), []) for key, value in selector.items()]
        return [
            pod
            for pod in min(lists, key=len)
            if all(pick(pod, "metadata", "labels", key) == value for key, value in selector.items())
        ]

    def templates(self, namespace: str) -> list[Template]:
        """What makes pods in a namespace: workloads that nothing above them makes, and bare pods."""
        if namespace not in self._templates:
            found = []
            for kind in _TEMPLATED:
                for item in self.snapshot.all(kind, namespace):
                    if self.snapshot.workload_of(item) == ref_of(item):
                        found.append(_template(item))
            for pod in self.snapshot.all("Pod", namespace):
                if not objects(pod, "metadata", "ownerReferences") and text(pod, "status", "phase") not in _ENDED:
                    labels = _labels(pick(pod, "metadata", "labels"))
                    found.append(Template(ref_of(pod), labels, mapping(pod, "spec"), 1, pod, "/metadata/labels"))
            self._templates[namespace] = found
        return self._templates[namespace]

    def selected_templates(self, service: Object) -> list[Template]:
        """The workloads whose pods a Service selects or would select."""
        selector, namespace = selector_of(service), text(service, "metadata", "namespace")
        if not selector:
            return []
        if namespace not in self._templates_by_label:
            index: dict[tuple[str, str], list[Template]] = defaultdict(list)
            for template in self.templates(namespace):
                for pair in template.labels.items():
                    index[pair].append(template)
            self._templates_by_label[namespace] = index
        known = self._templates_by_label[namespace]
        return [
            template
            for template in min((known.get(pair, []) for pair in selector.items()), key=len)
            if all(template.labels.get(key) == value for key, value in selector.items())
        ]

    def meant_instead(self, service: Object) -> Template | None:
        """The workload that a Service is for although it selects another one's pods: it has the Service's name and its
        target port, no Service selects it, and the selected pods have neither."""
        selector, name = selector_of(service), text(service, "metadata", "name")
        namespace = text(service, "metadata", "namespace")
        selected = self.selected_templates(service)
        named = [
            template
            for template in self.templates(namespace)
            if template.ref.name == name and template not in selected and set(selector) <= set(template.labels)
        ]
        if not selected or len(named) != 1:
            return None
        targets = [port.target for port in ports_of(service)]
        if any(_declares(template, target) for template in selected for target in targets):
            return None
        meant = named[0]
        taken = any(meant in self.selected_templates(other) for other in self.snapshot.all("Service", namespace))
        return None if taken or not all(_declares(meant, target) for target in targets) else meant

    def addresses(self, pod: Object) -> list[Address]:
        """The addresses that a pod's containers are configured with."""
        if id(pod) not in self._addresses:
            self._addresses[id(pod)] = list(addresses_of(pod))
        return self._addresses[id(pod)]

    def resolve(self, namespace: str, host: str) -> Object | None:
        """The Service that a host means to a pod of a namespace: a cluster address, `name`, `name.namespace`, or
        `name.namespace.svc…`."""
        place = named_place(namespace, host)
        found = self.snapshot.get("Service", place[1], place[0]) if place else None
        return found or self._by_address.get(host)

    @cached_property
    def _by_address(self) -> dict[str, Object]:
        return {
            address: item
            for item in self.snapshot.all("Service")
            for address in (text(item, "spec", "clusterIP"), *strings(item, "spec", "clusterIPs"))
            if address and address != "None"
        }

    @cached_property
    def calls(self) -> list[Call]:
        """The failed connections that logs tell of, everywhere."""
        return calls_in(self.snapshot)

    def calls_to(self, service: Object) -> list[Call]:
        """Failed connections to a Service, by name or address."""
        return [call for call in self.calls if self.resolve(call.namespace, call.failure.host) is service]


_KNOWN: WeakKeyDictionary[Snapshot, Services] = WeakKeyDictionary()


def services_of(snapshot: Snapshot) -> Services:
    """The Services of a snapshot; a snapshot does not change, so it is looked through once."""
    if snapshot not in _KNOWN:
        _KNOWN[snapshot] = Services(snapshot)
    return _KNOWN[snapshot]


def services_in(scope: Scope) -> list[Object]:
    """The Services that a diagnosis is about: all of a namespace that is asked about, or the one that is, those that it
    depends on, and those in front of its pods."""
    asked = {ref for ref in (*scope.workloads, *([scope.target] if scope.target else [])) if ref.kind == "Service"}
    if scope.target is not None and scope.target.kind in ROUTES:
        route = scope.snapshot.get(scope.target.kind, scope.target.namespace, scope.target.name)
        for place, name in services_behind(route or {}, scope.snapshot.all("HTTPRoute")):
            asked.add(ObjectRef(kind="Service", namespace=place, name=name))
    names = {text(pod, "metadata", "name") for pod in scope.pods}
    spaces = {ref.namespace for ref in scope.workloads} | {text(pod, "metadata", "namespace") for pod in scope.pods}
    known, within = services_of(scope.snapshot), set(scope.workloads)
    found = []
    for service in scope.snapshot.all("Service"):
        namespace = text(service, "metadata", "namespace")
        if scope.covers(namespace) or ref_of(service) in asked:
            found.append(service)
        elif namespace in spaces and (scope.target is None or scope.target.kind != "Service"):
            inside = any(text(pod, "metadata", "name") in names for pod in known.pods(service))
            if inside or any(template.ref in within for template in known.selected_templates(service)):
                found.append(service)
    return found


def named_place(namespace: str, host: str) -> tuple[str, str] | None:
    """(Service, namespace) of a host that can be a Service's name: `name`, `name.namespace[.svc[.zone]]`."""
    labels = host.lower().rstrip(".").split(".")
    if not all(labels) or labels[-1].isdecimal():
        return None
    if len(labels) == 1:
        return labels[0], namespace
    if len(labels) == 2 or labels[2] == "svc":
        return labels[0], labels[1]
    return None


def _template(item: Object) -> Template:
    template = mapping(item, "spec", "template")
    wanted = number(item, "spec", "replicas")
    if text(item, "kind") == "DaemonSet":
        wanted = number(item, "status", "desiredNumberScheduled") or 0
    labels = _labels(pick(template, "metadata", "labels"))
    spec = mapping(template, "spec")
    return Template(ref_of(item), labels, spec, 1 if wanted is None else wanted, item, "/spec/template/metadata/labels")


def _declares(template: Template, target: int | str) -> bool:
    return any(
        target in (text(port, "name"), number(port, "containerPort"))
        for container in objects(template.spec, "containers")
        for port in objects(container, "ports")
    )


def _labels(value: object) -> dict[str, str]:
    return {key: item for key, item in mapping(value).items() if isinstance(item, str)}
