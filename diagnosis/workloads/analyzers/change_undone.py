"""Two actors that undo each other's change: the same workload goes back and forth between templates.

Told by a Deployment's ReplicaSets, whose `revision-history` annotation lists each time that a template came back
(kubernetes/pkg/controller/deployment/util), and by who wrote the workload.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, decimal, mapping, objects, text, when
from diagnosis.workloads.revisions import REVISION_ANNOTATION
from diagnosis.workloads.rollout import changes
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Evidence, EvidenceKind, Fact, ObjectRef

NAME = "change_undone"
READS = ("Deployment", "ReplicaSet")
RULED_OUT = "changes: no workload goes back and forth between templates"
CAUSES = {
    CauseClass.CHANGE_UNDONE: Documented(
        "A workload goes back and forth between two templates: one actor undoes what another sets.",
        "The revisions at which each of its ReplicaSets came back, and who wrote the workload.",
        "None by rule: a repair would be undone again. A person stops one of the two actors.",
    )
}
_HISTORY = "deployment.kubernetes.io/revision-history"
_LEAST_RETURNS = 3  # one return is a rollback, and two may be a rollback and its repair
_LATELY = timedelta(hours=1)


def find(scope: Scope) -> Iterable[Found]:
    for ref in scope.workloads:
        item = scope.snapshot.get(ref.kind, ref.namespace, ref.name) if ref.kind == "Deployment" else None
        if item is None:
            continue
        returned = []
        for owned in scope.snapshot.owned_by(item, "ReplicaSet"):
            earlier = [n for part in text(owned, "metadata", "annotations", _HISTORY).split(",")
                       if (n := decimal(part.strip())) is not None]  # fmt: skip
            now_at = decimal(text(owned, "metadata", "annotations", REVISION_ANNOTATION))
            if earlier and now_at is not None:
                returned.append((sorted({*earlier, now_at}), owned))
        if (
            len(returned) >= 2
            and sum(len(times) - 1 for times, _ in returned) >= _LEAST_RETURNS
            and _lately(scope, item)
        ):
            yield _found(scope, ref, item, sorted(returned, key=lambda entry: -entry[0][-1]))


def _lately(scope: Scope, item: Object) -> bool:
    """Whether it was rolled out within the last hour: an old back and forth is history."""
    times = [
        time
        for entry in objects(item, "status", "conditions")
        if entry.get("type") == "Progressing" and (time := when(entry, "lastUpdateTime"))
    ]
    return not times or scope.snapshot.observed_at - max(times) <= _LATELY


def _found(scope: Scope, ref: ObjectRef, item: Object, returned: list[tuple[list[int], Object]]) -> Found:
    now = scope.snapshot.observed_at
    (newer_times, newer), (older_times, older) = returned[:2]
    lines = changes(mapping(older, "spec", "template"), mapping(newer, "spec", "template"))
    lines = [line for line in lines if "pod-template-hash" not in line]
    claims = []
    for times, owned in returned[:2]:
        name = text(owned, "metadata", "name")
        at = "/metadata/annotations"
        numbers = ", ".join(map(str, times))
        claims.append(Claim(f"The template of ReplicaSet {name} was rolled out as revisions {numbers}",
                            [of_object(owned, at, now)]))  # fmt: skip
    source = f"kubectl diff of the templates of the ReplicaSets of {ref}"
    shown = Evidence.of(EvidenceKind.HISTORY, source, "\n".join(lines[:12]) or "no difference", now)
    claims.append(Claim(f"Each time changes: {lines[0] if lines else 'nothing in the template'}", [shown]))
    writers = sorted({text(entry, "manager") for entry in objects(item, "metadata", "managedFields")
                      if text(entry, "manager") and text(entry, "manager") != "kube-controller-manager"})  # fmt: skip
    if len(writers) > 1:
        managed = of_object(item, "/metadata/managedFields", now)
        claims.append(Claim(f"It was written by {', '.join(writers)}", [managed]))
    facts: dict[str, Fact] = {"changes": lines[:12], "written_by": writers,
                              "revisions": [str(times) for times in (newer_times, older_times)]}  # fmt: skip
    what = lines[0] if lines else "its template"
    return Found(
        CauseClass.CHANGE_UNDONE,
        ref,
        0.85,
        f"Deployment {ref.name} goes back and forth between two templates: {what}.",
        claims,
        facts=facts,
        next_steps=[f"Find out who sets and who resets {ref.kind} {ref.name}, and let one of them decide"],
    )
