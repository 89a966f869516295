"""A rollout that does not go on although nothing is wrong with its pods: it is paused with a change waiting, or the
controller gave up. What keeps the pods themselves from running explains a stuck rollout, and is found elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, condition, mapping, number, objects, pick, text
from diagnosis.workloads.rollout import changes
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Evidence, EvidenceKind, Fact, ObjectRef

NAME = "rollout_stuck"
READS = ("Deployment", "ReplicaSet")
RULED_OUT = "rollouts: none is paused with a change waiting or given up by its controller"
CAUSES = {
    CauseClass.ROLLOUT_STUCK: Documented(
        "A rollout does not go on: it is paused while its template differs from what runs, or its controller gave up "
        "although the pods show no fault.",
        "The Deployment's own spec and conditions, and the templates of its ReplicaSets.",
        "Resuming, where it is paused; otherwise what keeps it is looked for in its pods.",
    )
}


def find(scope: Scope) -> Iterable[Found]:
    for ref in scope.workloads:
        item = scope.snapshot.get(ref.kind, ref.namespace, ref.name) if ref.kind == "Deployment" else None
        if item is None or text(item, "metadata", "deletionTimestamp"):
            continue
        paused = pick(item, "spec", "paused") is True
        found = _paused(scope, ref, item) if paused else _given_up(scope, ref, item)
        if found is not None:
            yield found


def _paused(scope: Scope, ref: ObjectRef, item: Object) -> Found | None:
    revisions = scope.snapshot.revisions(ref)
    if not revisions:
        return None
    now, template = scope.snapshot.observed_at, mapping(item, "spec", "template")
    waiting = [changes(revision.template, template) for revision in revisions]
    if any(not lines for lines in waiting):
        return None  # what it asks for is there already
    lines = waiting[-1]
    source = f"kubectl diff of the template of {ref} and its newest ReplicaSet"
    difference = Evidence.of(EvidenceKind.HISTORY, source, "\n".join(lines[:12]), now)
    claims = [
        Claim(f"Deployment {ref.name} is paused", [of_object(item, "/spec/paused", now)]),
        Claim(f"Its template differs from what runs: {lines[0]}", [difference]),
    ]
    facts: dict[str, Fact] = {"why": "paused", "paused": True, "changes": lines[:12]}
    return Found(
        CauseClass.ROLLOUT_STUCK,
        ref,
        0.93,
        f"The rollout of Deployment {ref.name} is paused, with a change waiting: {lines[0]}.",
        claims,
        facts=facts,
        next_steps=[f"Resume the rollout of Deployment {ref.name} once it is known why it was paused"],
    )


def _given_up(scope: Scope, ref: ObjectRef, item: Object) -> Found | None:
    """The deadline is over and no pod of it has a fault of its own."""
    progressing = condition(item, "Progressing")
    if progressing.get("reason") != "ProgressDeadlineExceeded":
        return None
    pods = {text(pod, "metadata", "name") for pod in scope.snapshot.pods_of(ref)}
    failing = any(container.pod_name in pods for container in scope.troubled)
    pending = any(text(pod, "status", "phase") != "Running" for pod in scope.snapshot.pods_of(ref))
    refused = condition(item, "ReplicaFailure").get("status") == "True"
    wanted, ready = number(item, "spec", "replicas"), number(item, "status", "updatedReplicas")
    if failing or pending or refused or wanted == 0 or ready == wanted:
        return None
    now = scope.snapshot.observed_at
    index = next(i for i, c in enumerate(objects(item, "status", "conditions")) if c.get("type") == "Progressing")
    shown = of_object(item, f"/status/conditions/{index}/message", now)
    said = quoted(text(progressing, "message"))
    claims = [Claim(f"The controller says {said}", [shown])]
    return Found(
        CauseClass.ROLLOUT_STUCK,
        ref,
        0.7,
        f"The rollout of Deployment {ref.name} does not go on, and its pods show no fault.",
        claims,
        facts={"why": "deadline", "paused": False},
        next_steps=[f"Look at the events of Deployment {ref.name} and of its ReplicaSets"],
    )
