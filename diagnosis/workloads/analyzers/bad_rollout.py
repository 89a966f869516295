"""A change that broke what ran: pods of the current revision fail, an earlier revision was healthy.

Reported when nothing more specific explains the failure, or together with an error of the program, which the change
brought in. The change is named as the difference of the pod templates.
"""

from __future__ import annotations

from collections.abc import Iterable

from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, text
from diagnosis.workloads.revisions import Revision
from diagnosis.workloads.rollout import changes, current_revision, healthy_before
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Evidence, EvidenceKind, ObjectRef, Severity

NAME = "bad_rollout"
READS = ("Pod", "ReplicaSet")
RULED_OUT = "the last rollout: no earlier revision of what fails was seen healthy"
CAUSES = {
    CauseClass.BAD_ROLLOUT: Documented(
        "A change of the pod template broke what ran: the new revision fails, the one before was healthy.",
        "Failing pods of the current revision, the healthy record of the earlier one, and the difference of "
        "the templates.",
        "A rollback to the last healthy revision.",
    ),
}

_CHANGES_SHOWN = 12


def find(scope: Scope) -> Iterable[Found]:
    troubled: dict[ObjectRef, list[Container]] = {}
    for container in scope.troubled:
        troubled.setdefault(scope.snapshot.workload_of(container.pod), []).append(container)
    for ref, containers in troubled.items():
        current, healthy = current_revision(scope.snapshot, ref), healthy_before(scope.snapshot, ref)
        if current is None or healthy is None:
            continue
        pods = set(current.pods)
        # what breaks the old revision too was not brought in by the new one
        if all(container.pod_name in pods for container in containers):
            yield _found(scope, ref, current, healthy, sorted({container.name for container in containers}))


def _found(scope: Scope, ref: ObjectRef, current: Revision, healthy: Revision, failing: list[str]) -> Found:
    now = scope.snapshot.observed_at
    lines = [line for name in failing for line in changes(healthy.template, current.template, name)]
    own = bool(lines)
    lines = lines or changes(healthy.template, current.template)
    shown = "\n".join(lines[:_CHANGES_SHOWN]) or "no difference in the pod template"
    old, new = _name(healthy), _name(current)
    source = f"kubectl diff of the templates of {old} and {new} in namespace {ref.namespace}"
    difference = Evidence.of(EvidenceKind.HISTORY, source, shown, now)
    claims = [
        Claim(f"Revision {current.number} fails in container {', '.join(failing)}", _pods(scope, ref, current)),
        Claim(f"Revision {healthy.number} was healthy: {healthy.reason}", _source(scope, healthy), Severity.INFO),
        Claim(f"Between them changed: {lines[0] if lines else 'nothing in the pod template'}", [difference]),
    ]
    container = failing[0] if len(failing) == 1 else None
    what = "; ".join(lines[:2]) if lines else "nothing in the pod template"
    return Found(
        CauseClass.BAD_ROLLOUT,
        ref.model_copy(update={"container": container}),
        0.88 if own else 0.7,
        f"Revision {current.number} of {ref.kind} {ref.name} fails, revision {healthy.number} was healthy; changed: "
        f"{what}.",
        claims,
        facts={"changes": lines[:_CHANGES_SHOWN]},
        next_steps=[f"Roll {ref.kind} {ref.name} back to revision {healthy.number}, or correct the change: {what}"],
    )


def _name(revision: Revision) -> str:
    return f"{revision.source.kind} {revision.source.name}" if revision.source else f"revision {revision.number}"


def _source(scope: Scope, revision: Revision) -> list[Evidence]:
    item = _item(scope, revision)
    return [of_object(item, "/status" if "status" in item else "/revision", scope.snapshot.observed_at)]


def _item(scope: Scope, revision: Revision) -> Object:
    source = revision.source
    found = scope.snapshot.get(source.kind, source.namespace, source.name) if source else None
    return found or {}


def _pods(scope: Scope, ref: ObjectRef, revision: Revision) -> list[Evidence]:
    troubled = [c for c in scope.troubled if c.pod_name in revision.pods]
    return [
        of_object(container.pod, container.status_at or "/status/phase", scope.snapshot.observed_at)
        for container in troubled[:2]
        if text(container.pod, "metadata", "name")
    ]
