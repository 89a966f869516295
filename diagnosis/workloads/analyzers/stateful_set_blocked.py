"""A StatefulSet whose controller waits for a pod of a low ordinal: it makes and updates pods in order.

Where a template was corrected, the controller waits for the broken pod of the old template for ever (known as forced
rollback, kubernetes.io/docs/concepts/workloads/controllers/statefulset): then the pod itself is in the way.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, condition, decimal, number, text, when
from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Fact, ObjectRef

NAME = "stateful_set_blocked"
READS = ("StatefulSet", "Pod")
RULED_OUT = "stateful sets: none waits for a pod of a low ordinal"
CAUSES = {
    CauseClass.STATEFUL_SET_BLOCKED: Documented(
        "A StatefulSet makes and updates its pods in order, and waits for one that is not ready: of a template that "
        "was corrected meanwhile, or for a reason that is not known.",
        "The pods' ordinals, revisions and readiness, and the StatefulSet's own status.",
        "Deleting the pod, where its template was corrected; otherwise what its pod lacks is looked for.",
    )
}
_REVISION = "controller-revision-hash"
_SETTLED = timedelta(seconds=5)


def find(scope: Scope) -> Iterable[Found]:
    for ref in scope.workloads:
        item = scope.snapshot.get("StatefulSet", ref.namespace, ref.name) if ref.kind == "StatefulSet" else None
        if item is None or text(item, "spec", "podManagementPolicy") == "Parallel":
            continue
        if text(item, "metadata", "deletionTimestamp"):
            continue
        pods = sorted(
            ((ordinal, pod) for pod in scope.snapshot.pods_of(ref) if (ordinal := _ordinal(pod)) is not None),
            key=lambda entry: entry[0],
        )
        waiting = next(((ordinal, pod) for ordinal, pod in pods if _not_ready(pod)), None)
        if waiting is not None:
            yield from _blocked(scope, ref, item, *waiting, [pod for _, pod in pods])


def _ordinal(pod: Object) -> int | None:
    return decimal(text(pod, "metadata", "name").rpartition("-")[2])


def _not_ready(pod: Object) -> bool:
    return condition(pod, "Ready").get("status") != "True" or bool(text(pod, "metadata", "deletionTimestamp"))


def _blocked(
    scope: Scope, ref: ObjectRef, item: Object, ordinal: int, pod: Object, pods: list[Object]
) -> Iterable[Found]:
    now, name = scope.snapshot.observed_at, text(pod, "metadata", "name")
    wanted = number(item, "spec", "replicas")
    missing = max(0, (1 if wanted is None else wanted) - len(pods))
    revision, update = text(pod, "metadata", "labels", _REVISION), text(item, "status", "updateRevision")
    corrected = bool(revision and update and revision != update) and text(
        item, "spec", "updateStrategy", "type") != "OnDelete"  # fmt: skip
    made = when(pod, "metadata", "creationTimestamp")
    if not (missing or corrected) or (made is not None and now - made < _SETTLED):
        return
    states = of_object(pod, "/status/conditions", now)
    claims = [Claim(f"Pod {name} is not ready, and the pods after it wait for it", [states])]
    facts: dict[str, Fact] = {"pod": name, "ordinal": ordinal, "missing_pods": missing, "template_corrected": corrected}
    if corrected:
        shown = [of_object(pod, f"/metadata/labels/{_REVISION}", now), of_object(item, "/status/updateRevision", now)]
        claims.append(Claim(f"It is still of revision {revision}; the template is now {update}", shown))
    if missing:
        shown = [of_object(item, "/status", now)]
        claims.append(Claim(f"{missing} of its pods are not made yet", shown))
    why = "of an older template that never became ready" if corrected else "which is not ready"
    step = f"Delete pod {name}: the next one gets the corrected template" if corrected else f"Look at pod {name}"
    yield Found(
        CauseClass.STATEFUL_SET_BLOCKED,
        ref,
        0.9 if corrected else 0.6,
        f"StatefulSet {ref.name} waits for its pod {name}, {why}.",
        claims,
        facts=facts,
        next_steps=[step],
    )
