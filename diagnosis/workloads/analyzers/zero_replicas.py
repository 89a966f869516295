"""A workload with no replicas that somebody needs: a caller fails at its Service, or it was scaled down just now while
a Service still leads to it. Zero that nobody complains of is as its owner wants it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from diagnosis.workloads.calls import Call
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.events import Event
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import Object, number, objects, pick, text
from diagnosis.workloads.scope import RECENT, Scope
from diagnosis.workloads.services import Template, services_of
from diagnosis.workloads.snapshot import ref_of
from incidents.models import CauseClass, Fact, ObjectRef, Severity

NAME = "zero_replicas"
READS = ("Deployment", "Service", "Event")
RULED_OUT = "zero replicas: nothing that is needed has none"
CAUSES = {
    CauseClass.ZERO_REPLICAS: Documented(
        "A workload that others need has no replicas.",
        "Its spec, the Service that leads to it, and the log of a caller that fails there or the event of the scaling.",
        "Scaling to the size that it had, or to its autoscaler's minimum, where one was observed.",
    )
}
_SCALED = re.compile(
    r"^(?:Scaled (?P<way>up|down) replica set \S+ (?:from \d+ )?to (?P<to>\d{1,6})|New size: (?P<size>\d{1,6}))"
)


def find(scope: Scope) -> Iterable[Found]:
    known = services_of(scope.snapshot)
    wanted = set(scope.workloads)
    seen: set[ObjectRef] = set()
    for service in scope.snapshot.all("Service"):
        templates = known.selected_templates(service)
        if not templates or any(template.wanted for template in templates):
            continue  # others answer for it
        namespace = text(service, "metadata", "namespace")
        calls = known.calls_to(service)
        inside = scope.covers(namespace) or ref_of(service) == scope.target
        inside = inside or any(t.ref in wanted for t in templates) or any(call.workload in wanted for call in calls)
        for template in templates if inside else []:
            if template.ref in seen or template.ref.kind not in ("Deployment", "StatefulSet", "ReplicaSet"):
                continue
            scaled = _scaled_down(scope, template)
            if calls or (scaled is not None and not _scales_itself(scope, template)):
                seen.add(template.ref)
                yield _found(scope, service, template, calls, scaled)


def _scales_itself(scope: Scope, template: Template) -> bool:
    """Whether an event-driven autoscaler (KEDA) may have taken it to zero: its custom resource owns the autoscaler."""
    return any(
        text(pick(scaler, "spec", "scaleTargetRef"), "name") == template.ref.name
        and any(owner.get("kind") == "ScaledObject" for owner in objects(scaler, "metadata", "ownerReferences"))
        for scaler in scope.snapshot.all("HorizontalPodAutoscaler", template.ref.namespace)
    )


def _scaled_down(scope: Scope, template: Template) -> Event | None:
    """The event that says that it was scaled to zero, within the last hour."""
    now = scope.snapshot.observed_at
    for event, to in _sizes(scope, template):
        if to == 0 and event.last is not None and now - event.last <= RECENT:
            return event
    return None


def _sizes(scope: Scope, template: Template) -> Iterator[tuple[Event, int]]:
    """Scaling events with the size that they tell, newest first."""
    ref, uid = template.ref, text(template.item, "metadata", "uid")
    for event in reversed(scope.snapshot.events_for(ref.kind, ref.namespace, ref.name, uid)):
        match = _SCALED.match(event.message)
        if match:
            yield event, int(match["to"] or match["size"] or 0)


def _found(scope: Scope, service: Object, template: Template, calls: list[Call], scaled: Event | None) -> Found:
    now, ref, name = scope.snapshot.observed_at, template.ref, text(service, "metadata", "name")
    claims = [
        Claim(f"{ref.kind} {ref.name} wants no replicas", [of_object(template.item, "/spec/replicas", now)]),
        Claim(f"Service {name} leads to its pods only", [of_object(service, "/spec/selector", now)], Severity.INFO),
    ]
    for call in calls[:2]:
        said = f"The log of {call.workload.kind} {call.workload.name} says {quoted(call.line.text)}"
        claims.append(Claim(said, [call.evidence(scope.snapshot)]))
    if scaled is not None:
        claims.append(Claim(f"The controller says {quoted(scaled.message)}", [of_event(scaled, now)]))
    facts: dict[str, Fact] = {"service": name, "replicas": 0}
    facts |= _suggestion(scope, template)
    callers = list(dict.fromkeys(call.workload for call in calls if call.workload != ref))
    needs = f"{callers[0].kind} {callers[0].name} needs it" if callers else "its Service leads nowhere"
    return Found(
        CauseClass.ZERO_REPLICAS,
        ref,
        0.93 if calls else 0.6,
        f"{ref.kind} {ref.name} has no replicas, and {needs} (Service {name}).",
        claims,
        facts=facts,
        explains=[*callers, ref_of(service)],
        next_steps=[f"Scale {ref.kind} {ref.name} up again, once it is known why it was scaled to zero"],
    )


def _suggestion(scope: Scope, template: Template) -> dict[str, Fact]:
    ref = template.ref
    for scaler in scope.snapshot.all("HorizontalPodAutoscaler", ref.namespace):
        target = pick(scaler, "spec", "scaleTargetRef")
        if (text(target, "kind"), text(target, "name")) == (ref.kind, ref.name):
            least = number(scaler, "spec", "minReplicas") or 1
            return {"suggested_replicas": least,
                    "suggested_from": f"the minimum of autoscaler {text(scaler, 'metadata', 'name')}"}  # fmt: skip
    size = next((to for _, to in _sizes(scope, template) if to > 0), None)
    if size is None:
        return {}
    return {"suggested_replicas": size, "suggested_from": "the size that an event tells it had"}
