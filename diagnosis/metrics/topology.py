"""Who leans on whom by a cluster's objects: where calls are not measured, and beside those that are.

A workload leans on what its environment, arguments or ConfigMaps name as a Service, and on the node that runs it; a
Service leans on the workloads that it selects. The workload of a pod is the top of its owner references.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from diagnosis.metrics.edges import Edge
from diagnosis.metrics.subject import Owners, subject_of
from diagnosis.workloads.addresses import addresses_of
from diagnosis.workloads.config_addresses import map_addresses
from diagnosis.workloads.fields import text
from diagnosis.workloads.services import Services, Template, services_of
from diagnosis.workloads.snapshot import Snapshot
from incidents.models import ObjectRef

_MOST_PODS = 0.5


@dataclass(frozen=True)
class Topology:
    """`owners` is (namespace, pod) to the pod's workload."""

    edges: list[Edge] = field(default_factory=list)
    owners: dict[tuple[str, str], ObjectRef] = field(default_factory=dict)


def topology(snapshot: Snapshot, namespace: str) -> Topology:
    """The edges and owners of one namespace. A Service of another namespace that was not read gives no edge."""
    services = services_of(snapshot)
    edges: dict[Edge, None] = {}
    for template in services.templates(namespace):
        edges |= dict.fromkeys(_references(services, namespace, template))
    for service in snapshot.all("Service", namespace):
        name = f"{namespace}/{text(service, 'metadata', 'name')}"
        edges |= dict.fromkeys(
            Edge(name, f"{namespace}/{chosen.ref.name}") for chosen in services.selected_templates(service)
        )
    owners: dict[tuple[str, str], ObjectRef] = {}
    placed: dict[tuple[str, str], str] = {}
    for pod in snapshot.all("Pod", namespace):
        key = namespace, text(pod, "metadata", "name")
        owners[key], placed[key] = snapshot.workload_of(pod), text(pod, "spec", "nodeName")
    edges |= dict.fromkeys(beside_nodes(placed, owners))
    return Topology([edge for edge in edges if edge.caller != edge.callee], owners)


def beside_nodes(placed: Mapping[tuple[str, str], str], owners: Owners) -> list[Edge]:
    """From each workload to the node that most of its pods are on. `placed` is (namespace, pod) to the node."""
    nodes: dict[str, Counter[str]] = {}
    for (namespace, pod), node in placed.items():
        entity = subject_of({"namespace": namespace, "pod": pod}, owners).entity
        nodes.setdefault(entity, Counter())[node] += 1
    return [
        Edge(entity, f"node/{node}")
        for entity, counted in nodes.items()
        for node, pods in counted.items()
        if node and pods > _MOST_PODS * counted.total()
    ]


def _references(services: Services, namespace: str, template: Template) -> Iterator[Edge]:
    caller = f"{namespace}/{template.ref.name}"
    holder = {"metadata": {"namespace": namespace}, "spec": template.spec}
    named = [address.host for address in addresses_of(holder)]
    named += [found.address.host for found in map_addresses(services.snapshot, holder)]
    for host in dict.fromkeys(named):
        service = services.resolve(namespace, host)
        if service is None:
            continue
        place = text(service, "metadata", "namespace")
        yield Edge(caller, f"{place}/{text(service, 'metadata', 'name')}")
        for chosen in services.selected_templates(service):
            yield Edge(caller, f"{place}/{chosen.ref.name}")
