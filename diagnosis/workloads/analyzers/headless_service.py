"""A headless Service used as what it is not: its name leads straight to pods, so it maps no port; and a StatefulSet
whose members look for each other under a Service that does not exist or is not headless.

Neither is a fault by itself (many StatefulSets never use their members' names): somebody must be seen to use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from diagnosis.workloads.addresses import Address
from diagnosis.workloads.calls import Call
from diagnosis.workloads.containers import containers_of
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_absence, of_object
from diagnosis.workloads.fields import Object, text
from diagnosis.workloads.logs import LINE_CHARS, Log, LogLine
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.services import ServicePort, headless, named_place, ports_of, services_in, services_of
from diagnosis.workloads.snapshot import ref_of
from incidents.models import CauseClass, Fact, ObjectRef

NAME = "headless_service"
READS = ("Service", "Pod", "StatefulSet")
RULED_OUT = "headless Services: nobody is seen to rely on one mapping ports, and no StatefulSet's Service is missing"
CAUSES = {
    CauseClass.HEADLESS_SERVICE_MISUSED: Documented(
        "A headless Service is used as if it forwarded: a caller uses the Service's port where the pods listen on "
        "another; or a StatefulSet's members look for each other under a Service that is missing or not headless.",
        "The Service (or its absence), the port that the pods have, and the caller's address or log line.",
        "The Service's port is set to the pods' port; a missing Service is for a person to make.",
    ),
}

_LAST_LINES = 60


def find(scope: Scope) -> Iterable[Found]:
    for service in services_in(scope):
        if headless(service):
            yield from _mapped(scope, service)
    for ref in scope.workloads:
        if ref.kind == "StatefulSet" and (item := scope.snapshot.get(ref.kind, ref.namespace, ref.name)) is not None:
            yield from _members(scope, item)


def _mapped(scope: Scope, service: Object) -> Iterable[Found]:
    """A port of a headless Service that differs from the pods' one, and somebody who uses it."""
    snapshot, now, known = scope.snapshot, scope.snapshot.observed_at, services_of(scope.snapshot)
    name = text(service, "metadata", "name")
    numbers = {port for pod in known.pods(service) for c in containers_of(pod) for _, port in c.ports()}
    for port in ports_of(service):
        target = port.target
        if isinstance(target, str):
            declared = [c.ports() for pod in known.pods(service) for c in containers_of(pod)]
            target = next((value for ports in declared for other, value in ports if other == port.target), 0)
        if target in (0, port.port) or port.port in numbers:
            continue
        users = _users(scope, service, port)
        calls = [call for call in known.calls_to(service) if call.failure.port == port.port]
        if not users and not calls:
            continue
        claims = [
            Claim(
                f"Service {name} is headless: its name leads to the pods themselves", [of_object(service, "/spec", now)]
            ),
            Claim(f"It maps port {port.port} to {port.target}, which nothing does", [of_object(service, port.at, now)]),
        ]
        claims += [
            Claim(f"{owner} uses {address.host}:{port.port}", [of_object(pod, address.at, now)])
            for owner, pod, address in users[:3]
        ]
        claims += [Claim(f"{c.workload} fails: {quoted(c.line.text)}", [c.evidence(snapshot)]) for c in calls[:2]]
        facts: dict[str, Fact] = {
            "field": "port",
            "port": port.port,
            "target_port": target,
            "observed": port.port,
            "suggested_port": target,
            "suggested_from": "the port that its pods have",
        }
        yield Found(
            CauseClass.HEADLESS_SERVICE_MISUSED,
            ref_of(service),
            0.93 if calls else 0.82,
            f"Service {name} is headless and maps no port: {name}:{port.port} leads to pods that listen on {target}.",
            claims,
            facts=facts,
            subject=port.at,
            explains=_failing(scope, [owner for owner, _, _ in users], calls),
            next_steps=[f"Let callers use port {target}, or give Service {name} a cluster address"],
        )


def _failing(scope: Scope, users: list[ObjectRef], calls: list[Call]) -> list[ObjectRef]:
    """Of those who use it, those that are seen to fail."""
    troubled = {scope.snapshot.workload_of(container.pod) for container in scope.troubled}
    return list(dict.fromkeys([*(call.workload for call in calls), *(user for user in users if user in troubled)]))


def _users(scope: Scope, service: Object, port: ServicePort) -> list[tuple[ObjectRef, Object, Address]]:
    """Workloads whose configuration has the Service with this port."""
    known = services_of(scope.snapshot)
    found: dict[ObjectRef, tuple[ObjectRef, Object, Address]] = {}
    for pod in scope.snapshot.all("Pod", text(service, "metadata", "namespace")):
        for address in known.addresses(pod):
            where = named_place(text(pod, "metadata", "namespace"), address.host)
            if where and address.port == port.port and known.resolve(where[1], where[0]) is service:
                owner = scope.snapshot.workload_of(pod)
                found.setdefault(owner, (owner, pod, address))
    return list(found.values())


def _members(scope: Scope, item: Object) -> Iterable[Found]:
    """A StatefulSet whose members are looked for under a name that its Service does not give."""
    snapshot, now = scope.snapshot, scope.snapshot.observed_at
    name, namespace = text(item, "metadata", "name"), text(item, "metadata", "namespace")
    wanted = text(item, "spec", "serviceName")
    service = snapshot.get("Service", namespace, wanted) if wanted else None
    if not wanted or (service is not None and headless(service)):
        return
    if service is None and snapshot.lacks("Service", namespace, wanted) is not True:
        return
    use = _use(scope, namespace, name, wanted)
    if use is None:
        return
    user, claim = use
    if service is None:
        here = [text(other, "metadata", "name") for other in snapshot.all("Service", namespace)]
        why, shown = f"there is no Service {wanted}", of_absence("Service", namespace, wanted, here, now)
    else:
        why, shown = f"Service {wanted} is not headless", of_object(service, "/spec", now)
    yield Found(
        CauseClass.HEADLESS_SERVICE_MISUSED,
        ref_of(item),
        0.93,
        f"Members of StatefulSet {name} have no names of their own: {why}.",
        [
            Claim(f"StatefulSet {name} names its members under {wanted}", [of_object(item, "/spec/serviceName", now)]),
            Claim(why[0].upper() + why[1:], [shown]),
            claim,
        ],
        facts={"service_name": wanted, "service_exists": service is not None},
        explains=[user],
        next_steps=[f"Make a headless Service {wanted} that selects the pods of StatefulSet {name}"],
    )


def _use(scope: Scope, namespace: str, name: str, service: str) -> tuple[ObjectRef, Claim] | None:
    """Who uses a member's name, `<set>-<ordinal>.<service>`: in its log near the end, or in its configuration."""
    snapshot, now = scope.snapshot, scope.snapshot.observed_at
    member = re.compile(rf"(?<![\w.-]){re.escape(name)}-\d+\.{re.escape(service)}(?![\w-])")
    for key in snapshot.log_keys():
        pod = snapshot.get("Pod", key[0], key[1])
        if key[0] != namespace or pod is None:
            continue
        log = Log.of(*key, snapshot.log(*key) or "")
        for index in range(len(log.lines) - 1, max(-1, len(log.lines) - _LAST_LINES), -1):
            if member.search(log.lines[index][:2000]):
                line = LogLine(log.lines[index].strip()[:LINE_CHARS], index + 1, 2)
                said = Claim(f"The log of pod {key[1]} says {quoted(line.text)}", [log.evidence(line, now)])
                return snapshot.workload_of(pod), said
    for pod in snapshot.all("Pod", namespace):
        for address in services_of(snapshot).addresses(pod):
            if member.match(address.host):
                shown = of_object(pod, address.at, now)
                return snapshot.workload_of(pod), Claim(f"{address.host} is in its configuration", [shown])
    return None
