"""An Ingress or a Gateway's HTTPRoute that leads to a Service, a port or a TLS secret that does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.evidence import of_absence, of_object
from diagnosis.workloads.fields import Object, mapping, number, objects, text
from diagnosis.workloads.near_miss import closest
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.services import ports_of, services_in
from diagnosis.workloads.snapshot import Snapshot, ref_of
from incidents.models import CauseClass, Fact, ObjectRef

NAME = "missing_backend"
READS = ("Service", "Ingress")
RULED_OUT = "routes: every Service, port and certificate that an Ingress or HTTPRoute names is there"
CAUSES = {
    CauseClass.BACKEND_MISSING: Documented(
        "An Ingress, HTTPRoute or Gateway names a Service, a port of one, or a TLS secret that does not exist.",
        "The route's reference, and what there is instead.",
        "None from here: the route is corrected by a person; where one name is clearly the nearest, it is named.",
    ),
}


@dataclass(frozen=True)
class _Reference:
    """One reference of a route. `port` is a number or a name of the Service's ports, None where none is needed."""

    kind: str
    namespace: str
    name: str
    port: int | str | None
    at: str


def find(scope: Scope) -> Iterable[Found]:
    snapshot = scope.snapshot
    about = {ref_of(item) for item in services_in(scope)}
    for kind, references in (("Ingress", _of_ingress), ("HTTPRoute", _of_route), ("Gateway", _of_gateway)):
        for item in snapshot.all(kind):
            namespace = text(item, "metadata", "namespace")
            asked = scope.covers(namespace) or scope.target == ref_of(item)
            for reference in references(item):
                if asked or ObjectRef(kind="Service", namespace=reference.namespace, name=reference.name) in about:
                    yield from _checked(snapshot, item, reference)


def _of_ingress(item: Object) -> Iterator[_Reference]:
    """networking.k8s.io/v1 (`service.name`, `service.port`) and its beta (`serviceName`, `servicePort`)."""
    namespace = text(item, "metadata", "namespace")
    backends = [
        ("/spec/defaultBackend", mapping(item, "spec", "defaultBackend")),
        ("/spec/backend", mapping(item, "spec", "backend")),
    ]
    for index, rule in enumerate(objects(item, "spec", "rules")):
        for order, path in enumerate(objects(rule, "http", "paths")):
            backends.append((f"/spec/rules/{index}/http/paths/{order}/backend", mapping(path, "backend")))
    for at, backend in backends:
        name = text(backend, "service", "name") or text(backend, "serviceName")
        port: int | str | None = (
            number(backend, "service", "port", "number")
            or number(backend, "servicePort")
            or text(backend, "service", "port", "name")
            or text(backend, "servicePort")
            or None
        )
        if name:
            yield _Reference("Service", namespace, name, port, at)
    for index, entry in enumerate(objects(item, "spec", "tls")):
        if secret := text(entry, "secretName"):
            yield _Reference("Secret", namespace, secret, None, f"/spec/tls/{index}")


def _of_route(item: Object) -> Iterator[_Reference]:
    namespace = text(item, "metadata", "namespace")
    for index, rule in enumerate(objects(item, "spec", "rules")):
        for at, backend in enumerate(objects(rule, "backendRefs")):
            name = text(backend, "name")
            if name and (text(backend, "kind") or "Service") == "Service" and not text(backend, "group"):
                place = text(backend, "namespace") or namespace
                yield _Reference(
                    "Service", place, name, number(backend, "port"), f"/spec/rules/{index}/backendRefs/{at}"
                )


def _of_gateway(item: Object) -> Iterator[_Reference]:
    namespace = text(item, "metadata", "namespace")
    for index, listener in enumerate(objects(item, "spec", "listeners")):
        for at, secret in enumerate(objects(listener, "tls", "certificateRefs")):
            name = text(secret, "name")
            if name and (text(secret, "kind") or "Secret") == "Secret" and not text(secret, "group"):
                place = text(secret, "namespace") or namespace
                yield _Reference("Secret", place, name, None, f"/spec/listeners/{index}/tls/certificateRefs/{at}")


def _checked(snapshot: Snapshot, item: Object, reference: _Reference) -> Iterator[Found]:
    now, (kind, name) = snapshot.observed_at, (text(item, "kind"), text(item, "metadata", "name"))
    said = Claim(f"{kind} {name} leads to {_words(reference)}", [of_object(item, reference.at, now)])
    found = snapshot.get(reference.kind, reference.namespace, reference.name)
    if found is None:
        if snapshot.lacks(reference.kind, reference.namespace, reference.name) is not True:
            return
        here = [text(other, "metadata", "name") for other in snapshot.all(reference.kind, reference.namespace)]
        shown = of_absence(reference.kind, reference.namespace, reference.name, here, now)
        missing = Claim(f"There is no {reference.kind} {reference.name} in namespace {reference.namespace}", [shown])
        part = "service" if reference.kind == "Service" else "secret"
        meant = closest(reference.name, here)
        facts: dict[str, Fact] = {"existing_services": here[:20]} if part == "service" else {}
        yield _found(item, reference, part, reference.name, meant, [said, missing], facts)
    elif reference.kind == "Service" and reference.port is not None:
        ports = ports_of(found)
        offered = [port.port if isinstance(reference.port, int) else port.name for port in ports]
        if reference.port in offered or not ports:
            return
        shown = of_object(found, "/spec/ports", now)
        there = ", ".join(f"{port.port}{f' ({port.name})' if port.name else ''}" for port in ports)
        claim = Claim(f"Service {reference.name} has port {there}, not {reference.port}", [shown])
        only = str(offered[0]) if len(offered) == 1 and offered[0] else None
        meant = closest(reference.port, [str(port) for port in offered]) if isinstance(reference.port, str) else None
        facts = {"existing_ports": [str(port.port) for port in ports]}
        yield _found(item, reference, "port", str(reference.port), meant or only, [said, claim], facts)


def _found(
    item: Object,
    reference: _Reference,
    part: str,
    observed: str,
    meant: str | None,
    claims: list[Claim],
    facts: dict[str, Fact],
) -> Found:
    kind, name = text(item, "kind"), text(item, "metadata", "name")
    what = f"port {observed} of Service {reference.name}" if part == "port" else f"{reference.kind} {observed}"
    all_facts: dict[str, Fact] = {
        "field": part,
        "at": reference.at,
        "backend": reference.name,
        "backend_namespace": reference.namespace,
        "observed": observed,
        "suggested": meant,
        **facts,
    }
    if meant is not None:
        all_facts["suggested_from"] = "the nearest of what there is"
    nearest = f"; there is {meant}" if meant else ""
    return Found(
        CauseClass.BACKEND_MISSING,
        ref_of(item),
        0.95,
        f"{kind} {name} leads to {what}, which does not exist{nearest}.",
        claims,
        facts=all_facts,
        subject=reference.at,
        next_steps=[
            f"Correct {kind} {name}: {meant} instead of {observed}"
            if meant
            else f"Make {what}, or correct {kind} {name}"
        ],
    )


def _words(reference: _Reference) -> str:
    port = f", port {reference.port}" if reference.port is not None else ""
    return f"{reference.kind} {reference.name}{port}"
