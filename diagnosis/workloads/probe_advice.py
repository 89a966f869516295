"""What is wrong with a failing probe, and what would be right, as far as it was observed.

Sources of a suggestion, best first: the same probe in the revision that was healthy, another probe of the same
container that works, the program's own log line about its port, the only port that the container declares.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as default
from datetime import timedelta

from diagnosis.workloads.containers import Container, template_containers
from diagnosis.workloads.contract import Claim, quoted
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import decimal, number, text
from diagnosis.workloads.logs import Log, LogLine
from diagnosis.workloads.probes import (
    KINDS,
    Listening,
    Probe,
    Symptom,
    failures_of,
    listening_in,
    port_number,
    probe_of,
)
from diagnosis.workloads.restarts import Restart
from diagnosis.workloads.rollout import healthy_before
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Fact, Severity

_LONGEST_DELAY = 300
_SHORTEST_DELAY = 60


@dataclass(frozen=True)
class Advice:
    """`field` None: the probe is not called wrong, `why` says what is seen instead."""

    field: str | None
    why: str
    confidence: float
    suggested: Fact = None
    suggested_from: str | None = None
    claims: list[Claim] = default(default_factory=list)
    more: dict[str, Fact] = default(default_factory=dict)
    cause: CauseClass | None = None


def advise(scope: Scope, container: Container, probe: Probe, symptom: Symptom, killed: Restart | None) -> Advice:
    """Decide by the symptom what the probe has wrong."""
    if probe.handler == "grpc" and symptom is Symptom.SPEAKS_HTTP:
        return Advice("handler", "the port speaks HTTP/1.1, the probe asks by gRPC", 0.93, "httpGet",
                      "the program answered in HTTP/1.1")  # fmt: skip
    if symptom is Symptom.NO_HEALTH_SERVICE:
        return Advice("handler", "the program has no gRPC health service", 0.92)
    if symptom is Symptom.UNKNOWN_SERVICE:
        asked = text(probe.raw, "grpc", "service")
        return Advice("service", f"the program's health service knows no service {asked or '(without a name)'}", 0.9)
    if symptom in (Symptom.SPEAKS_HTTP, Symptom.SPEAKS_HTTPS):
        right = "HTTP" if symptom is Symptom.SPEAKS_HTTP else "HTTPS"
        return Advice("scheme", f"the program {symptom.value}, the probe asks {probe.scheme}", 0.95, right,
                      f"the program answered in {right}")  # fmt: skip
    named = isinstance(probe.port, str) and port_number(probe.port, container.ports()) is None
    if named or symptom is Symptom.NAMED_PORT:
        return _named_port(scope, container, probe)
    if symptom in (Symptom.NOT_FOUND, Symptom.NOT_ALLOWED, Symptom.BAD_REQUEST):
        return _path(scope, container, probe, symptom)
    if symptom is Symptom.SERVER_ERROR:
        return Advice(None, "the program answers with a server error: it calls itself unhealthy", 0.5,
                      cause=CauseClass.APPLICATION_ERROR)  # fmt: skip
    if symptom is Symptom.COMMAND_MISSING:
        return Advice("command", "the image has no such command", 0.85)
    if symptom is Symptom.COMMAND_FAILED:
        return Advice("command", "the command fails; whether it or the program is wrong was not seen", 0.45)
    if symptom is Symptom.REFUSED:
        return _port(scope, container, probe, killed)
    if symptom is Symptom.TIMEOUT:
        return _slow(scope, container, probe, killed)
    return Advice(None, "what failed was not seen (the events are gone)", 0.3)


def _named_port(scope: Scope, container: Container, probe: Probe) -> Advice:
    why = f"no port of the container is named {probe.port}"
    spec = of_object(container.pod, f"{container.spec_at}/ports", scope.snapshot.observed_at)
    declared = container.ports()
    listed = ", ".join(name or str(value) for name, value in declared) or "no port"
    claims = [Claim(f"Container {container.name} declares {listed}", [spec])]
    if (old := _healthy_probe(scope, container, probe.kind)) and old[0].port not in (None, probe.port):
        return Advice("port", why, 0.95, old[0].port, old[1], claims)
    if len(declared) == 1:
        name, value = declared[0]
        return Advice("port", why, 0.95, name or value, "the only port that the container declares", claims)
    return Advice("port", why, 0.95, claims=claims)


def _path(scope: Scope, container: Container, probe: Probe, symptom: Symptom) -> Advice:
    answers = {
        Symptom.NOT_FOUND: ("has no such path", 0.92),
        Symptom.NOT_ALLOWED: ("does not let the probe in", 0.7),
        Symptom.BAD_REQUEST: ("does not understand the request", 0.55),
    }
    said, confidence = answers[symptom]
    why = f"the program answers that it {said} ({probe.path})"
    if (old := _healthy_probe(scope, container, probe.kind)) and old[0].path and old[0].path != probe.path:
        return Advice("path", why, confidence, old[0].path, old[1])
    for other in _working(scope, container, probe):
        same_port = port_number(other.port, container.ports()) == port_number(probe.port, container.ports())
        if other.handler == "httpGet" and same_port and other.path != probe.path:
            shown = of_object(container.pod, f"{container.spec_at}/{other.kind}Probe", scope.snapshot.observed_at)
            claim = Claim(f"Its {other.kind} probe works with path {other.path}", [shown], Severity.INFO)
            return Advice("path", why, confidence, other.path, f"its {other.kind} probe works with it", [claim])
    return Advice("path", why, confidence)


def _port(scope: Scope, container: Container, probe: Probe, killed: Restart | None) -> Advice:
    """Nothing listens on the port that is asked: the wrong port, or too early."""
    now, declared = scope.snapshot.observed_at, container.ports()
    asked = port_number(probe.port, declared)
    why = f"nothing listens on port {asked}"
    old = _healthy_probe(scope, container, probe.kind)
    if old and port_number(old[0].port, declared) not in (None, asked):
        return Advice("port", why, 0.93, _plain(old[0].port), old[1])
    for other in _working(scope, container, probe):
        port = port_number(other.port, declared)
        if port is not None and port != asked:
            shown = of_object(container.pod, f"{container.spec_at}/{other.kind}Probe", now)
            claim = Claim(f"Its {other.kind} probe works on port {port}", [shown], Severity.INFO)
            return Advice("port", why, 0.93, port, f"its {other.kind} probe works on it", [claim])
    log, heard = _listening(scope, container, killed)
    if heard and log:
        evidence = log.evidence(LogLine(heard[-1].line, heard[-1].number, 2), now)
        claim = Claim(f"The program says {quoted(heard[-1].line)}", [evidence], Severity.INFO)
        ports = {item.port for item in heard}
        if asked in ports:
            if all(item.loopback for item in heard if item.port == asked):
                return Advice(None, "the program listens on loopback only, where the kubelet cannot reach it", 0.6,
                              claims=[claim], cause=CauseClass.APPLICATION_ERROR)  # fmt: skip
            return _timing(container, probe, killed, [claim], 0.75)
        suggested = heard[-1].port if len(ports) == 1 else None
        source = "the program's log says that it listens there" if suggested else None
        return Advice("port", f"{why}; the program listens on {heard[-1].port}", 0.93, suggested, source, [claim])
    numbers = [value for _, value in declared]
    if numbers and asked not in numbers:
        shown = of_object(container.pod, f"{container.spec_at}/ports", now)
        claim = Claim(f"Container {container.name} declares port {', '.join(map(str, numbers))}", [shown])
        suggested = numbers[0] if len(numbers) == 1 else None
        source = "the only port that the container declares" if suggested else None
        return Advice("port", why, 0.85, suggested, source, [claim])
    return _timing(container, probe, killed, [], 0.65)


def _timing(
    container: Container, probe: Probe, killed: Restart | None, claims: list[Claim], confidence: float
) -> Advice:
    """Killed at the first opportunity, with a port that nothing contradicts: too early rather than wrong."""
    if probe.kind == "readiness" or killed is None or killed.lifetime is None:
        return Advice(None, "nothing listens on its port, and nothing seen says where it would", 0.4, claims=claims)
    life = int(killed.lifetime.total_seconds())
    grace = number(container.pod, "spec", "terminationGracePeriodSeconds")
    slack = (30 if grace is None else grace) + 2 * probe.period + 10
    if life > probe.budget + slack:
        return Advice(
            None, f"it answered for {life} s and then no more: it hung or closed its port", 0.4, claims=claims
        )
    wait = min(_LONGEST_DELAY, max(_SHORTEST_DELAY, 4 * life))
    more: dict[str, Fact] = {"suggested_initial_delay_seconds": wait}
    if probe.kind == "startup":
        more = {"suggested_failure_threshold": -(-wait // probe.period)}
    return Advice(
        "timing",
        f"it is killed {life} s after its start, before it has answered once",
        confidence,
        suggested_from=f"it never lived longer than {life} s; how long it needs was not observed, {wait} s is a trial",
        claims=claims,
        more=more,
    )


def _slow(scope: Scope, container: Container, probe: Probe, killed: Restart | None) -> Advice:
    why = f"it does not answer within {probe.timeout} s"
    if killed is not None and killed.lifetime is not None and killed.lifetime > timedelta(seconds=10 * probe.budget):
        life = int(killed.lifetime.total_seconds())
        return Advice(None, f"{why}, after it did for {life} s: it hangs or is overloaded", 0.4)
    if probe.timeout >= 10:
        return Advice(None, why, 0.4)
    old = _healthy_probe(scope, container, probe.kind)
    wanted = old[0].timeout if old and old[0].timeout > probe.timeout else min(10, probe.timeout * 5)
    source = (
        old[1]
        if old and old[0].timeout == wanted
        else f"a trial: {probe.timeout} s is short, what it needs was not seen"
    )
    return Advice("timing", why, 0.55, suggested_from=source, more={"suggested_timeout_seconds": wanted})


def _healthy_probe(scope: Scope, container: Container, kind: str) -> tuple[Probe, str] | None:
    """The same probe in the newest revision that was seen healthy."""
    healthy = healthy_before(scope.snapshot, scope.owner(container))
    if healthy is None:
        return None
    probe = probe_of(template_containers(healthy.template).get(container.name) or {}, kind)
    return (probe, f"revision {healthy.number}, which was healthy, has it") if probe else None


def _working(scope: Scope, container: Container, failing: Probe) -> list[Probe]:
    """Other probes of the container that are seen to succeed: readiness when it is ready, liveness and startup when
    they have had their time and no failure is recorded."""
    found = []
    started = scope.ran_since(container)
    ran = scope.snapshot.observed_at - started if started else timedelta(0)
    for kind in KINDS:
        probe = probe_of(container.spec, kind)
        if probe is None or kind == failing.kind or not (container.running or started):
            continue
        failed = failures_of(probe, scope.container_events(container))
        unfailed = not failed and ran >= timedelta(seconds=probe.initial_delay + probe.period)
        if container.ready if kind == "readiness" else unfailed:
            found.append(probe)
    return found


def _listening(scope: Scope, container: Container, killed: Restart | None) -> tuple[Log | None, list[Listening]]:
    log = scope.log(container, killed)
    return log, listening_in(log.lines) if log else []


def _plain(port: int | str | None) -> Fact:
    value = decimal(port) if isinstance(port, str) else None
    return port if value is None else value
