"""A program that fails because something it connects to is not there: refused, unreachable or not resolved.

The address comes from the program's log; it is matched to Services (by name or cluster address) and pods, and what is
behind the Service is looked at: the victim is explained by its dependency.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from diagnosis.workloads.config_addresses import map_addresses
from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_absence, of_object
from diagnosis.workloads.fields import Object, condition, number, objects, strings, text
from diagnosis.workloads.hosts import Failure, failure_in
from diagnosis.workloads.logs import Log, LogLine
from diagnosis.workloads.restarts import Ending
from diagnosis.workloads.scope import Scope, selected_pods
from diagnosis.workloads.secret_addresses import secret_addresses
from diagnosis.workloads.services import services_of
from diagnosis.workloads.snapshot import ref_of
from incidents.models import CauseClass, Fact, ObjectRef, Severity

NAME = "dependency_unavailable"
READS = ("Pod", "Service")
RULED_OUT = "dependencies: no failing container's log tells of a failed connection"
CAUSES = {
    CauseClass.DEPENDENCY_UNAVAILABLE: Documented(
        "The program fails because what it connects to is not there: refused, unreachable, or a name that "
        "does not resolve.",
        "The line of the log that names the address, the Service or pod behind it, and that one's own state.",
        "That of the cause behind it, where the dependency lies in the cluster; a dependency outside the "
        "cluster is for a person. Where the address can only come from a Secret, whose values are never read, the "
        "key to compare it with is named, and one question asked.",
    ),
}

_BY_ITSELF = {Ending.EXIT_CODE, Ending.LIVENESS_KILL, Ending.STARTUP_KILL, Ending.NOT_STARTED, Ending.COMPLETED}
_LAST_LINES = 60


def find(scope: Scope) -> Iterable[Found]:
    for container in scope.troubled:
        endings = scope.recent_endings(container)
        if endings and endings[0].ending not in _BY_ITSELF:
            continue
        ended = endings[0] if endings else None
        log = scope.log(container, ended)
        told = _last_failure(log) if log else None
        if log and told:
            yield _found(scope, container, log, *told)


def _last_failure(log: Log) -> tuple[LogLine, Failure] | None:
    """The last failed connection near the end: one that the program got over stands further up."""
    filled = [(index, line) for index, line in enumerate(log.lines) if line.strip()][-_LAST_LINES:]
    for index, line in reversed(filled):
        failure = failure_in(line)
        if failure is not None:
            return LogLine(line.strip()[:400], index + 1, 2), failure
    return None


@dataclass
class _Resolved:
    """What is known of the address."""

    facts: dict[str, Fact] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    leads_to: list[ObjectRef] = field(default_factory=list)
    why: str = ""
    confidence: float = 0.75


def _found(scope: Scope, container: Container, log: Log, line: LogLine, failure: Failure) -> Found:
    now, owner = scope.snapshot.observed_at, scope.owner(container)
    address = f"{failure.host}:{failure.port}" if failure.port else failure.host
    resolved = _resolve(scope, container, failure)
    ended = scope.recent_endings(container)
    at, state = (ended[0].at, ended[0].why) if ended else (container.status_at, "it is not ready")
    claims = [
        Claim(f"The log of container {container.name} says {quoted(line.text)}", [log.evidence(line, now)]),
        Claim(
            f"Container {container.name} of pod {container.pod_name} fails: {state}",
            [of_object(container.pod, at, now)],
        ),
    ]
    what = "cannot resolve" if failure.how == "unresolved" else "cannot connect to"
    why = f": {resolved.why}" if resolved.why else ""
    facts: dict[str, Fact] = {"dependency": failure.host, "dependency_port": failure.port, "how": failure.how}
    steps = [f"Look at {address} first; {owner.name} is its victim"]
    keys = [] if resolved.leads_to or _is_plain(scope, container, failure) else list(secret_addresses(container))[:3]
    if keys:
        words = " or ".join(key.words for key in keys)
        shown = [of_object(container.pod, key.at, now) for key in keys]
        told = f"It may have this address from {words}; values of Secrets are not read"
        claims.append(Claim(told, shown, Severity.INFO))
        facts["secret_address"] = words
        steps.insert(0, f"Compare {address}, which names no Service here, with {words}")
    return Found(
        CauseClass.DEPENDENCY_UNAVAILABLE,
        owner,
        resolved.confidence,
        f"Container {container.name} of {owner.kind} {owner.name} {what} {address}{why}.",
        [*claims, *resolved.claims],
        facts=facts | resolved.facts,
        place=container.pod_name,
        subject=failure.host,
        leads_to=[ref for ref in resolved.leads_to if ref != owner.model_copy(update={"container": None})],
        next_steps=steps,
    )


def _is_plain(scope: Scope, container: Container, failure: Failure) -> bool:
    """Whether the address stands in the container's variables, arguments or ConfigMaps, where it was read."""
    if failure.local:
        return True
    known = [*services_of(scope.snapshot).addresses(container.pod)]
    known += [one.address for one in map_addresses(scope.snapshot, container.pod)]
    return any(one.container == container.name and one.host.lower() == failure.host.lower() for one in known)


def _resolve(scope: Scope, container: Container, failure: Failure) -> _Resolved:
    if failure.local:
        return _Resolved(why="that is inside the same pod: another container of it does not listen", confidence=0.75)
    service = _service(scope, container.namespace, failure.host)
    if service is not None:
        return _behind(scope, service, failure)
    pod = _pod(scope, failure.host)
    if pod is not None:
        name = text(pod, "metadata", "name")
        return _Resolved({"dependency_pod": name}, [], [scope.snapshot.workload_of(pod)], f"that is pod {name}", 0.85)
    short = failure.host.split(".")[0]
    if failure.how == "unresolved" and scope.snapshot.lacks("Service", container.namespace, short):
        here = [text(item, "metadata", "name") for item in scope.snapshot.all("Service", container.namespace)]
        evidence = of_absence("Service", container.namespace, short, here, scope.snapshot.observed_at)
        claim = Claim(f"There is no Service {short} in namespace {container.namespace}", [evidence])
        return _Resolved({"service_exists": False}, [claim], [], f"there is no Service {short}", 0.88)
    return _Resolved()


def _service(scope: Scope, namespace: str, host: str) -> Object | None:
    """A Service by cluster address, `name`, `name.namespace` or `name.namespace.svc.…`."""
    labels = host.split(".")
    if len(labels) == 1 or labels[2:3] == ["svc"] or len(labels) == 2:
        space = labels[1] if len(labels) > 1 else namespace
        if (found := scope.snapshot.get("Service", space, labels[0])) is not None:
            return found
    return next(
        (
            item
            for item in scope.snapshot.all("Service")
            if host in (text(item, "spec", "clusterIP"), *strings(item, "spec", "clusterIPs"))
        ),
        None,
    )


def _pod(scope: Scope, host: str) -> Object | None:
    return next((pod for pod in scope.snapshot.all("Pod") if host == text(pod, "status", "podIP")), None)


def _behind(scope: Scope, service: Object, failure: Failure) -> _Resolved:
    now, name = scope.snapshot.observed_at, text(service, "metadata", "name")
    namespace = text(service, "metadata", "namespace")
    ports = [value for port in objects(service, "spec", "ports") if (value := number(port, "port")) is not None]
    pods = selected_pods(scope.snapshot, service)
    ready = [pod for pod in pods if condition(pod, "Ready").get("status") == "True"]
    facts: dict[str, Fact] = {
        "dependency_service": name,
        "dependency_namespace": namespace,
        "service_exists": True,
        "ready_pods": len(ready),
    }
    behind = [scope.snapshot.workload_of(pod) for pod in pods]
    behind += [template.ref for template in services_of(scope.snapshot).selected_templates(service)]
    leads_to = list(dict.fromkeys([ref_of(service), *behind]))
    shown = of_object(service, "/spec", now)
    if failure.port is not None and ports and failure.port not in ports:
        offered = ", ".join(map(str, ports))
        claim = Claim(f"Service {name} offers port {offered}, not {failure.port}", [shown])
        return _Resolved(facts, [claim], leads_to, f"Service {name} has port {offered} only", 0.9)
    claims = [Claim(f"The address is that of Service {name}", [shown], Severity.INFO)]
    if not pods:
        claims.append(Claim(f"Service {name} selects no pod", [of_object(service, "/spec/selector", now)]))
        return _Resolved(facts, claims, leads_to, f"Service {name} selects no pod", 0.9)
    if not ready:
        states = [of_object(pod, "/status/conditions", now) for pod in pods[:3]]
        claims.append(Claim(f"None of the {len(pods)} pods behind Service {name} is ready", states))
        return _Resolved(facts, claims, leads_to, f"none of the {len(pods)} pods behind Service {name} is ready", 0.92)
    return _Resolved(facts, claims, leads_to, f"that is Service {name}, with {len(ready)} ready pods", 0.7)
