"""The cluster's DNS is down: nothing ready behind its Service, or several workloads find no Service by its name."""

from __future__ import annotations

from collections.abc import Iterable

from diagnosis.workloads.calls import Call
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_absence, of_object
from diagnosis.workloads.fields import Object, condition, pick, text
from diagnosis.workloads.last_words import last_words
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.services import Services, services_of
from diagnosis.workloads.snapshot import Snapshot, ref_of
from incidents.models import CauseClass, Fact, ObjectRef

NAME = "cluster_dns"
READS = ("Pod", "Service")
RULED_OUT = "cluster DNS: no sign that names of existing Services do not resolve"
CAUSES = {
    CauseClass.CLUSTER_DNS_DOWN: Documented(
        "The cluster's name servers do not answer, so no Service is found by its name.",
        "The DNS Service of kube-system and its pods, and logs of workloads that cannot resolve Services that exist.",
        "None from here: the name servers belong to the cluster's own administration.",
    ),
}

_SYSTEM = "kube-system"
_WORKLOADS = 2  # that fail before their logs alone say that it is the name servers


def find(scope: Scope) -> Iterable[Found]:
    snapshot, known = scope.snapshot, services_of(scope.snapshot)
    failing = _failing(scope, known)
    service = _service(snapshot)
    if service is None:
        callers = {call.workload for call in failing}
        if len(callers) >= _WORKLOADS or (failing and snapshot.lacks("Service", _SYSTEM, "kube-dns")):
            yield _from_logs(snapshot, failing)
        return
    if not snapshot.looked_at("Pod", _SYSTEM):
        if len({call.workload for call in failing}) >= _WORKLOADS:
            yield _from_logs(snapshot, failing)
        return
    pods = known.pods(service)
    ready = [pod for pod in pods if condition(pod, "Ready").get("status") == "True"]
    if not ready and (failing or scope.namespaces is None or scope.covers(_SYSTEM) or _has_containers(scope)):
        yield _down(scope, service, pods, failing)
    elif ready and len({call.workload for call in failing}) >= _WORKLOADS + 1:
        yield _from_logs(snapshot, failing)


def _has_containers(scope: Scope) -> bool:
    return bool(scope.containers) and scope.target is None and bool(scope.namespaces)


def _failing(scope: Scope, known: Services) -> list[Call]:
    """Calls that failed because a name of a Service that exists did not resolve, the scope's own first."""
    found = [
        call
        for call in known.calls
        if call.failure.how == "unresolved" and known.resolve(call.namespace, call.failure.host) is not None
    ]
    if not any(call.workload in scope.workloads or scope.covers(call.namespace) for call in found):
        return []
    return sorted(found, key=lambda call: call.workload not in scope.workloads)


def _service(snapshot: Snapshot) -> Object | None:
    named = [snapshot.get("Service", _SYSTEM, name) for name in ("kube-dns", "coredns", "rke2-coredns-rke2-coredns")]
    labelled = [
        item for item in snapshot.all("Service", _SYSTEM) if pick(item, "metadata", "labels", "k8s-app") == "kube-dns"
    ]
    return next((item for item in (*named, *labelled) if item is not None), None)


def _down(scope: Scope, service: Object, pods: list[Object], failing: list[Call]) -> Found:
    snapshot, now, known = scope.snapshot, scope.snapshot.observed_at, services_of(scope.snapshot)
    name = text(service, "metadata", "name")
    refs = [snapshot.workload_of(pod) for pod in pods] or [t.ref for t in known.selected_templates(service)]
    about = refs[0] if refs else ref_of(service)
    if pods:
        states = [of_object(pod, "/status/conditions", now) for pod in pods[:3]]
        claims = [Claim(f"None of the {len(pods)} pods behind Service {_SYSTEM}/{name} is ready", states)]
    else:
        claims = [Claim(f"Service {_SYSTEM}/{name} has no pods", [of_object(service, "/spec", now)])]
    item = snapshot.get(about.kind, about.namespace, about.name)
    facts: dict[str, Fact] = {"service": name, "pods": len(pods), "ready_pods": 0}
    if item is not None and pick(item, "spec", "replicas") == 0:
        claims.append(Claim(f"{about} is scaled to zero", [of_object(item, "/spec/replicas", now)]))
        facts["replicas"] = 0
    claims += last_words(scope, pods[:3])
    claims += _said(snapshot, failing)
    return Found(
        CauseClass.CLUSTER_DNS_DOWN,
        about,
        0.97 if failing else 0.92,
        f"The cluster's DNS is down: Service {_SYSTEM}/{name} has no ready pod.",
        claims,
        facts=facts,
        leads_to=[ref for ref in dict.fromkeys(refs) if ref != about],
        explains=_callers(failing),
        next_steps=[f"Look at {about}: as long as it is down, no Service is found by its name"],
    )


def _from_logs(snapshot: Snapshot, failing: list[Call]) -> Found:
    now = snapshot.observed_at
    service = _service(snapshot)
    about = ref_of(service) if service is not None else ObjectRef(kind="Service", namespace=_SYSTEM, name="kube-dns")
    names = ", ".join(dict.fromkeys(call.failure.host for call in failing[:5]))
    claims = _said(snapshot, failing)
    missing = service is None and snapshot.lacks("Service", _SYSTEM, "kube-dns")
    if missing:
        here = [text(item, "metadata", "name") for item in snapshot.all("Service", _SYSTEM)]
        claims.append(
            Claim("There is no DNS Service in kube-system", [of_absence("Service", _SYSTEM, "kube-dns", here, now)])
        )
    callers = _callers(failing)
    why = "there is no DNS Service" if missing else f"{len(callers)} workloads cannot resolve Services that exist"
    return Found(
        CauseClass.CLUSTER_DNS_DOWN,
        about,
        0.9 if missing else 0.75,
        f"The cluster's DNS does not answer: {why} ({names}).",
        claims,
        facts={"names": list(dict.fromkeys(call.failure.host for call in failing))[:10]},
        explains=callers,
        next_steps=["Look at the name servers in kube-system (CoreDNS) and at the way from the nodes to them"],
    )


def _said(snapshot: Snapshot, failing: list[Call]) -> list[Claim]:
    known = services_of(snapshot)
    claims = []
    for call in failing[:3]:
        claims.append(
            Claim(
                f"{call.workload} cannot resolve {call.failure.host}: {quoted(call.line.text)}",
                [call.evidence(snapshot)],
            )
        )
        service = known.resolve(call.namespace, call.failure.host)
        if service is not None:
            shown = of_object(service, "/spec", snapshot.observed_at)
            claims.append(Claim(f"Service {text(service, 'metadata', 'name')} exists", [shown]))
    return claims


def _callers(failing: list[Call]) -> list[ObjectRef]:
    return list(dict.fromkeys(call.workload for call in failing))
