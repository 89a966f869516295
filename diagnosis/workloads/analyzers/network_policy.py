"""A NetworkPolicy that stops a connection which somebody needs: in at the server, out at the client, or out to the
name servers, which is easily forgotten.

A connection is needed where a log tells that it failed or a container is configured with it. That the cluster's network
enforces policies is assumed; the claim is that these policies do not allow it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from diagnosis.workloads.calls import Call
from diagnosis.workloads.containers import containers_of
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, mapping, objects, pick, text
from diagnosis.workloads.policies import Peer, Port, allows, blocked_by, selecting
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.services import ServicePort, headless, ports_of, services_in, services_of
from diagnosis.workloads.snapshot import ref_of
from incidents.models import CauseClass, Evidence, Fact, ObjectRef

NAME = "network_policy"
READS = ("NetworkPolicy", "Pod", "Service")
RULED_OUT = "network policies: none stops a connection that a log or a configuration names"
CAUSES = {
    CauseClass.NETWORK_POLICY_BLOCKS: Documented(
        "NetworkPolicies select the client or the server and none of them allows the connection; or they let a client "
        "out to its server and not to the name servers.",
        "The policies that select the pod, its labels, and the log line or address that needs the connection.",
        "None from here: a rule that opens a way is a person's decision; the connection that lacks one is named.",
    ),
}

_DNS = 53
_REPLICAS = 2  # of one workload are looked at: more are configured alike


@dataclass(frozen=True)
class _Blocked:
    """One connection that one policy (or several together) stops."""

    direction: str
    policy: Object
    policies: list[Object]
    client: Object
    to: str
    port: Port
    need: Evidence
    failing: Call | None
    servers: tuple[ObjectRef, ...] = ()


def find(scope: Scope) -> Iterable[Found]:
    if not scope.snapshot.all("NetworkPolicy"):
        return
    groups: dict[tuple[ObjectRef, str], list[_Blocked]] = defaultdict(list)
    for blocked in _blocked(scope):
        groups[ref_of(blocked.policy), blocked.direction].append(blocked)
    known = services_of(scope.snapshot)
    blamed = {ref for found in groups.values() for blocked in found for ref in blocked.servers}
    for service in services_in(scope):
        if not any(known.snapshot.workload_of(pod) in blamed for pod in known.pods(service)):
            yield from _sealed(scope, service)
    for (ref, _), found in groups.items():
        if scope.target is not None and scope.target.kind == ref.kind and scope.target != ref:
            continue
        yield _found(scope, ref, sorted(found, key=lambda b: (b.failing is None, b.port.number != _DNS)))


def _blocked(scope: Scope) -> Iterator[_Blocked]:
    snapshot, known = scope.snapshot, services_of(scope.snapshot)
    about, within = set(map(id, services_in(scope))), set(scope.workloads)
    asked = scope.target is not None and scope.target.kind == "NetworkPolicy"
    calls = {(call.log.pod, call.namespace): call for call in known.calls}
    seen: set[tuple[ObjectRef, str]] = set()
    looked: Counter[ObjectRef] = Counter()
    for pod in snapshot.all("Pod"):
        namespace = text(pod, "metadata", "namespace")
        if pick(pod, "spec", "hostNetwork") is True or text(pod, "status", "phase") in ("Succeeded", "Failed"):
            continue
        owner = snapshot.workload_of(pod)
        looked[owner] += 1
        call = calls.get((text(pod, "metadata", "name"), namespace))
        if call is None and looked[owner] > _REPLICAS:
            continue
        for service, port, need in _needs(scope, pod, call):
            inside = asked or owner in within or id(service) in about
            if not inside or (owner, f"{ref_of(service)}:{port.port}") in seen:
                continue
            seen.add((owner, f"{ref_of(service)}:{port.port}"))
            failing = call if call is not None and known.resolve(namespace, call.failure.host) is service else None
            yield from _connection(scope, pod, service, port, need, failing)
            if (owner, "dns") not in seen:
                seen.add((owner, "dns"))
                yield from _names(scope, pod, need, failing)


def _needs(scope: Scope, pod: Object, call: Call | None) -> Iterator[tuple[Object, ServicePort, Evidence]]:
    """The Services that a pod connects to, as its log or configuration says."""
    known, namespace = services_of(scope.snapshot), text(pod, "metadata", "namespace")
    if call is not None and (service := known.resolve(namespace, call.failure.host)) is not None:
        for port in ports_of(service):
            if call.failure.port in (None, port.port):
                yield service, port, call.evidence(scope.snapshot)
    for address in known.addresses(pod):
        service = known.resolve(namespace, address.host)
        for port in ports_of(service) if service is not None else []:
            if service is not None and address.port in (None, port.port):
                yield service, port, of_object(pod, address.at, scope.snapshot.observed_at)


def _connection(
    scope: Scope, pod: Object, service: Object, port: ServicePort, need: Evidence, failing: Call | None
) -> Iterator[_Blocked]:
    for server in services_of(scope.snapshot).pods(service)[:1]:
        if pick(server, "spec", "hostNetwork") is True or server is pod:
            continue
        arriving = _arriving(server, port, headless(service))
        if arriving is None:
            continue
        client_peer = Peer(pod, text(pod, "metadata", "namespace"))
        server_peer = Peer(server, text(server, "metadata", "namespace"))
        name = text(service, "metadata", "name")
        for direction, end, peer in (("Egress", pod, server_peer), ("Ingress", server, client_peer)):
            policies = blocked_by(scope.snapshot, end, direction, peer, arriving)
            if policies:
                policy = _blamed(policies, direction)
                to = f"Service {name}"
                behind = (scope.snapshot.workload_of(server),)
                yield _Blocked(direction, policy, policies, pod, to, arriving, need, failing, behind)


def _sealed(scope: Scope, service: Object) -> Iterator[Found]:
    """A Service that no pod may call: policies select its pods, and none has a rule for its port or any other."""
    snapshot, now, name = scope.snapshot, scope.snapshot.observed_at, text(service, "metadata", "name")
    pods = services_of(snapshot).pods(service)
    if not pods or headless(service) or pick(pods[0], "spec", "hostNetwork") is True:
        return
    policies = selecting(snapshot, pods[0], "Ingress")
    if not policies or any(objects(policy, "spec", "ingress") for policy in policies):
        return
    policy, owner = _blamed(policies, "Ingress"), snapshot.workload_of(pods[0])
    ref = ref_of(policy)
    asked = scope.target == ref_of(service)
    yield Found(
        CauseClass.NETWORK_POLICY_BLOCKS,
        ref,
        0.85 if asked else 0.6,
        f"NetworkPolicy {ref.name} lets nothing in to the pods of Service {name}, and no other policy does.",
        [
            Claim(f"NetworkPolicy {ref.name} selects {owner} and lets nothing in", [of_object(policy, "/spec", now)]),
            Claim(f"Service {name} sends to its pods", [of_object(service, "/spec", now)]),
        ],
        facts={
            "direction": "ingress",
            "server": f"Service {name}",
            "policies": [text(item, "metadata", "name") for item in policies],
        },
        subject="ingress",
        next_steps=[f"Say who may call Service {name}; if somebody may, add a rule for that"],
    )


def _arriving(server: Object, port: ServicePort, direct: bool) -> Port | None:
    """The port at the pod, with the names that its containers give to it."""
    declared = [entry for container in containers_of(server) for entry in container.ports()]
    target = port.port if direct and isinstance(port.target, int) else port.target
    if isinstance(target, str):
        target = next((value for name, value in declared if name == target), 0)
    return (
        Port(target, port.protocol, frozenset(name for name, value in declared if value == target)) if target else None
    )


def _names(scope: Scope, pod: Object, need: Evidence, failing: Call | None) -> Iterator[_Blocked]:
    """Whether a pod may ask the name servers; a server that runs on each node is reached by address and not judged."""
    snapshot = scope.snapshot
    policies = selecting(snapshot, pod, "Egress")
    if not policies or text(pod, "spec", "dnsPolicy") in ("Default", "None"):
        return
    if any(isinstance(pick(peer, "ipBlock"), dict) for policy in policies for rule in objects(policy, "spec", "egress")
           for peer in objects(rule, "to")):  # fmt: skip
        return
    service = snapshot.get("Service", "kube-system", "kube-dns")
    server = next(iter(services_of(snapshot).pods(service)), None) if service is not None else None
    port = Port(_DNS, "UDP", frozenset({"dns"}))
    blocked = blocked_by(snapshot, pod, "Egress", Peer(server, "kube-system"), port)
    if blocked:
        unresolved = failing if failing is not None and failing.failure.how == "unresolved" else None
        yield _Blocked("Egress", _blamed(blocked, "Egress"), blocked, pod, "the name servers", port, need, unresolved)


def _blamed(policies: list[Object], direction: str) -> Object:
    """The policy in which a rule is missing: one that has rules for the direction, else the newest."""
    with_rules = [policy for policy in policies if objects(policy, "spec", direction.lower())]
    return max(
        with_rules or policies,
        key=lambda policy: (text(policy, "metadata", "creationTimestamp"), text(policy, "metadata", "name")),
    )


def _found(scope: Scope, ref: ObjectRef, found: list[_Blocked]) -> Found:
    snapshot, now, first = scope.snapshot, scope.snapshot.observed_at, found[0]
    direction = first.direction.lower()
    client = snapshot.workload_of(first.client)
    claims = [
        Claim(f"NetworkPolicy {ref.name} {_reason(scope, first)}", [of_object(first.policy, "/spec", now)]),
        Claim(f"{client} needs {first.to} (port {first.port.number}/{first.port.protocol})", [first.need]),
    ]
    others = [policy for policy in first.policies if policy is not first.policy]
    if others:
        names = ", ".join(text(policy, "metadata", "name") for policy in others[:5])
        shown = [of_object(policy, "/spec", now) for policy in others[:3]]
        claims.append(Claim(f"Neither do the other policies that select the pod allow it ({names})", shown))
    if mapping(first.client, "metadata", "labels"):
        claims.append(Claim(f"The labels of {client}'s pod", [of_object(first.client, "/metadata/labels", now)]))
    for blocked in found[:3]:
        if (call := blocked.failing) is not None:
            claims.append(Claim(f"{call.workload} fails: {quoted(call.line.text)}", [call.evidence(snapshot)]))
    troubled = {id(container.pod) for container in scope.troubled}
    failing = [blocked.client for blocked in found if blocked.failing is not None or id(blocked.client) in troubled]
    facts: dict[str, Fact] = {
        "direction": direction,
        "port": first.port.number,
        "protocol": first.port.protocol,
        "client": client.name,
        "server": first.to,
        "policies": [text(policy, "metadata", "name") for policy in first.policies],
        "blocked": [f"{snapshot.workload_of(b.client).name} to {b.to}:{b.port.number}" for b in found[:10]],
    }
    more = f" (and {len(found) - 1} more connections)" if len(found) > 1 else ""
    return Found(
        CauseClass.NETWORK_POLICY_BLOCKS,
        ref,
        0.93 if any(blocked.failing for blocked in found) else 0.8,
        f"NetworkPolicy {ref.name} keeps {client.kind} {client.name} from {first.to} (port "
        f"{first.port.number}/{first.port.protocol}): it {_reason(scope, first)}{more}.",
        claims,
        facts=facts,
        subject=direction,
        explains=list(dict.fromkeys(snapshot.workload_of(pod) for pod in failing)),
        next_steps=[
            f"Decide whether {client.name} may reach {first.to}; if so, add a rule to NetworkPolicy {ref.name}"
        ],
    )


def _reason(scope: Scope, blocked: _Blocked) -> str:
    """What its rules of the direction allow instead."""
    rules = objects(blocked.policy, "spec", blocked.direction.lower())
    way = "in" if blocked.direction == "Ingress" else "out"
    if not rules:
        return f"lets nothing {way}"
    without_ports = {"spec": {blocked.direction.lower(): [{**rule, "ports": []} for rule in rules]}}
    policy = {**without_ports, "metadata": blocked.policy.get("metadata")}
    peer = Peer(blocked.client, text(blocked.client, "metadata", "namespace"))
    if blocked.direction == "Ingress" and allows(scope.snapshot, policy, "Ingress", peer, blocked.port):
        return f"lets this client {way} on other ports only"
    return f"lets {'other clients in' if way == 'in' else 'it out to other places or ports'} only"
