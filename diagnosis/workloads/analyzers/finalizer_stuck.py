"""Objects that are being deleted and do not go: a finalizer that nobody takes away.

Finalizers whose controller is the cluster's own (a claim in use, a Service's load balancer) are told only where what
they wait for is not simply still in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, condition, objects, strings, text, when
from diagnosis.workloads.references import references_of
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.snapshot import ref_of
from incidents.models import CauseClass, Fact

NAME = "finalizer_stuck"
READS = ("Namespace",)
RULED_OUT = "deletions: nothing that was read waits for a finalizer"
CAUSES = {
    CauseClass.FINALIZER_STUCK: Documented(
        "An object was deleted and stays, because a finalizer on it or on what its namespace holds stays.",
        "Its deletion time and finalizers; a namespace's own conditions.",
        "None by rule: what the finalizer guards may be lost. A person repairs its controller.",
    )
}
_OF_THE_CLUSTER = {"foregroundDeletion", "orphan", "kubernetes"}
_IN_USE = {"kubernetes.io/pvc-protection", "kubernetes.io/pv-protection"}
_PATIENCE = timedelta(seconds=60)
_REMAINING = ("NamespaceFinalizersRemaining", "NamespaceContentRemaining", "NamespaceDeletionContentFailure",
              "NamespaceDeletionDiscoveryFailure")  # fmt: skip
_LIMIT = 20


def find(scope: Scope) -> Iterable[Found]:
    count = 0
    for item in _asked(scope):
        found = _of_namespace(scope, item) if item.get("kind") == "Namespace" else _of_object(scope, item)
        if found is not None and count < _LIMIT:
            count += 1
            yield found


def _asked(scope: Scope) -> Iterator[Object]:
    """Objects being deleted that are asked about, or that pods of the scope use."""
    used = {
        (reference.kind, text(pod, "metadata", "namespace"), reference.name)
        for pod in scope.pods
        for reference in references_of(pod)
    }
    wanted = {*scope.workloads, *([scope.target] if scope.target else [])}
    for kind in sorted(scope.snapshot.kinds()):
        for item in scope.snapshot.all(kind):
            if not text(item, "metadata", "deletionTimestamp"):
                continue
            namespace, name = text(item, "metadata", "namespace"), text(item, "metadata", "name")
            whole = scope.covers(name if kind == "Namespace" else namespace) if namespace or kind == "Namespace" else (
                scope.namespaces is None)  # fmt: skip
            in_scope = kind == "Pod" and any(pod is item for pod in scope.pods)
            if whole or in_scope or ref_of(item) in wanted or (kind, namespace, name) in used:
                yield item


def _of_object(scope: Scope, item: Object) -> Found | None:
    now, ref = scope.snapshot.observed_at, ref_of(item)
    deleted = when(item, "metadata", "deletionTimestamp")
    holding = [name for name in strings(item, "metadata", "finalizers") if name not in _OF_THE_CLUSTER]
    if not holding or deleted is None:
        return None
    foreign = [name for name in holding if name not in _IN_USE and "kubernetes.io/" not in name]
    if set(holding) <= _IN_USE or (not foreign and now - deleted < _PATIENCE):
        return None  # it goes as soon as nobody uses it, or its controller has just begun
    names = ", ".join(holding)
    claims = [
        Claim(f"{ref.kind} {ref.name} was deleted at {deleted:%Y-%m-%d %H:%M:%SZ} and is still there",
              [of_object(item, "/metadata/deletionTimestamp", now)]),
        Claim(f"It waits for finalizer {names}", [of_object(item, "/metadata/finalizers", now)]),
    ]  # fmt: skip
    facts: dict[str, Fact] = {"finalizers": holding, "deleted_at": deleted.isoformat()}
    return Found(
        CauseClass.FINALIZER_STUCK,
        ref,
        0.9 if now - deleted >= _PATIENCE else 0.75,
        f"{ref.kind} {ref.name} is being deleted and does not go: finalizer {names} is not taken away.",
        claims,
        facts=facts,
        next_steps=[f"Find the controller of finalizer {names}, and see why it does not finish"],
    )


def _of_namespace(scope: Scope, item: Object) -> Found | None:
    now, ref = scope.snapshot.observed_at, ref_of(item)
    remaining = [
        (index, entry)
        for index, entry in enumerate(objects(item, "status", "conditions"))
        if entry.get("type") in _REMAINING and entry.get("status") == "True"
    ]
    held = condition(item, "NamespaceFinalizersRemaining").get("status") == "True"
    undiscovered = condition(item, "NamespaceDeletionDiscoveryFailure").get("status") == "True"
    if not (held or undiscovered):
        return None  # its pods are still stopping
    claims = [Claim(f"Namespace {ref.name} is being deleted", [of_object(item, "/metadata/deletionTimestamp", now)])]
    for index, entry in remaining:
        shown = of_object(item, f"/status/conditions/{index}/message", now)
        claims.append(Claim(f"Its controller says {quoted(text(entry, 'message'))}", [shown]))
    said = condition(item, "NamespaceFinalizersRemaining" if held else "NamespaceDeletionDiscoveryFailure")
    inside = [
        other
        for kind in sorted(scope.snapshot.kinds())
        for other in scope.snapshot.all(kind, ref.name)
        if text(other, "metadata", "deletionTimestamp") and strings(other, "metadata", "finalizers")
    ]
    for other in inside[:3]:
        held_by = ", ".join(strings(other, "metadata", "finalizers"))
        shown = of_object(other, "/metadata/finalizers", now)
        claims.append(Claim(f"{ref_of(other)} waits for finalizer {held_by}", [shown]))
    facts: dict[str, Fact] = {"objects": [str(ref_of(other)) for other in inside[:10]]}
    return Found(
        CauseClass.FINALIZER_STUCK,
        ref,
        0.93,
        f"Namespace {ref.name} is being deleted and does not go: {text(said, 'message')[:200].strip(' .')}.",
        claims,
        facts=facts,
        explains=[ref_of(other) for other in inside],
        next_steps=[f"Remove what holds the content of namespace {ref.name}, or repair its controller"],
    )
