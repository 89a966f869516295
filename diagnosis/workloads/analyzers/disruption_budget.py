"""A disruption budget that stops evictions: a drain waits for ever, or a pod has several budgets and none is obeyed.

A budget that allows nothing right now does its work; it is told only where a node is being emptied, or where pods have
more than one (kubernetes.io/docs/tasks/run-application/configure-pdb: then the eviction API refuses).
"""

from __future__ import annotations

from collections.abc import Iterable

from diagnosis.workloads.contract import Claim, Documented, Found, quoted
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import Object, condition, mapping, number, objects, pick, strings, text
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.services import services_of
from diagnosis.workloads.snapshot import ref_of
from incidents.models import CauseClass, Fact, ObjectRef

NAME = "disruption_budget"
READS = ("PodDisruptionBudget", "Pod", "Node")
RULED_OUT = "disruption budgets: none stops a drain, and no pod has more than one"
CAUSES = {
    CauseClass.DISRUPTION_BUDGET_BLOCKS: Documented(
        "A disruption budget allows no eviction while a node is being emptied, or pods match several budgets, which "
        "the eviction API refuses.",
        "The budget's spec and figures, its pods, the cordoned nodes that they are on, and the controller's events.",
        "More replicas or a wider budget: how much may be missing is a person's decision.",
    )
}


def find(scope: Scope) -> Iterable[Found]:
    budgets: dict[str, list[tuple[Object, list[Object]]]] = {}
    known = services_of(scope.snapshot)
    for item in scope.snapshot.all("PodDisruptionBudget"):
        namespace = text(item, "metadata", "namespace")
        labels = {str(key): str(value) for key, value in mapping(item, "spec", "selector", "matchLabels").items()}
        near = known.pods_with(namespace, labels) if labels else scope.snapshot.all("Pod", namespace)
        selected = [pod for pod in near if _selects(item, pod)]
        budgets.setdefault(namespace, []).append((item, selected))
    for namespace, entries in budgets.items():
        for item, pods in entries:
            if _asked(scope, namespace, item, pods):
                yield from _overlaps(scope, item, pods, entries)
                yield from _stops_drain(scope, item, pods)


def _asked(scope: Scope, namespace: str, item: Object, pods: list[Object]) -> bool:
    names = {(text(pod, "metadata", "namespace"), text(pod, "metadata", "name")) for pod in scope.pods}
    inside = any((namespace, text(pod, "metadata", "name")) in names for pod in pods)
    return scope.covers(namespace) or ref_of(item) == scope.target or inside


def _selects(item: Object, pod: Object) -> bool:
    selector, labels = pick(item, "spec", "selector"), mapping(pod, "metadata", "labels")
    if not isinstance(selector, dict):
        return False
    if not selector:  # policy/v1beta1: an empty selector selects nothing; policy/v1: everything
        return text(item, "apiVersion") == "policy/v1"
    if any(labels.get(key) != value for key, value in mapping(selector, "matchLabels").items()):
        return False
    for expression in objects(selector, "matchExpressions"):
        value, operator = labels.get(text(expression, "key")), text(expression, "operator")
        if operator in ("Exists", "DoesNotExist"):
            if (value is not None) is not (operator == "Exists"):
                return False
        elif (value in strings(expression, "values")) is not (operator == "In"):
            return False
    return True


def _overlaps(
    scope: Scope, item: Object, pods: list[Object], entries: list[tuple[Object, list[Object]]]
) -> Iterable[Found]:
    now, name = scope.snapshot.observed_at, text(item, "metadata", "name")
    names = {text(pod, "metadata", "name") for pod in pods}
    sharing = [
        other
        for other, selected in entries
        if other is not item and any(text(pod, "metadata", "name") in names for pod in selected)
    ]
    if not sharing or any(text(other, "metadata", "name") < name for other in sharing):
        return  # told once, at the first of them
    others = [text(other, "metadata", "name") for other in sharing]
    shown = [of_object(budget, "/spec/selector", now) for budget in (item, *sharing[:2])]
    claims = [Claim(f"Budgets {name} and {', '.join(others)} select the same pods", shown)]
    owners = list(dict.fromkeys(scope.snapshot.workload_of(pod) for pod in pods))
    told = [e for pod in pods for e in scope.pod_events(pod) if e.reason == "MultiplePodDisruptionBudgets"]
    if told:
        claims.append(Claim(f"The controller says {quoted(told[-1].message)}", [of_event(told[-1], now)]))
    whose = ", ".join(f"{ref.kind} {ref.name}" for ref in owners[:3])
    yield Found(
        CauseClass.DISRUPTION_BUDGET_BLOCKS,
        ref_of(item),
        0.93 if told else 0.85,
        f"The pods of {whose} have several disruption budgets ({name}, {', '.join(others)}): no eviction of them is "
        "possible.",
        claims,
        facts={"why": "several_budgets", "budgets": sorted([name, *others])},
        next_steps=["Leave each pod one disruption budget"],
    )


def _stops_drain(scope: Scope, item: Object, pods: list[Object]) -> Iterable[Found]:
    now, name = scope.snapshot.observed_at, text(item, "metadata", "name")
    status = mapping(item, "status")
    healthy, desired, expected = (number(status, key) for key in ("currentHealthy", "desiredHealthy", "expectedPods"))
    stale = number(status, "observedGeneration") != number(item, "metadata", "generation")
    if stale or number(status, "disruptionsAllowed") != 0 or not expected or healthy is None or desired is None:
        return
    drained = []
    for pod in pods:
        node = scope.snapshot.get("Node", None, text(pod, "spec", "nodeName"))
        if pick(node, "spec", "unschedulable") is True and text(pod, "status", "phase") == "Running":
            drained.append((pod, node or {}))
    if not drained:
        return
    for_ever = desired >= expected
    ill = [pod for pod in pods if condition(pod, "Ready").get("status") != "True"]
    pod, node = drained[0]
    node_name = text(node, "metadata", "name")
    claims = [
        Claim(f"Budget {name} allows no disruption: {healthy} of {expected} pods are healthy, {desired} must be",
              [of_object(item, "/status", now), of_object(item, "/spec", now)]),
        Claim(f"Node {node_name} is cordoned, and pod {text(pod, 'metadata', 'name')} is still on it",
              [of_object(node, "/spec/unschedulable", now), of_object(pod, "/spec/nodeName", now)]),
    ]  # fmt: skip
    facts: dict[str, Fact] = {"why": "no_disruption_allowed", "node": node_name, "healthy": healthy,
                              "desired_healthy": desired, "expected_pods": expected}  # fmt: skip
    leads_to: list[ObjectRef] = list(dict.fromkeys(scope.snapshot.workload_of(one) for one in ill))
    why = "as many pods must stay as there are" if for_ever else "too many of its pods are not healthy already"
    yield Found(
        CauseClass.DISRUPTION_BUDGET_BLOCKS,
        ref_of(item),
        0.85 if for_ever else 0.7,
        f"Disruption budget {name} keeps node {node_name} from being emptied: {why}.",
        claims,
        facts=facts,
        leads_to=leads_to,
        next_steps=[f"Give the workload more replicas, or budget {name} more room, before node {node_name} is drained"],
    )
