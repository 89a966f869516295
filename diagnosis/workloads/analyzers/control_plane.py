"""The scheduler or the controller manager does not run: pods that nobody looked at, workloads that nobody acted on.

Silence is the sign: no event, no condition, no status. A lease that is being renewed speaks against it, one that is not
renewed any more proves it. Object: the component's own pod where it is seen, else its lease, else the component itself
(kind `Scheduler` or `ControllerManager`). A scheduler of another name is told of the workload that asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, condition, number, objects, pick, text, when
from diagnosis.workloads.nodes import fresh_lease, stale_lease
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.services import services_of
from diagnosis.workloads.snapshot import Snapshot, ref_of
from incidents.models import CauseClass, Fact, ObjectRef

NAME = "control_plane"
READS = ("Pod", "Deployment", "ReplicaSet")
RULED_OUT = "control plane: scheduler and controllers have answered to what is here"
CAUSES = {
    CauseClass.SCHEDULER_DOWN: Documented(
        "The scheduler that a pod asks for does not run, so the pod waits without a word.",
        "Pods without a node, condition or event for over a minute; the scheduler's lease or pod where it is seen.",
        "None from here: a person starts the scheduler, or corrects the pod's schedulerName.",
    ),
    CauseClass.CONTROLLER_MANAGER_DOWN: Documented(
        "The controller manager does not run, so nothing acts on changes of workloads.",
        "Workloads whose latest generation nobody observed for over a minute, or without the objects that their "
        "controller makes; the controller manager's lease or pod where it is seen.",
        "None from here: a person starts the controller manager.",
    ),
}

_SYSTEM = "kube-system"
_SILENT = timedelta(minutes=1)
_A_MOMENT = timedelta(seconds=10)  # what a busy controller needs; counts only beside a lease or pod that is down
_DEFAULT = "default-scheduler"


def find(scope: Scope) -> Iterable[Found]:
    yield from _scheduler(scope)
    yield from _controllers(scope)


def _scheduler(scope: Scope) -> Iterable[Found]:
    snapshot, now = scope.snapshot, scope.snapshot.observed_at
    waiting: dict[str, list[Object]] = {}
    for pod in scope.pods:
        if _unnoticed(scope, pod):
            waiting.setdefault(text(pod, "spec", "schedulerName") or _DEFAULT, []).append(pod)
    for scheduler, pods in waiting.items():
        component = "kube-scheduler" if scheduler == _DEFAULT else scheduler
        state = _state(snapshot, component)
        if state is None:
            continue
        about, confidence, said = state
        if not said and any(_placed_since(scope, scheduler, pod) for pod in pods):
            continue
        if scheduler == _DEFAULT:
            about = about or ObjectRef(kind="Scheduler", name=scheduler)
        else:  # a name that a template asks for, and that can be corrected there
            about = snapshot.workload_of(pods[0])
        claims = [
            Claim(
                f"Pod {text(pod, 'metadata', 'name')} waits since {text(pod, 'metadata', 'creationTimestamp')}, and no "
                "scheduler has said a word of it",
                [of_object(pod, "/status", now), of_object(pod, "/spec/schedulerName", now)]
                if text(pod, "spec", "schedulerName")
                else [of_object(pod, "/status", now)],
            )
            for pod in pods[:3]
        ]
        facts: dict[str, Fact] = {"scheduler": scheduler, "waiting_pods": len(pods)}
        yield Found(
            CauseClass.SCHEDULER_DOWN,
            about,
            confidence if scheduler == _DEFAULT else max(confidence, 0.85),
            f"The scheduler {scheduler} does not run: {len(pods)} pods wait without any word of it.",
            [*claims, *said],
            facts=facts,
            subject=scheduler,
            explains=list(dict.fromkeys(snapshot.workload_of(pod) for pod in pods)),
            next_steps=[
                f"Look at {component} in kube-system"
                if scheduler == _DEFAULT
                else f"Start the scheduler {scheduler}, or correct schedulerName in the pod template"
            ],
        )


def _unnoticed(scope: Scope, pod: Object) -> bool:
    """A pod that no scheduler has looked at for over a minute."""
    created = when(pod, "metadata", "creationTimestamp")
    return (
        not text(pod, "spec", "nodeName")
        and text(pod, "status", "phase") == "Pending"
        and not text(pod, "metadata", "deletionTimestamp")
        and not objects(pod, "spec", "schedulingGates")
        and not condition(pod, "PodScheduled")
        and not [event for event in scope.pod_events(pod) if event.reason in ("FailedScheduling", "Scheduled")]
        and created is not None
        and scope.snapshot.observed_at - created > _SILENT
    )


def _placed_since(scope: Scope, scheduler: str, pod: Object) -> bool:
    """Whether the same scheduler placed a pod that is newer: then it runs."""
    created = when(pod, "metadata", "creationTimestamp")
    for other in scope.snapshot.all("Pod"):
        placed = when(condition(other, "PodScheduled"), "lastTransitionTime")
        if placed is None or created is None or not text(other, "spec", "nodeName"):
            continue
        if (text(other, "spec", "schedulerName") or _DEFAULT) == scheduler and placed > created + _SILENT / 2:
            return True
    return False


def _state(snapshot: Snapshot, component: str) -> tuple[ObjectRef | None, float, list[Claim]] | None:
    """(where it lies, confidence, what says so) of a component that may be down; None when it is seen to live."""
    now = snapshot.observed_at
    if fresh_lease(snapshot, _SYSTEM, component) is not None:
        return None
    pods = [
        pod
        for pod in snapshot.all("Pod", _SYSTEM)
        if component in (text(pod, "metadata", "labels", "component"), text(pod, "metadata", "labels", "k8s-app"))
    ]
    down = [pod for pod in pods if condition(pod, "Ready").get("status") != "True"]
    if pods and not down:
        return None
    claims = []
    about = ref_of(down[0]) if down else None
    if down:
        claims.append(Claim(f"{ref_of(down[0])} is not ready", [of_object(down[0], "/status", now)]))
    stale = stale_lease(snapshot, _SYSTEM, component)
    if stale is not None:
        lease, age = stale
        about = about or ref_of(lease)
        seconds = int(age.total_seconds())
        claims.append(
            Claim(f"The lease of {component} was not renewed for {seconds} s", [of_object(lease, "/spec", now)])
        )
    return about, 0.95 if claims else 0.75, claims


def _controllers(scope: Scope) -> Iterable[Found]:
    snapshot, now = scope.snapshot, scope.snapshot.observed_at
    ignored = [found for ref in scope.workloads if (found := _ignored(scope, ref)) is not None]
    if not ignored:
        return
    state = _state(snapshot, "kube-controller-manager")
    if state is None:
        return
    about, confidence, said = state
    certain = [item for item, _, sure in ignored if sure]
    items = [item for item, _, _ in ignored]
    if not said and not certain:
        return  # a change of a moment ago looks the same
    claims = [Claim(why, [of_object(item, "/metadata", now)]) for item, why, _ in ignored[:3]]
    yield Found(
        CauseClass.CONTROLLER_MANAGER_DOWN,
        about or ObjectRef(kind="ControllerManager", name="kube-controller-manager"),
        confidence,
        f"The controller manager does not run: nothing has acted on {ref_of(ignored[0][0])}"
        f"{f' and {len(ignored) - 1} more' if len(ignored) > 1 else ''}.",
        [*claims, *said],
        facts={"ignored": [str(ref_of(item)) for item, _, _ in ignored[:10]]},
        subject="kube-controller-manager",
        explains=[*map(ref_of, items), *_services_of(scope, items)],
        next_steps=["Look at kube-controller-manager in kube-system"],
    )


def _services_of(scope: Scope, items: list[Object]) -> list[ObjectRef]:
    """The Services in front of workloads: without pods they have no addresses."""
    refs, known = set(map(ref_of, items)), services_of(scope.snapshot)
    spaces = sorted({ref.namespace for ref in refs if ref.namespace})
    return [
        ref_of(service)
        for space in spaces
        for service in scope.snapshot.all("Service", space)
        if any(template.ref in refs for template in known.selected_templates(service))
    ]


def _ignored(scope: Scope, ref: ObjectRef) -> tuple[Object, str, bool] | None:
    """(object, in words, whether that is so for over a minute) of a workload that its controller has not acted on."""
    snapshot, now = scope.snapshot, scope.snapshot.observed_at
    item = snapshot.get(ref.kind, ref.namespace, ref.name)
    if item is None or ref.kind not in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"):
        return None
    created, generation = when(item, "metadata", "creationTimestamp"), number(item, "metadata", "generation")
    observed = number(item, "status", "observedGeneration") or 0
    if generation is None or created is None or observed >= generation:
        return None
    if observed == 0:
        words = f"{ref} is there since {created:%Y-%m-%d %H:%M:%S} and has no status"
        return (item, words, now - created > _SILENT) if now - created > _A_MOMENT else None
    written = [
        when(entry, "time") for entry in objects(item, "metadata", "managedFields") if not pick(entry, "subresource")
    ]
    changed = max((time for time in written if time is not None), default=None)
    sure = changed is not None and now - changed > _SILENT
    words = f"{ref} was changed (generation {generation}) and its controller has seen generation {observed} only"
    return item, words, sure
