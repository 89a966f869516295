"""A container that is configured with an address that cannot be right: a Service that does not exist, is in another
namespace, or has another port; or plain HTTP where TLS is spoken.

A configured address proves nothing by itself (a program may never use it). It counts where the container is in trouble
or its log tells of this address; else only where what was meant is plain to see, with less confidence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from diagnosis.workloads.addresses import Address, addresses_of
from diagnosis.workloads.calls import Call
from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_absence, of_object
from diagnosis.workloads.fields import Object, mapping, objects, pick, strings, text
from diagnosis.workloads.logs import LINE_CHARS, LogLine
from diagnosis.workloads.near_miss import closest
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.services import headless, named_place, ports_of, services_of
from diagnosis.workloads.snapshot import ref_of
from incidents.models import CauseClass, Fact

NAME = "wrong_address"
READS = ("Pod", "Service")
RULED_OUT = "configured addresses: every Service that a container's environment or arguments name is there"
CAUSES = {
    CauseClass.WRONG_DEPENDENCY_ADDRESS: Documented(
        "A container is configured with the address of a Service that does not exist, is in another namespace, or does "
        "not have this port.",
        "The variable or argument with the address, the Services that there are, the log that tells of the address; "
        "without such a line only where the Service that was meant is plain to see.",
        "The variable is set to the address that was meant, where the observation leaves one. In a ConfigMap a person "
        "corrects it: other workloads may read the same key. Values of Secrets are never read, not for their hosts "
        "either, as whoever sees a diagnosis need not be allowed to: see dependency_unavailable for what is asked.",
    ),
    CauseClass.SERVICE_WRONG_PROTOCOL: Documented(
        "Both ends are there and speak differently: TCP and UDP, or plain HTTP to a port that speaks TLS.",
        "The Service's port beside the container's declared one, or the log line in which one side names the other's "
        "protocol, and the address it is configured with.",
        "The protocol of the Service's port is set to the declared one; the scheme of the address to the one spoken.",
    ),
}

_LAST_LINES = 60


@dataclass
class Wrong:
    """What is wrong with one address. `plain` tells whether what was meant is plain to see."""

    part: str
    why: str
    claims: list[Claim]
    suggested: str | None = None
    plain: bool = False
    facts: dict[str, Fact] = field(default_factory=dict)


def find(scope: Scope) -> Iterable[Found]:
    troubled = {(id(container.pod), container.name) for container in scope.troubled}
    by_name = {(id(container.pod), container.name): container for container in scope.containers}
    calls = {(call.log.pod, call.log.container): call for call in services_of(scope.snapshot).calls}
    for pod in {id(container.pod): container.pod for container in scope.containers}.values():
        for address in services_of(scope.snapshot).addresses(pod):
            container = by_name.get((id(pod), address.container))
            if container is None:
                continue
            call = calls.get((container.pod_name, container.name))
            told = call if call is not None and call.failure.host == address.host.lower() else None
            if told is not None and told.failure.how in ("tls", "plain"):
                yield _scheme(scope, container, address, told)
                continue
            wrong = wrong_of(scope, pod, address)
            if wrong is None:
                continue
            line = line_about(scope, container, address, told)
            in_trouble = (id(pod), container.name) in troubled
            if line is not None and (in_trouble or told is not None):
                yield _found(scope, container, address, wrong, line, 0.95 if told is not None else 0.85)
            elif wrong.plain:
                yield _found(scope, container, address, wrong, None, 0.85 if in_trouble else 0.75)


def line_about(scope: Scope, container: Container, address: Address, call: Call | None) -> Claim | None:
    """Where the container's log tells of the address, near its end."""
    if call is not None:
        return Claim(f"Its log says {quoted(call.line.text)}", [call.evidence(scope.snapshot)])
    log = scope.log(container)
    for index in range(len(log.lines) - 1, max(-1, len(log.lines) - _LAST_LINES), -1) if log else ():
        if log is not None and re.search(rf"(?<![\w.-]){re.escape(address.host)}(?![\w-])", log.lines[index][:2000]):
            line = LogLine(log.lines[index].strip()[:LINE_CHARS], index + 1, 2)
            return Claim(f"Its log says {quoted(line.text)}", [log.evidence(line, scope.snapshot.observed_at)])
    return None


def wrong_of(scope: Scope, pod: Object, address: Address) -> Wrong | None:
    snapshot, now = scope.snapshot, scope.snapshot.observed_at
    namespace = text(pod, "metadata", "namespace")
    place = named_place(namespace, address.host)
    if place is None or address.host.lower() in ("localhost", *_aliases(pod)):
        return None
    name, space = place
    service = snapshot.get("Service", space, name)
    if service is not None:
        return _wrong_port(scope, service, address)
    short = "." not in address.host
    if not short and ".svc" not in address.host and not _is_namespace(scope, space):
        return None  # a name outside the cluster
    if not short and snapshot.lacks("Namespace", None, space):
        evidence = of_absence("Namespace", "", space, _names(snapshot.all("Namespace")), now)
        there = [item for item in snapshot.all("Service") if _name(item) == name]
        if len(there) == 1:
            real = text(there[0], "metadata", "namespace")
            claims = [
                Claim(f"There is no namespace {space}", [evidence]),
                Claim(f"Service {name} is in namespace {real}", [of_object(there[0], "/metadata/name", now)]),
            ]
            moved = address.host.replace(f".{space}", f".{real}", 1)
            return Wrong("namespace", f"there is no namespace {space}, it is in {real}", claims, moved, True)
        return Wrong(
            "namespace", f"there is no namespace {space}", [Claim(f"There is no namespace {space}", [evidence])]
        )
    if snapshot.lacks("Service", space, name) is not True:
        return None
    here = _names(snapshot.all("Service", space))
    claims = [
        Claim(f"There is no Service {name} in namespace {space}", [of_absence("Service", space, name, here, now)])
    ]
    elsewhere = [text(item, "metadata", "namespace") for item in snapshot.all("Service") if _name(item) == name]
    if elsewhere:
        found = snapshot.get("Service", elsewhere[0], name) or {}
        claims.append(
            Claim(f"Service {name} is in namespace {elsewhere[0]}", [of_object(found, "/metadata/name", now)])
        )
        suggested = f"{name}.{elsewhere[0]}.svc" if len(elsewhere) == 1 else None
        return Wrong("namespace", f"Service {name} is in namespace {', '.join(elsewhere)}", claims, suggested, True)
    meant = closest(name, here)
    if meant is not None:
        item = snapshot.get("Service", space, meant) or {}
        claims.append(Claim(f"There is a Service {meant}", [of_object(item, "/metadata/name", now)]))
        suggested = address.host.replace(name, meant, 1) if name in address.host else meant
        return Wrong("host", f"there is no Service {name}, there is {meant}", claims, suggested, True)
    return Wrong("host", f"there is no Service {name} in namespace {space}", claims)


def _wrong_port(scope: Scope, service: Object, address: Address) -> Wrong | None:
    if address.port is None or headless(service) or text(service, "spec", "type") == "ExternalName":
        return None
    ports = ports_of(service)
    offered = [port.port for port in ports]
    if not offered or address.port in offered or (not address.explicit and address.scheme not in ("http", "https", "")):
        return None
    shown = of_object(service, "/spec/ports", scope.snapshot.observed_at)
    there = ", ".join(map(str, offered))
    name = _name(service)
    claim = Claim(f"Service {name} offers port {there}, not {address.port}", [shown])
    suggested = str(offered[0]) if len(offered) == 1 else None
    return Wrong(
        "port", f"Service {name} has port {there}", [claim], suggested, True, {"service_ports": list(map(str, offered))}
    )


def _found(
    scope: Scope, container: Container, address: Address, wrong: Wrong, line: Claim | None, confidence: float
) -> Found:
    now, owner = scope.snapshot.observed_at, scope.owner(container)
    variable, value, at = address.variable, address.value, address.at
    if wrong.part == "port" and address.port_variable is not None and address.port_at is not None:
        variable, value, at = address.port_variable, str(address.port), address.port_at
    where = f"variable {variable}" if variable else "an argument"
    target = f"{address.host}:{address.port}" if address.port else address.host
    claims = [
        Claim(f"Container {container.name} has {target} in {where}", [of_object(container.pod, at, now)]),
        *wrong.claims,
    ]
    claims += [line] if line is not None else []
    observed = str(address.port) if wrong.part == "port" else address.host
    facts: dict[str, Fact] = {
        "field": wrong.part,
        "variable": variable,
        "value": value,
        "dependency": address.host,
        "dependency_port": address.port,
        "observed": observed,
        "suggested": wrong.suggested,
        **wrong.facts,
    }
    suggested = wrong.suggested if variable != address.variable else _corrected(address, wrong)
    if suggested is not None:
        facts |= {"suggested_value": suggested, "suggested_from": wrong.why}
    step = (
        f"Set {where} of container {container.name} to {suggested}"
        if suggested
        else (f"Say which address {where} of container {container.name} should have")
    )
    return Found(
        CauseClass.WRONG_DEPENDENCY_ADDRESS,
        owner,
        confidence,
        f"Container {container.name} of {owner.kind} {owner.name} is configured with {target} ({where}): {wrong.why}.",
        claims,
        facts=facts,
        place=container.pod_name,
        subject=variable or at,
        next_steps=[step],
    )


def _corrected(address: Address, wrong: Wrong) -> str | None:
    """The whole value with the correction, where the part to correct stands in it once."""
    if wrong.suggested is None:
        return None
    old, new = address.host, wrong.suggested
    if wrong.part == "port":
        if not address.explicit:
            old, new = address.host, f"{address.host}:{wrong.suggested}"
        else:
            old, new = f"{address.host}:{address.port}", f"{address.host}:{wrong.suggested}"
    return address.value.replace(old, new, 1) if address.value.count(old) == 1 else None


def _scheme(scope: Scope, container: Container, address: Address, call: Call) -> Found:
    now, owner = scope.snapshot.observed_at, scope.owner(container)
    speaks, wanted = ("TLS", "https") if call.failure.how == "tls" else ("plain HTTP", "http")
    swapped = address.value.replace(f"{address.scheme}://", f"{wanted}://", 1)
    facts: dict[str, Fact] = {
        "field": "scheme",
        "variable": address.variable,
        "value": address.value,
        "dependency": address.host,
        "dependency_port": address.port,
        "observed": address.scheme,
        "suggested": wanted,
        "suggested_from": "what the other side answered",
    }
    if address.scheme in ("http", "https") and address.scheme != wanted:
        facts["suggested_value"] = swapped
    service = services_of(scope.snapshot).resolve(container.namespace, address.host)
    return Found(
        CauseClass.SERVICE_WRONG_PROTOCOL,
        owner,
        0.9,
        f"Container {container.name} of {owner.kind} {owner.name} speaks {address.scheme} to {address.host}, "
        f"which speaks {speaks}.",
        [
            Claim(
                f"The log of container {container.name} says {quoted(call.line.text)}", [call.evidence(scope.snapshot)]
            ),
            Claim(f"Container {container.name} is configured with it", [of_object(container.pod, address.at, now)]),
        ],
        facts=facts | ({"dependency_service": ref_of(service).name} if service else {}),
        place=container.pod_name,
        subject=address.variable or address.at,
        next_steps=[f"Let {container.name} speak {wanted} to {address.host}"],
    )


def _aliases(pod: Object) -> set[str]:
    """Names that a pod resolves by itself, whatever Services there are."""
    found = {text(pod, "spec", "hostname").lower(), text(pod, "metadata", "name").lower()}
    found |= {name.lower() for entry in objects(pod, "spec", "hostAliases") for name in strings(entry, "hostnames")}
    if strings(mapping(pod, "spec", "dnsConfig"), "searches") or pick(pod, "spec", "dnsPolicy") in ("None", "Default"):
        found |= {address.host.lower() for address in addresses_of(pod)}  # other domains may have the name
    return found


def _is_namespace(scope: Scope, name: str) -> bool:
    return scope.snapshot.get("Namespace", None, name) is not None or name in scope.snapshot.namespaces()


def _names(items: list[Object]) -> list[str]:
    return [_name(item) for item in items]


def _name(item: Object) -> str:
    return text(item, "metadata", "name")
