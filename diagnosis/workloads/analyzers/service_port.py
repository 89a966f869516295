"""A Service that sends to a port on which its pods do not listen, or in a protocol that they do not speak.

A named target must be declared by a container, or the Service has no address for it: that is certain. A declared number
only informs, so for a number the rule asks where the program is seen to listen: declared ports, ports that a successful
probe asks, and what its log says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from diagnosis.workloads.calls import Call
from diagnosis.workloads.containers import Container, containers_of
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, number, objects, text
from diagnosis.workloads.logs import Log, LogLine
from diagnosis.workloads.near_miss import closest
from diagnosis.workloads.probes import listening_in, port_number, probe_of
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.services import ServicePort, headless, ports_of, services_in, services_of
from diagnosis.workloads.snapshot import ref_of
from incidents.models import CauseClass, Fact

NAME = "service_port"
READS = ("Service", "Pod")
RULED_OUT = "service ports: every port of a Service leads to one that its pods declare or are seen to listen on"
CAUSES = {
    CauseClass.SERVICE_WRONG_TARGET_PORT: Documented(
        "The Service sends to a port (a number or a name) that no container of its pods has.",
        "The Service's port, the ports that the containers declare, those that a successful probe asks or the program "
        "names in its log, and what callers say.",
        "targetPort is set to the port that was meant, where the observation leaves one.",
    ),
}


@dataclass
class _Listens:
    """Where the pods behind a Service listen, as far as it shows. Ports as (name, number, protocol)."""

    declared: list[tuple[str, int, str]] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)  # asked by a probe that succeeds, or named by the program
    claims: list[Claim] = field(default_factory=list)

    def numbers(self) -> set[int]:
        return {number for _, number, _ in self.declared} | self.seen


def find(scope: Scope) -> Iterable[Found]:
    known = services_of(scope.snapshot)
    for service in services_in(scope):
        pods = known.pods(service)
        if not pods or known.meant_instead(service) is not None:
            continue  # it selects nobody, or another workload's pods: that is told of its selector
        listens = _listens(scope, pods)
        calls = known.calls_to(service)
        ports = ports_of(service)
        wrong = [
            port for port in ports if _wrong(port, listens) and not (headless(service) and port.target == port.port)
        ]
        for port in wrong:
            failing = [call for call in calls if call.failure.port in (None, port.port)]
            if isinstance(port.target, int) and len(wrong) < len(ports) and not failing:
                continue  # one of several, undeclared, and nobody complains: a port may be open without being declared
            yield _target(scope, service, port, listens, failing)
        for port in ports:
            if port not in wrong:
                yield from _protocol(scope, service, port, listens, calls)


def _wrong(port: ServicePort, listens: _Listens) -> bool:
    if isinstance(port.target, str):
        return port.target not in {name for name, _, _ in listens.declared}
    return bool(listens.numbers()) and port.target not in listens.numbers()


def _listens(scope: Scope, pods: list[Object]) -> _Listens:
    found = _Listens()
    now = scope.snapshot.observed_at
    for index, pod in enumerate(pods[:20]):
        for container in containers_of(pod):
            for at, raw in enumerate(objects(container.spec, "ports")):
                value = number(raw, "containerPort")
                if value is None:
                    continue
                entry = (text(raw, "name"), value, text(raw, "protocol") or "TCP")
                if entry not in found.declared:
                    found.declared.append(entry)
                    shown = of_object(pod, f"{container.spec_at}/ports/{at}", now)
                    if index < 2:
                        found.claims.append(Claim(f"Container {container.name} declares port {_shown(entry)}", [shown]))
            _by_probe(scope, container, found)
            _by_log(scope, container, found)
    return found


def _by_probe(scope: Scope, container: Container, found: _Listens) -> None:
    """A container with a readiness probe that is ready listens where the probe asks."""
    for kind in ("readiness", "liveness", "startup"):
        probe = probe_of(container.spec, kind)
        if probe is None or probe.handler not in ("httpGet", "tcpSocket", "grpc") or not container.ready:
            continue
        if kind != "readiness" and container.restarts:
            continue  # it may be this probe that ends it
        if (value := port_number(probe.port, container.ports())) is not None and value not in found.seen:
            found.seen.add(value)
            shown = of_object(container.pod, f"{container.spec_at}/{kind}Probe", scope.snapshot.observed_at)
            found.claims.append(Claim(f"Container {container.name} answers its {kind} probe on port {value}", [shown]))


def _by_log(scope: Scope, container: Container, found: _Listens) -> None:
    content = scope.snapshot.log(container.namespace, container.pod_name, container.name, False)
    if not content:
        return
    log = Log.of(container.namespace, container.pod_name, container.name, False, content)
    for told in listening_in(log.lines)[-3:]:
        if told.port not in found.seen and not told.loopback:
            found.seen.add(told.port)
            shown = log.evidence(LogLine(told.line, told.number, 2), scope.snapshot.observed_at)
            found.claims.append(Claim(f"The log of container {container.name} says {quoted(told.line)}", [shown]))


def _target(scope: Scope, service: Object, port: ServicePort, listens: _Listens, calls: list[Call]) -> Found:
    now, name = scope.snapshot.observed_at, text(service, "metadata", "name")
    suggested = _suggestion(port, listens)
    named = isinstance(port.target, str)
    what = f"a port named {port.target}" if named else f"port {port.target}"
    does = "declares" if named else "listens on"
    claims = [
        Claim(f"Port {port.port} of Service {name} leads to {what}", [of_object(service, port.at, now)]),
        *listens.claims[:6],
        *(
            Claim(f"{call.workload} cannot connect: {quoted(call.line.text)}", [call.evidence(scope.snapshot)])
            for call in calls[:2]
        ),
    ]
    if len(claims) == 1:  # nothing is declared
        pod = services_of(scope.snapshot).pods(service)[0]
        claims.append(Claim("No container of its pods declares a port", [of_object(pod, "/spec/containers", now)]))
    confidence = 0.97 if named else 0.93 if calls else 0.88 if listens.seen else 0.75
    facts: dict[str, Fact] = {
        "field": "targetPort",
        "port": port.port,
        "port_name": port.name or None,
        "observed": port.target,
        "target_port": port.target,
        "container_ports": [_shown(entry) for entry in listens.declared],
    }
    if suggested is not None:
        facts |= {"suggested_target_port": suggested, "suggested_from": "the ports that its pods declare or listen on"}
    there = ", ".join(_shown(entry) for entry in listens.declared) or ", ".join(map(str, sorted(listens.seen)))
    step = (
        f"Set targetPort of port {port.port} of Service {name} to {suggested}"
        if suggested is not None
        else f"Say which port of its pods Service {name} should send to ({there or 'they declare none'})"
    )
    return Found(
        CauseClass.SERVICE_WRONG_TARGET_PORT,
        ref_of(service),
        confidence,
        f"Service {name} sends port {port.port} to {what}, which no container of its pods {does}"
        f"{f' (they have {there})' if there else ''}.",
        claims,
        facts=facts,
        subject=port.at,
        explains=list(dict.fromkeys(call.workload for call in calls)),
        next_steps=[step],
    )


def _suggestion(port: ServicePort, listens: _Listens) -> int | str | None:
    """The port that was meant, if one is left: by a slip of its name, by name, by number, or the only one."""
    declared = [entry for entry in listens.declared if entry[2] == port.protocol]
    by_name = next((name for name, _, _ in declared if name and name == port.name), None)
    by_number = next((name or value for name, value, _ in declared if value == port.port), None)
    slip = (
        closest(str(port.target), [name for name, _, _ in declared if name]) if isinstance(port.target, str) else None
    )
    for value in (slip, by_name, by_number):
        if value is not None:
            return value
    if len(declared) == 1:
        return declared[0][0] or declared[0][1]
    return next(iter(listens.seen)) if not declared and len(listens.seen) == 1 else None


def _protocol(
    scope: Scope, service: Object, port: ServicePort, listens: _Listens, calls: list[Call]
) -> Iterable[Found]:
    now, name = scope.snapshot.observed_at, text(service, "metadata", "name")
    same = [entry for entry in listens.declared if port.target in (entry[0], entry[1])]
    if same and port.protocol not in {protocol for _, _, protocol in same}:
        declared = same[0][2]
        failing = [call for call in calls if call.failure.port in (None, port.port)]
        yield Found(
            CauseClass.SERVICE_WRONG_PROTOCOL,
            ref_of(service),
            0.92,
            f"Port {port.port} of Service {name} is {port.protocol}, its pods speak {declared} on {_shown(same[0])}.",
            [
                Claim(f"Port {port.port} of Service {name} is {port.protocol}", [of_object(service, port.at, now)]),
                *(claim for claim in listens.claims if claim.text.endswith(f"declares port {_shown(same[0])}")),
            ],
            facts={
                "field": "protocol",
                "port": port.port,
                "target_port": port.target,
                "observed": port.protocol,
                "suggested_protocol": declared,
                "suggested_from": "the protocol that the container declares for this port",
            },
            subject=port.at,
            explains=list(dict.fromkeys(call.workload for call in failing)),
            next_steps=[f"Set the protocol of port {port.port} of Service {name} to {declared}"],
        )


def _shown(entry: tuple[str, int, str]) -> str:
    name, value, protocol = entry
    return f"{value}/{protocol}{f' ({name})' if name else ''}"
