"""Trouble that is no pod's: Services without endpoints, claims, routes, autoscalers, nodes, deletions that do not end.

Symptoms, as in `health`: none of these says why. Each names what it rests on, so that a Service whose pods fail is no
second fault.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

from diagnosis.workloads.contract import Claim, quoted
from diagnosis.workloads.evidence import of_absence, of_event, of_object
from diagnosis.workloads.fields import Object, condition, mapping, objects, pick, strings, text, when
from diagnosis.workloads.references import references_of
from diagnosis.workloads.routes import ROUTES, backends_of
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.services import Services, selector_of, services_in, services_of
from diagnosis.workloads.snapshot import Snapshot, ref_of
from diagnosis.workloads.trouble import Trouble
from incidents.models import ObjectRef, Severity

_STUCK = timedelta(minutes=5)
_SETTLING = timedelta(minutes=1)
_ROUTE_CONDITIONS = {
    "Accepted": "accepted",
    "ResolvedRefs": "able to resolve its references",
    "Programmed": "programmed",
}
_PRESSURES = ("DiskPressure", "MemoryPressure", "PIDPressure", "NetworkUnavailable")


def surroundings(scope: Scope) -> Iterator[Trouble]:
    """Symptoms of what is within the scope and no workload."""
    services = services_in(scope)
    broken: set[ObjectRef] = set()
    for service in services:
        if (trouble := _of_service(scope, service)) is not None:
            broken.add(trouble.object)
            yield trouble
    yield from _of_routes(scope, broken)
    yield from _of_claims(scope)
    yield from _of_autoscalers(scope)
    yield from _of_nodes(scope)
    yield from _of_deletions(scope)


def _of_service(scope: Scope, service: Object) -> Trouble | None:
    if not selector_of(service) or text(service, "metadata", "deletionTimestamp"):
        return None
    snapshot, known = scope.snapshot, services_of(scope.snapshot)
    name, ref, now = text(service, "metadata", "name"), ref_of(service), snapshot.observed_at
    if not snapshot.looked_at("Pod", ref.namespace):
        return None
    pods = known.pods(service)
    ready = [pod for pod in pods if condition(pod, "Ready").get("status") == "True"]
    addresses = has_endpoints(snapshot, service)
    behind = tuple(dict.fromkeys(snapshot.workload_of(pod) for pod in pods))
    if ready and addresses is not False:
        return None
    if not ready and pods and all(_age(snapshot, pod) < _SETTLING for pod in pods):
        troubled = {id(container.pod) for container in scope.troubled}
        if not any(id(pod) in troubled for pod in pods):  # they are starting
            return None
    if ready:
        if _age(snapshot, ready[0]) < _SETTLING or _age(snapshot, service) < _SETTLING:
            return None
        evidence = [of_object(service, "/spec/selector", now)]
        endpoints = snapshot.get("Endpoints", ref.namespace, name)
        evidence += [of_object(endpoints, "/subsets", now)] if endpoints and endpoints.get("subsets") else []
        return Trouble(
            ref, Claim(f"Service {name} has no endpoints although {len(ready)} of its pods are ready", evidence)
        )
    if pods:
        said = f"Service {name} has no ready endpoint: none of its {len(pods)} pods is ready"
        return Trouble(ref, Claim(said, [of_object(service, "/spec/selector", now)], Severity.WARNING), behind)
    templates = known.selected_templates(service)
    if _needs_no_pods(scope, service, known):
        return None
    said = f"Service {name} selects no pod"
    evidence = [of_object(service, "/spec/selector", now)]
    return Trouble(ref, Claim(said, evidence, Severity.WARNING), tuple(template.ref for template in templates))


def has_endpoints(snapshot: Snapshot, service: Object) -> bool | None:
    """Whether a Service has a ready address; None where nobody looked."""
    namespace, name = text(service, "metadata", "namespace"), text(service, "metadata", "name")
    endpoints = snapshot.get("Endpoints", namespace, name)
    if endpoints is not None:
        return any(objects(subset, "addresses") for subset in objects(endpoints, "subsets"))
    return None


def _needs_no_pods(scope: Scope, service: Object, known: Services) -> bool:
    """Whether nothing is meant to run behind it now: scaled to zero, or the pods of jobs that are done."""
    templates = known.selected_templates(service)
    if templates:
        return all(template.wanted == 0 for template in templates)
    selector, namespace = selector_of(service), text(service, "metadata", "namespace")
    jobs = [item for kind in ("Job", "CronJob") for item in scope.snapshot.all(kind, namespace)]
    labels = [
        pick(item, "spec", "template", "metadata", "labels")
        or pick(item, "spec", "jobTemplate", "spec", "template", "metadata", "labels")
        for item in jobs
    ]
    return any(isinstance(own, dict) and selector.items() <= own.items() for own in labels)


def _of_routes(scope: Scope, broken: set[ObjectRef]) -> Iterator[Trouble]:
    snapshot, now = scope.snapshot, scope.snapshot.observed_at
    for kind in ROUTES:
        for item in snapshot.all(kind):
            ref = ref_of(item)
            if not (scope.covers(ref.namespace or "") or ref == scope.target):
                continue
            yield from _refused_routes(scope, item)
            backends = {(b.namespace, b.name): b for b in backends_of(item) if b.kind == "Service"}
            for (namespace, name), backend in sorted(backends.items()):
                service = ObjectRef(kind="Service", namespace=namespace, name=name)
                evidence = [of_object(item, backend.at, now)]
                if snapshot.lacks("Service", namespace, name) is True:
                    names = [text(found, "metadata", "name") for found in snapshot.all("Service", namespace)]
                    evidence.append(of_absence("Service", namespace, name, names, now))
                    said = f"{kind} {ref.name} leads to Service {name}, which does not exist"
                    yield Trouble(ref, Claim(said, evidence))
                elif service in broken:
                    said = f"{kind} {ref.name} leads to Service {name}, which has no ready endpoint"
                    yield Trouble(ref, Claim(said, evidence, Severity.WARNING), (service,))


def _refused_routes(scope: Scope, item: Object) -> Iterator[Trouble]:
    """What a Gateway's controller says of it, and of the routes that it has: it is not accepted, or its references
    are not resolved (https://gateway-api.sigs.k8s.io/guides/implementers/#standard-status-fields-and-conditions)."""
    kind, name = text(item, "kind"), text(item, "metadata", "name")
    places = [("/status", mapping(item, "status"))]
    for field in ("parents", "listeners"):
        places += [(f"/status/{field}/{index}", part) for index, part in enumerate(objects(item, "status", field))]
    for at, part in places:
        for index, entry in enumerate(objects(part, "conditions")):
            if entry.get("type") in _ROUTE_CONDITIONS and entry.get("status") == "False":
                evidence = [of_object(item, f"{at}/conditions/{index}", scope.snapshot.observed_at)]
                if text(entry, "message"):
                    evidence.append(of_object(item, f"{at}/conditions/{index}/message", scope.snapshot.observed_at))
                more = f": {quoted(text(entry, 'message'))}" if text(entry, "message") else ""
                said = f"{kind} {name} is not {_ROUTE_CONDITIONS[text(entry, 'type')]} ({text(entry, 'reason')}){more}"
                yield Trouble(ref_of(item), Claim(said, evidence, Severity.WARNING))
                return


def _of_claims(scope: Scope) -> Iterator[Trouble]:
    snapshot, now = scope.snapshot, scope.snapshot.observed_at
    claims = [item for item in snapshot.all("PersistentVolumeClaim") if _pending(item)]
    if not claims:
        return
    used: dict[tuple[str, str], None] = {}
    for pod in scope.pods:
        for reference in references_of(pod):
            if reference.kind == "PersistentVolumeClaim":
                used[text(pod, "metadata", "namespace"), reference.name] = None
    for item in claims:
        ref = ref_of(item)
        needed = (ref.namespace or "", ref.name) in used
        if not (scope.covers(ref.namespace or "") or needed or ref == scope.target):
            continue
        events = snapshot.events_for("PersistentVolumeClaim", ref.namespace, ref.name, text(item, "metadata", "uid"))
        warnings = [event for event in events if event.warning]
        if (
            not needed
            and not warnings
            and _waits_for_a_pod(
                snapshot, item, events_say=any(event.reason == "WaitForFirstConsumer" for event in events)
            )
        ):
            continue
        if _age(snapshot, item) < _SETTLING and not warnings:
            continue
        phase = text(item, "status", "phase")
        evidence = [of_object(item, "/status/phase", now)]
        said = f"PersistentVolumeClaim {ref.name} is {phase}"
        if events:
            evidence.append(of_event(events[-1], now))
            said += f": {quoted(events[-1].message)}"
        yield Trouble(ref, Claim(said, evidence, Severity.WARNING))


def _pending(claim: Object) -> bool:
    return text(claim, "status", "phase") in ("Pending", "Lost") and not text(claim, "metadata", "deletionTimestamp")


def _waits_for_a_pod(snapshot: Snapshot, claim: Object, *, events_say: bool) -> bool:
    """Whether a claim that no pod uses is rightly unbound: its class binds when a pod comes."""
    name = text(claim, "spec", "storageClassName")
    mode = text(snapshot.get("StorageClass", None, name), "volumeBindingMode") if name else ""
    return events_say or mode == "WaitForFirstConsumer"


def _of_autoscalers(scope: Scope) -> Iterator[Trouble]:
    snapshot, now = scope.snapshot, scope.snapshot.observed_at
    for item in snapshot.all("HorizontalPodAutoscaler"):
        ref = ref_of(item)
        kind, name = text(item, "spec", "scaleTargetRef", "kind"), text(item, "spec", "scaleTargetRef", "name")
        scaled = ObjectRef(kind=kind or "Deployment", namespace=ref.namespace, name=name)
        if not (scope.covers(ref.namespace or "") or scaled in scope.workloads or ref == scope.target):
            continue
        if _age(snapshot, item) < _SETTLING:
            continue
        for entry, pointer in _autoscaler_conditions(item):
            failing = entry.get("type") in ("ScalingActive", "AbleToScale") and entry.get("status") == "False"
            if failing and entry.get("reason") != "ScalingDisabled":
                evidence = [of_object(item, pointer, now)]
                said = f"HorizontalPodAutoscaler {ref.name} cannot scale {kind} {name} ({text(entry, 'reason')})"
                yield Trouble(ref, Claim(said, evidence, Severity.WARNING), (scaled,) if name else ())
                break


def _autoscaler_conditions(item: Object) -> Iterator[tuple[Object, str]]:
    """Conditions with where they stand: autoscaling/v1 has them as JSON in an annotation."""
    for index, entry in enumerate(objects(item, "status", "conditions")):
        yield entry, f"/status/conditions/{index}"
    key = "autoscaling.alpha.kubernetes.io/conditions"
    try:
        noted = json.loads(text(item, "metadata", "annotations", key) or "[]")
    except (ValueError, RecursionError):
        return
    for entry in noted if isinstance(noted, list) else []:
        if isinstance(entry, dict):
            yield entry, f"/metadata/annotations/{key.replace('/', '~1')}"


def _of_nodes(scope: Scope) -> Iterator[Trouble]:
    """Nodes that run pods of the scope (every node, when everything is asked about)."""
    snapshot, now = scope.snapshot, scope.snapshot.observed_at
    running = {text(pod, "spec", "nodeName") for pod in scope.pods if text(pod, "status", "phase") != "Succeeded"}
    for node in snapshot.all("Node"):
        ref = ref_of(node)
        if not (scope.namespaces is None or ref.name in running or ref == scope.target):
            continue
        for index, entry in enumerate(objects(node, "status", "conditions")):
            kind, status = text(entry, "type"), text(entry, "status")
            bad = status == "True" if kind in _PRESSURES else kind == "Ready" and status != "True"
            if bad:
                evidence = [of_object(node, f"/status/conditions/{index}", now)]
                word = "is not ready" if kind == "Ready" else f"has {kind}"
                said = f"Node {ref.name} {word} ({text(entry, 'reason') or status})"
                yield Trouble(ref, Claim(said, evidence, Severity.WARNING))
                break


def _of_deletions(scope: Scope) -> Iterator[Trouble]:
    """Objects that should have been gone for minutes and are held by a finalizer, the namespace itself included."""
    snapshot, now = scope.snapshot, scope.snapshot.observed_at
    asked = {scope.target, *scope.workloads}
    for kind in sorted(snapshot.kinds()):
        if kind in ("Pod", "Event"):  # pods have a grace period, and `health` looks at them
            continue
        for item in snapshot.all(kind):
            since = when(item, "metadata", "deletionTimestamp")
            if since is None or now - since < _STUCK:
                continue
            ref = ref_of(item)
            inside = scope.covers(ref.namespace or (ref.name if kind == "Namespace" else "")) or ref in asked
            if not inside and kind != "Namespace":
                continue
            if not inside and ref.name not in {workload.namespace for workload in scope.workloads}:
                continue
            held = strings(item, "metadata", "finalizers") or strings(item, "spec", "finalizers")
            evidence = [of_object(item, "/metadata/deletionTimestamp", now)]
            if strings(item, "metadata", "finalizers"):
                evidence.append(of_object(item, "/metadata/finalizers", now))
            by = f", held by {', '.join(held[:3])}" if held else ""
            yield Trouble(ref, Claim(f"{ref} is being deleted since {since:%Y-%m-%d %H:%M:%S}{by}", evidence))


def _age(snapshot: Snapshot, item: Object) -> timedelta:
    created = when(item, "metadata", "creationTimestamp")
    return snapshot.observed_at - created if created else _STUCK
