"""An Ingress or a Gateway's HTTPRoute that leads to a Service, a port or a TLS secret that does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.evidence import of_absence, of_object
from diagnosis.workloads.fields import Object, text
from diagnosis.workloads.near_miss import closest
from diagnosis.workloads.routes import ROUTES, Backend, backends_of
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


def find(scope: Scope) -> Iterable[Found]:
    snapshot = scope.snapshot
    about = {ref_of(item) for item in services_in(scope)}
    for kind in ROUTES:
        for item in snapshot.all(kind):
            namespace = text(item, "metadata", "namespace")
            asked = scope.covers(namespace) or scope.target == ref_of(item)
            for reference in backends_of(item):
                if asked or ObjectRef(kind="Service", namespace=reference.namespace, name=reference.name) in about:
                    yield from _checked(snapshot, item, reference)


def _checked(snapshot: Snapshot, item: Object, reference: Backend) -> Iterator[Found]:
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
        only = str(offered[0] or ports[0].port) if len(ports) == 1 else None
        meant = closest(reference.port, [str(port) for port in offered]) if isinstance(reference.port, str) else None
        facts = {"existing_ports": [str(port.port) for port in ports]}
        yield _found(item, reference, "port", str(reference.port), meant or only, [said, claim], facts)


def _found(
    item: Object,
    reference: Backend,
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


def _words(reference: Backend) -> str:
    port = f", port {reference.port}" if reference.port is not None else ""
    return f"{reference.kind} {reference.name}{port}"
