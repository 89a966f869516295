"""What runs on each node and stopped: the kubelet, the container runtime, kube-proxy.

From the API alone a dead kubelet and a dead or unreachable machine look the same; the summary says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta

from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import Object, condition, pick, text, when
from diagnosis.workloads.last_words import last_words
from diagnosis.workloads.nodes import condition_at, nodes_in, stale_lease, workloads_on
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.services import services_of
from diagnosis.workloads.snapshot import ref_of
from incidents.models import CauseClass, ObjectRef

NAME = "node_agents"
READS = ("Node", "Pod")
RULED_OUT = "node agents: kubelet, container runtime and kube-proxy of the nodes in question report nothing wrong"
CAUSES = {
    CauseClass.KUBELET_DOWN: Documented(
        "The kubelet of a node has stopped reporting: it, its machine or the way to it is down.",
        "The node's Ready condition is Unknown and its lease in kube-node-lease is not renewed any more.",
        "None from here: a person repairs the kubelet or the machine, or removes the node.",
    ),
    CauseClass.CONTAINER_RUNTIME_DOWN: Documented(
        "The container runtime of a node does not answer its kubelet, so no container starts or is looked after.",
        "The node's Ready condition in the kubelet's words, or events of several pods about the runtime's socket.",
        "None from here: a person restarts containerd (or what the node uses) on the node.",
    ),
    CauseClass.KUBE_PROXY_DOWN: Documented(
        "kube-proxy does not run on a node, so addresses of Services go stale there.",
        "The pod of kube-proxy on the node, which is not ready for over a minute, and callers on that node that fail.",
        "That of its pod's own cause; else a person repairs it on the node.",
    ),
}

_RUNTIME = re.compile(
    r"container runtime (?:is )?(?:down|not (?:ready|running))|PLEG is not healthy|runtime status check", re.I
)
_SOCKET = re.compile(r"(?:containerd|crio|cri-dockerd|dockershim|docker)\.sock", re.IGNORECASE)
_GONE = re.compile(r"connection refused|no such file|transport is closing|connection error|unavailable|deadline", re.I)
_PROXY = "kube-proxy"
_SETTLING = timedelta(minutes=1)


def find(scope: Scope) -> Iterable[Found]:
    for node in nodes_in(scope):
        ready, at = condition_at(node, "Ready")
        status = ready.get("status")
        if status == "False" and _RUNTIME.search(text(ready, "message")):
            yield _runtime(scope, node, at)
        elif status == "Unknown" and (found := _kubelet(scope, node, at)) is not None:
            yield found
        elif status == "True":
            yield from _socket_events(scope, node)
    yield from _proxies(scope)


def _kubelet(scope: Scope, node: Object, at: str) -> Found | None:
    now, name = scope.snapshot.observed_at, text(node, "metadata", "name")
    stale = stale_lease(scope.snapshot, "kube-node-lease", name)
    ready = condition(node, "Ready")
    if stale is None:
        return None
    lease, age = stale
    said = text(ready, "message") or text(ready, "reason")
    return Found(
        CauseClass.KUBELET_DOWN,
        ref_of(node),
        0.93,
        f"The kubelet of node {name} has not reported for {_span(age)}: it, its machine or the way to it is down.",
        [
            Claim(f"Node {name} is not known to be ready: {quoted(said)}", [of_object(node, at, now)]),
            Claim(f"Its lease was not renewed for {_span(age)}", [of_object(lease, "/spec/renewTime", now)]),
        ],
        facts={"node": name, "silent_seconds": int(age.total_seconds())},
        explains=workloads_on(scope, name),
        next_steps=[f"Look at node {name}: is the machine up, does its kubelet run, does it reach the API server"],
    )


def _runtime(scope: Scope, node: Object, at: str) -> Found:
    now, name = scope.snapshot.observed_at, text(node, "metadata", "name")
    said = text(condition(node, "Ready"), "message")
    return Found(
        CauseClass.CONTAINER_RUNTIME_DOWN,
        ref_of(node),
        0.95,
        f"The container runtime of node {name} is down: its kubelet says so.",
        [Claim(f"The kubelet of node {name} says {quoted(said)}", [of_object(node, at, now)])],
        facts={"node": name},
        explains=workloads_on(scope, name),
        next_steps=[f"Look at the container runtime on node {name} (containerd, its disk and its socket)"],
    )


def _socket_events(scope: Scope, node: Object) -> Iterable[Found]:
    """Before the node's condition turns, the pods' events tell: the runtime's socket, in at least two pods."""
    now, name = scope.snapshot.observed_at, text(node, "metadata", "name")
    told = []
    for pod in scope.pods:
        if text(pod, "spec", "nodeName") != name:
            continue
        events = [
            e for e in scope.pod_events(pod) if e.warning and _SOCKET.search(e.message) and _GONE.search(e.message)
        ]
        recent = [event for event in events if event.last and now - event.last < timedelta(minutes=5)]
        if recent and not _started_since(pod, recent[-1].last or now):
            told.append((pod, recent[-1]))
    if len(told) >= 2:
        yield Found(
            CauseClass.CONTAINER_RUNTIME_DOWN,
            ref_of(node),
            0.85,
            f"The container runtime of node {name} does not answer: {len(told)} pods there cannot be started or asked.",
            [
                Claim(
                    f"The kubelet says of pod {text(pod, 'metadata', 'name')}: {quoted(event.message)}",
                    [of_event(event, now)],
                )
                for pod, event in told[:3]
            ],
            facts={"node": name, "pod_count": len(told)},
            explains=list(dict.fromkeys(scope.snapshot.workload_of(pod) for pod, _ in told)),
            next_steps=[f"Look at the container runtime on node {name} (containerd, its disk and its socket)"],
        )


def _started_since(pod: Object, time: object) -> bool:
    """Whether a container started after an event, which the runtime did then."""
    started = [when(status, "state", "running", "startedAt") for status in _statuses(pod)]
    return any(at is not None and isinstance(time, type(at)) and at > time for at in started)


def _statuses(pod: Object) -> list[Object]:
    found = pick(pod, "status", "containerStatuses")
    return [status for status in found if isinstance(status, dict)] if isinstance(found, list) else []


def _proxies(scope: Scope) -> Iterable[Found]:
    """kube-proxy where it runs as pods of kube-system; where it is a process of the node, it is not seen."""
    snapshot, now = scope.snapshot, scope.snapshot.observed_at
    used = {text(pod, "spec", "nodeName") for pod in scope.pods}
    for pod in snapshot.all("Pod", "kube-system"):
        labels = (text(pod, "metadata", "labels", "k8s-app"), text(pod, "metadata", "labels", "component"))
        node = text(pod, "spec", "nodeName")
        if _PROXY not in labels or text(pod, "metadata", "deletionTimestamp"):
            continue
        if scope.namespaces is not None and not scope.covers("kube-system") and node not in used:
            continue
        ready = condition(pod, "Ready")
        since = when(ready, "lastTransitionTime")
        node_ready = condition(snapshot.get("Node", None, node), "Ready").get("status")
        if ready.get("status") != "False" or node_ready in ("Unknown", "False"):
            continue
        if since is not None and now - since < _SETTLING:
            continue
        failing = [call for call in services_of(snapshot).calls if text(call.pod, "spec", "nodeName") == node]
        owner: ObjectRef = snapshot.workload_of(pod)
        claims = [Claim(f"kube-proxy on node {node} is not ready", [of_object(pod, "/status/conditions", now)])]
        claims += last_words(scope, [pod])
        claims += [
            Claim(f"{c.workload} on that node fails: {quoted(c.line.text)}", [c.evidence(snapshot)])
            for c in failing[:2]
        ]
        yield Found(
            CauseClass.KUBE_PROXY_DOWN,
            owner,
            0.9,
            f"kube-proxy does not run on node {node}: addresses of Services go stale there.",
            claims,
            facts={"node": node, "pod": text(pod, "metadata", "name")},
            subject=node,
            explains=list(dict.fromkeys(call.workload for call in failing)),
            next_steps=[f"Look at pod kube-system/{text(pod, 'metadata', 'name')} on node {node}"],
        )


def _span(age: timedelta) -> str:
    seconds = int(age.total_seconds())
    return f"{seconds} s" if seconds < 180 else f"{seconds // 60} min"
