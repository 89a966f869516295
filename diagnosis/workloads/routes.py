"""What routes lead to: the Services, ports and TLS secrets that an Ingress, an HTTPRoute or a Gateway names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from diagnosis.workloads.fields import Object, mapping, number, objects, text

ROUTES = ("Ingress", "HTTPRoute", "Gateway")


@dataclass(frozen=True)
class Backend:
    """One reference of a route. `port` is a number or a name of the Service's ports, None where none is needed."""

    kind: str
    namespace: str
    name: str
    port: int | str | None
    at: str


def backends_of(item: Object) -> Iterator[Backend]:
    """Everything that a route of any of these kinds names; nothing for other kinds."""
    kind = text(item, "kind")
    if kind == "Ingress":
        yield from _of_ingress(item)
    elif kind == "HTTPRoute":
        yield from _of_route(item)
    elif kind == "Gateway":
        yield from _of_gateway(item)


def services_behind(item: Object, routes: Iterable[Object]) -> list[tuple[str, str]]:
    """(namespace, name) of the Services that a route leads to; a Gateway by those of `routes` that attach to it."""
    if text(item, "kind") == "Gateway":
        attached = [route for route in routes if _place(item) in parents_of(route)]
        return sorted({service for route in attached for service in services_behind(route, ())})
    return sorted({(backend.namespace, backend.name) for backend in backends_of(item) if backend.kind == "Service"})


def parents_of(route: Object) -> list[tuple[str, str]]:
    """(namespace, name) of the Gateways that an HTTPRoute attaches itself to."""
    here = text(route, "metadata", "namespace")
    return [
        (text(parent, "namespace") or here, text(parent, "name"))
        for parent in objects(route, "spec", "parentRefs")
        if text(parent, "kind") in ("", "Gateway")
    ]


def _place(item: Object) -> tuple[str, str]:
    return text(item, "metadata", "namespace"), text(item, "metadata", "name")


def _of_ingress(item: Object) -> Iterator[Backend]:
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
            yield Backend("Service", namespace, name, port, at)
    for index, entry in enumerate(objects(item, "spec", "tls")):
        if secret := text(entry, "secretName"):
            yield Backend("Secret", namespace, secret, None, f"/spec/tls/{index}")


def _of_route(item: Object) -> Iterator[Backend]:
    namespace = text(item, "metadata", "namespace")
    for index, rule in enumerate(objects(item, "spec", "rules")):
        for at, backend in enumerate(objects(rule, "backendRefs")):
            name = text(backend, "name")
            if name and (text(backend, "kind") or "Service") == "Service" and not text(backend, "group"):
                place = text(backend, "namespace") or namespace
                yield Backend("Service", place, name, number(backend, "port"), f"/spec/rules/{index}/backendRefs/{at}")


def _of_gateway(item: Object) -> Iterator[Backend]:
    namespace = text(item, "metadata", "namespace")
    for index, listener in enumerate(objects(item, "spec", "listeners")):
        for at, secret in enumerate(objects(listener, "tls", "certificateRefs")):
            name = text(secret, "name")
            if name and (text(secret, "kind") or "Secret") == "Secret" and not text(secret, "group"):
                place = text(secret, "namespace") or namespace
                yield Backend("Secret", place, name, None, f"/spec/listeners/{index}/tls/certificateRefs/{at}")
