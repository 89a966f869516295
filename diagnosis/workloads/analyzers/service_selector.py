"""A Service that selects no pod: its selector misses a workload's labels, or its workload has no pods or no addresses.

A Service whose workload is scaled to zero selects no pod either, and is right: that is told of the workload.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.evidence import of_absence, of_object
from diagnosis.workloads.fields import Object, condition, objects, pick, text, when
from diagnosis.workloads.near_miss import NearMiss, near_misses
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.services import Services, Template, selector_of, services_in, services_of
from diagnosis.workloads.snapshot import ref_of
from incidents.models import CauseClass, Evidence, Fact, ObjectRef

NAME = "service_selector"
READS = ("Service", "Pod")
RULED_OUT = "service selectors: every Service with a selector selects pods, or its workload wants none"
CAUSES = {
    CauseClass.SERVICE_SELECTOR_MISMATCH: Documented(
        "The Service's selector misses the labels of the pods that it is for, so it sends to nobody.",
        "The selector, the pods of the namespace, and the labels of the workload that it nearly matches.",
        "The selector is set to the labels of the workload that was meant, where one is clearly the nearest.",
    ),
    CauseClass.SERVICE_WITHOUT_ENDPOINTS: Documented(
        "The Service has no address to send to although its selector is right: its workload has no pods, there is no "
        "such workload at all, or nothing writes the addresses of its ready pods.",
        "The selector, the Endpoints, and the workload that wants pods.",
        "That of the workload's own cause; an orphaned Service is for a person.",
    ),
}

_NAMES_SHOWN = 8
_SETTLING = timedelta(seconds=30)


def find(scope: Scope) -> Iterable[Found]:
    snapshot, known = scope.snapshot, services_of(scope.snapshot)
    asked = set(map(id, services_in(scope)))
    spaces = {ref.namespace for ref in scope.workloads if ref.namespace}
    for service in snapshot.all("Service"):
        namespace = text(service, "metadata", "namespace")
        selector = selector_of(service)
        if not selector or (id(service) not in asked and namespace not in spaces):
            continue
        pods = known.pods(service)
        if pods:
            if id(service) in asked and (found := _unpublished(scope, service, pods)) is not None:
                yield found
            miss = known.meant_instead(service)
            if miss is not None and (id(service) in asked or miss.ref in scope.workloads):
                yield _of_others(scope, service, selector, pods, miss)
            continue
        if ("Pod", namespace) not in snapshot.complete and not snapshot.looked_at("Pod", namespace):
            continue
        selected = known.selected_templates(service)
        if selected:
            if id(service) in asked and any(template.wanted for template in selected):
                yield _without_pods(scope, service, [template for template in selected if template.wanted])
            continue
        misses = near_misses(
            text(service, "metadata", "name"), selector, known.templates(namespace), _taken(known, service)
        )
        if id(service) in asked or any(miss.template.ref in scope.workloads for miss in misses[:1]):
            yield _mismatch(scope, service, selector, misses)


def _taken(known: Services, service: Object) -> set[int]:
    namespace = text(service, "metadata", "namespace")
    others = [other for other in known.snapshot.all("Service", namespace) if other is not service]
    return {id(template) for other in others for template in known.selected_templates(other)}


def _mismatch(scope: Scope, service: Object, selector: dict[str, str], misses: list[NearMiss]) -> Found:
    snapshot, now, known = scope.snapshot, scope.snapshot.observed_at, services_of(scope.snapshot)
    ref, name = ref_of(service), text(service, "metadata", "name")
    namespace = text(service, "metadata", "namespace")
    calls = known.calls_to(service)
    shown = ", ".join(f"{key}={value}" for key, value in sorted(selector.items()))
    claims = [
        Claim(
            f"Service {name} selects pods with {shown}, and no pod of namespace {namespace} has these labels",
            [of_object(service, "/spec/selector", now), _pods_there(scope, namespace, name)],
        )
    ]
    facts: dict[str, Fact] = {"selector": [f"{key}={value}" for key, value in sorted(selector.items())]}
    certain = misses[:1] if len(misses) == 1 else []
    if certain:
        claims.append(_difference(scope, certain[0]))
        facts |= _correction(certain[0])
        why = f"{_words(certain[0])}, as {certain[0].template.ref.kind} {certain[0].template.ref.name} has it"
        step = f"Correct the selector of Service {name}: {certain[0].suggested_key}={certain[0].suggested}"
        confidence = 0.95
    elif misses:
        names = [f"{miss.template.ref.kind} {miss.template.ref.name}" for miss in misses[:_NAMES_SHOWN]]
        claims += [_difference(scope, miss) for miss in misses[:3]]
        facts["candidates"] = names
        why = f"it could be meant for {' or '.join(names)}"
        step = f"Say which workload Service {name} is for: {', '.join(names)}"
        confidence = 0.85
    else:
        elsewhere = [
            space for space in snapshot.namespaces() if space != namespace and known.pods_with(space, selector)
        ]
        if elsewhere:
            pods = known.pods_with(elsewhere[0], selector)
            claims.append(
                Claim(
                    f"Pods of namespace {elsewhere[0]} have these labels", [of_object(pods[0], "/metadata/labels", now)]
                )
            )
            facts["found_in_namespace"] = elsewhere[0]
            why = f"the pods with these labels are in namespace {elsewhere[0]}"
        else:
            why = f"no workload of namespace {namespace} has labels like these"
        step = f"Find out which workload Service {name} is for, and whether it is still wanted"
        confidence = 0.85 if calls or elsewhere or scope.target == ref else 0.5
    claims += [Claim(f"{call.workload} cannot reach it", [call.evidence(snapshot)]) for call in calls[:2]]
    return Found(
        CauseClass.SERVICE_SELECTOR_MISMATCH
        if certain or misses or elsewhere
        else CauseClass.SERVICE_WITHOUT_ENDPOINTS,
        ref,
        confidence,
        f"Service {name} selects no pod: {why}.",
        claims,
        facts=facts,
        explains=_explained(scope, service),
        next_steps=[step],
    )


def _of_others(scope: Scope, service: Object, selector: dict[str, str], pods: list[Object], meant: Template) -> Found:
    """The selector takes the pods of another workload than the one that has the Service's name."""
    now, name = scope.snapshot.observed_at, text(service, "metadata", "name")
    taken = list(dict.fromkeys(scope.snapshot.workload_of(pod) for pod in pods))
    corrected = {key: meant.labels[key] for key in selector}
    facts: dict[str, Fact] = {
        "field": "selector",
        "selector": [f"{key}={value}" for key, value in sorted(selector.items())],
        "suggested_selector": [f"{key}={value}" for key, value in sorted(corrected.items())],
        "suggested_workload": f"{meant.ref.kind}/{meant.ref.name}",
        "suggested_from": f"the labels of {meant.ref.kind} {meant.ref.name}",
        "selected": [str(ref) for ref in taken[:10]],
    }
    return Found(
        CauseClass.SERVICE_SELECTOR_MISMATCH,
        ref_of(service),
        0.85,
        f"Service {name} selects the pods of {taken[0].kind} {taken[0].name}, which do not have its port, instead of "
        f"those of {meant.ref.kind} {meant.ref.name}, which do.",
        [
            Claim(f"The selector of Service {name}", [of_object(service, "/spec", now)]),
            Claim(f"It takes the pods of {taken[0]}", [of_object(pods[0], "/metadata/labels", now)]),
            Claim(
                f"The labels of {meant.ref}, which no Service selects", [of_object(meant.item, meant.labels_at, now)]
            ),
        ],
        facts=facts,
        explains=_explained(scope, service),
        next_steps=[f"Correct the selector of Service {name} to the labels of {meant.ref.kind} {meant.ref.name}"],
    )


def _words(miss: NearMiss) -> str:
    if miss.key != miss.suggested_key:
        return f"it asks for the label {miss.key}={miss.observed} instead of {miss.suggested_key}={miss.suggested}"
    return f"it asks for {miss.key}={miss.observed} instead of {miss.suggested}"


def _correction(miss: NearMiss) -> dict[str, Fact]:
    template = miss.template
    return {
        "field": "selector",
        "selector_key": miss.key,
        "observed": miss.observed,
        "suggested_key": miss.suggested_key,
        "suggested": miss.suggested,
        "suggested_selector": [f"{key}={value}" for key, value in sorted(miss.selector.items())],
        "suggested_from": f"the labels of {template.ref.kind} {template.ref.name}",
        "suggested_workload": f"{template.ref.kind}/{template.ref.name}",
    }


def _difference(scope: Scope, miss: NearMiss) -> Claim:
    template = miss.template
    shown = of_object(template.item, template.labels_at, scope.snapshot.observed_at)
    return Claim(
        f"The pods of {template.ref.kind} {template.ref.name} have {miss.suggested_key}={miss.suggested}", [shown]
    )


def _pods_there(scope: Scope, namespace: str, name: str) -> Evidence:
    """The pods that there are, none of which the selector fits."""
    there = [text(pod, "metadata", "name") for pod in scope.snapshot.all("Pod", namespace)]
    return of_absence("Pod", namespace, f"with the labels of Service {name}", there, scope.snapshot.observed_at)


def _without_pods(scope: Scope, service: Object, templates: list[Template]) -> Found:
    """The workload is the right one and has no pods: its own cause explains it."""
    now, name = scope.snapshot.observed_at, text(service, "metadata", "name")
    refs = [template.ref for template in templates]
    there = _pods_there(scope, text(service, "metadata", "namespace"), name)
    claims = [Claim(f"Service {name} selects no pod", [of_object(service, "/spec/selector", now), there])]
    claims += [
        Claim(
            f"{template.ref} wants {template.wanted} pods and has none",
            [of_object(template.item, "/spec/replicas", now)],
        )
        for template in templates
        if pick(template.item, "spec", "replicas") is not None
    ]
    return Found(
        CauseClass.SERVICE_WITHOUT_ENDPOINTS,
        ref_of(service),
        0.5,
        f"Service {name} has no endpoints: {refs[0].kind} {refs[0].name} has no pods.",
        claims,
        leads_to=refs,
        explains=_explained(scope, service),
        next_steps=[f"Find out why {refs[0].kind} {refs[0].name} has no pods"],
    )


def _unpublished(scope: Scope, service: Object, pods: list[Object]) -> Found | None:
    """Ready pods that the Endpoints do not have: whoever writes them does not."""
    now, name = scope.snapshot.observed_at, text(service, "metadata", "name")
    endpoints = scope.snapshot.get("Endpoints", text(service, "metadata", "namespace"), name)
    ready = [pod for pod in pods if condition(pod, "Ready").get("status") == "True" and text(pod, "status", "podIP")]
    if endpoints is None or not ready or objects(endpoints, "subsets") or _just_ready(scope, ready):
        return None
    return Found(
        CauseClass.SERVICE_WITHOUT_ENDPOINTS,
        ref_of(service),
        0.85,
        f"Service {name} has no endpoints although {len(ready)} of its pods are ready: nothing writes them.",
        [
            Claim(f"The Endpoints {name} have no address", [of_object(endpoints, "", now)]),
            Claim(
                f"{len(ready)} pods that Service {name} selects are ready",
                [of_object(pod, "/status/conditions", now) for pod in ready[:2]],
            ),
        ],
        facts={"ready_pods": len(ready)},
        explains=_explained(scope, service),
        next_steps=["Look at kube-controller-manager: its endpoints controller writes the addresses of ready pods"],
    )


def _just_ready(scope: Scope, pods: list[Object]) -> bool:
    """Whether the Endpoints may simply not be written yet."""
    since = [when(condition(pod, "Ready"), "lastTransitionTime") for pod in pods]
    return not any(time is not None and scope.snapshot.observed_at - time > _SETTLING for time in since)


def _explained(scope: Scope, service: Object) -> list[ObjectRef]:
    """The callers that fail because of a Service."""
    return list(dict.fromkeys(call.workload for call in services_of(scope.snapshot).calls_to(service)))
