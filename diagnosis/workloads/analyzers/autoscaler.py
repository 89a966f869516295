"""A horizontal autoscaler that cannot compute a size: no metrics, no requests to relate them to, or no target."""

from __future__ import annotations

import json
from collections.abc import Iterable

from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_absence, of_event, of_object
from diagnosis.workloads.fields import Object, objects, pick, text
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.snapshot import ref_of
from incidents.models import CauseClass, Evidence, Fact, ObjectRef

NAME = "autoscaler"
READS = ("HorizontalPodAutoscaler", "Event")
RULED_OUT = "autoscalers: each has its metrics"
CAUSES = {
    CauseClass.AUTOSCALER_WITHOUT_METRICS: Documented(
        "An autoscaler cannot compute a size: the metrics API does not answer or knows nothing of the pods, the "
        "containers have no requests to relate use to, or its target does not exist.",
        "The autoscaler's own ScalingActive or AbleToScale condition, its events, and its target's template.",
        "Requests, where they are missing, from observed use; the metrics API is for a person to repair.",
    )
}
_IN_ANNOTATION = "autoscaling.alpha.kubernetes.io/conditions"  # where autoscaling/v1 keeps them
_NO_METRICS = ("FailedGetResourceMetric", "FailedGetContainerResourceMetric", "FailedGetPodsMetric",
               "FailedGetObjectMetric", "FailedGetExternalMetric", "InvalidMetricSourceType")  # fmt: skip


def find(scope: Scope) -> Iterable[Found]:
    for item in scope.snapshot.all("HorizontalPodAutoscaler"):
        target = _target(item)
        asked = scope.covers(text(item, "metadata", "namespace")) or ref_of(item) == scope.target
        if asked or target in scope.workloads:
            found = _found(scope, item, target)
            if found is not None:
                yield found


def _target(item: Object) -> ObjectRef | None:
    kind, name = (text(item, "spec", "scaleTargetRef", key) for key in ("kind", "name"))
    return ObjectRef(kind=kind, namespace=text(item, "metadata", "namespace") or None, name=name) if name else None


def _conditions(item: Object) -> list[tuple[Object, str]]:
    """The conditions with where each is read."""
    found = [
        (entry, f"/status/conditions/{index}") for index, entry in enumerate(objects(item, "status", "conditions"))
    ]
    annotation = text(item, "metadata", "annotations", _IN_ANNOTATION)
    if not found and annotation:
        at = "/metadata/annotations/" + _IN_ANNOTATION.replace("/", "~1")
        try:
            found = [(entry, at) for entry in json.loads(annotation) if isinstance(entry, dict)]
        except (ValueError, TypeError, RecursionError):
            return []
    return found


def _found(scope: Scope, item: Object, target: ObjectRef | None) -> Found | None:
    now, name = scope.snapshot.observed_at, text(item, "metadata", "name")
    failing = [
        (entry, at)
        for entry, at in _conditions(item)
        if entry.get("status") == "False"
        and (
            (entry.get("type") == "ScalingActive" and text(entry, "reason") in _NO_METRICS)
            or (entry.get("type") == "AbleToScale" and text(entry, "reason") == "FailedGetScale")
        )
    ]
    if not failing:
        return None
    entry, at = failing[0]
    message = text(entry, "message")
    evidence: list[Evidence] = [of_object(item, f"{at}/message" if at.startswith("/status") else at, now)]
    said = f": {quoted(message)}" if message and at.startswith("/status") else f" ({text(entry, 'reason')})"
    claims = [Claim(f"Autoscaler {name} cannot compute a size{said}", evidence)]
    events = scope.snapshot.events_for("HorizontalPodAutoscaler", text(item, "metadata", "namespace"), name,
                                       text(item, "metadata", "uid"))  # fmt: skip
    told = [event for event in events if event.warning and event.reason in (*_NO_METRICS, "FailedGetScale")]
    if told:
        claims.append(Claim(f"Its event says {quoted(told[-1].message)}", [of_event(told[-1], now)]))
    facts: dict[str, Fact] = {"workload": target.name if target else None, "reason": text(entry, "reason")}
    if target is not None and scope.snapshot.lacks(target.kind, target.namespace, target.name):
        here = [text(other, "metadata", "name") for other in scope.snapshot.all(target.kind, target.namespace)]
        absent = of_absence(target.kind, target.namespace or "", target.name, here, now)
        claims.append(Claim(f"There is no {target.kind} {target.name}", [absent]))
        why, facts["why"] = f"its target {target.kind} {target.name} does not exist", "missing_target"
    elif "missing request for" in message:
        why, facts["why"] = "containers of its target state no request", "missing_requests"
        claims += _without_requests(scope, target, facts)
    else:
        why, facts["why"] = "it gets no metrics", "no_metrics"
    return Found(
        CauseClass.AUTOSCALER_WITHOUT_METRICS,
        ref_of(item),
        0.93,
        f"Autoscaler {name} of {f'{target.kind} {target.name}' if target else 'nothing'} cannot scale: {why}.",
        claims,
        facts=facts,
        next_steps=["State requests for the resource in every container" if facts["why"] == "missing_requests"
                    else f"Make the metrics that autoscaler {name} asks for available"],
    )  # fmt: skip


def _without_requests(scope: Scope, target: ObjectRef | None, facts: dict[str, Fact]) -> list[Claim]:
    item = scope.snapshot.get(target.kind, target.namespace, target.name) if target else None
    if item is None:
        return []
    found = [
        (index, text(container, "name"))
        for index, container in enumerate(objects(item, "spec", "template", "spec", "containers"))
        if not pick(container, "resources", "requests")
    ]
    facts["containers_without_requests"] = [name for _, name in found]
    now = scope.snapshot.observed_at
    shown = [of_object(item, f"/spec/template/spec/containers/{index}", now) for index, _ in found[:2]]
    names = ", ".join(name for _, name in found)
    return [Claim(f"Containers without requests: {names}", shown)] if shown else []
