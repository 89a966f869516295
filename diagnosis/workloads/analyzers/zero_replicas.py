"""A workload with no replicas that somebody needs: a caller fails at its Service; or it was scaled down just now while
a route from outside leads to it, an alert is about it, or it is what is asked about. Zero that nobody misses is as its
owner wants it, however short ago and by whomever it was scaled: who did it does not tell whether it was meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from diagnosis.workloads.calls import Call
from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.events import Event
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import Object, number, objects, pick, text
from diagnosis.workloads.metrics import ALIASES
from diagnosis.workloads.routes import backends_of
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
        "Its spec, the Service that leads to it, and the log of a caller that fails there; or the event of the "
        "scaling, with a route or an alert that shows that it is missed.",
        "Scaling to the size that it had, or to its autoscaler's minimum, where one was observed.",
    )
}
_WORD = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
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
            by_hand = scaled is not None and not _scales_itself(scope, template)
            missed = list(_missed(scope, service, template)) if by_hand and not calls else []
            if calls or missed or (by_hand and _asked(scope, service, template)):
                seen.add(template.ref)
                yield _found(scope, service, template, calls, scaled, missed)


def _asked(scope: Scope, service: Object, template: Template) -> bool:
    """Whether it, or its Service, is the target or named in the symptom."""
    refs = (template.ref, ref_of(service))
    words = set(_WORD.findall(scope.symptom[:4000].lower()))
    return any(ref == scope.target or ref.name in words for ref in refs)


def _missed(scope: Scope, service: Object, template: Template) -> Iterator[Claim]:
    """Routes that lead to it only, so that they answer nothing but errors, and alerts about it."""
    name, now = text(service, "metadata", "name"), scope.snapshot.observed_at
    for kind in ("Ingress", "HTTPRoute"):
        for route in scope.snapshot.all(kind, template.ref.namespace):
            backend = next((b for b in backends_of(route) if (b.kind, b.name) == ("Service", name)), None)
            if backend is not None:
                said = f"{kind} {text(route, 'metadata', 'name')} leads to Service {name}"
                yield Claim(said, [of_object(route, backend.at, now)])
    for alert in scope.snapshot.alerts:
        about = {alert.labels.get(label) for label in (*ALIASES["workload"], *ALIASES["service"])}
        here = alert.labels.get("namespace") == template.ref.namespace
        if alert.active and here and about & {template.ref.name, name}:
            yield Claim(f"Alert {alert.name} is active for it", [alert.evidence(now)])


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


def _found(
    scope: Scope, service: Object, template: Template, calls: list[Call], scaled: Event | None, missed: list[Claim]
) -> Found:
    now, ref, name = scope.snapshot.observed_at, template.ref, text(service, "metadata", "name")
    claims = [
        Claim(f"{ref.kind} {ref.name} wants no replicas", [of_object(template.item, "/spec/replicas", now)]),
        Claim(f"Service {name} leads to its pods only", [of_object(service, "/spec/selector", now)], Severity.INFO),
    ]
    for call in calls[:2]:
        said = f"The log of {call.workload.kind} {call.workload.name} says {quoted(call.line.text)}"
        claims.append(Claim(said, [call.evidence(scope.snapshot)]))
    claims += missed[:2]
    if scaled is not None:
        claims.append(Claim(f"The controller says {quoted(scaled.message)}", [of_event(scaled, now)]))
    facts: dict[str, Fact] = {"service": name, "replicas": 0}
    facts |= _suggestion(scope, template)
    callers = list(dict.fromkeys(call.workload for call in calls if call.workload != ref))
    needs = f"{callers[0].kind} {callers[0].name} needs it" if callers else "its Service leads nowhere"
    if missed and not callers:
        needs = f"it is missed: {missed[0].text}"
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
