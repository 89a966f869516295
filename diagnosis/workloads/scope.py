"""What one diagnosis looks at: the pods, workloads, containers and endings within its target."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from diagnosis.workloads.containers import Container, containers_of
from diagnosis.workloads.events import Event
from diagnosis.workloads.fields import Object, condition, newest, number, pick, text, when
from diagnosis.workloads.logs import Log
from diagnosis.workloads.references import references_of
from diagnosis.workloads.restarts import Ending, Restart, restarts_of
from diagnosis.workloads.routes import ROUTES, services_behind
from diagnosis.workloads.snapshot import WORKLOAD_KINDS, Snapshot, ref_of
from incidents.models import ObjectRef

RECENT = timedelta(hours=1)
"""Kubernetes keeps events for an hour; what ended earlier and has been well since is history."""

SETTLED = timedelta(minutes=10)
"""The kubelet forgets a container's back-off after it ran for as long."""

_QUIET_ENDINGS = (Ending.STOPPED,)


@dataclass
class Scope:
    """A snapshot narrowed to `pods` and `workloads`. All lists are stable in order.

    `namespaces` are those looked at as a whole, with their Services, policies and routes: none for a target or for what
    a target depends on, None for all. `target` is what was asked about.
    """

    snapshot: Snapshot
    pods: list[Object]
    workloads: list[ObjectRef]
    symptom: str = ""
    target: ObjectRef | None = None
    namespaces: frozenset[str] | None = frozenset()
    _endings: dict[int, list[Restart]] = field(default_factory=dict)
    _recent: dict[int, list[Restart]] = field(default_factory=dict)
    _owners: dict[int, ObjectRef] = field(default_factory=dict)
    _events: dict[str, list[Event]] = field(default_factory=dict)
    memo: dict[str, Any] = field(default_factory=dict)
    """What several analyzers of one diagnosis compute alike."""

    def covers(self, namespace: str) -> bool:
        """Whether everything in a namespace is asked about."""
        return self.namespaces is None or namespace in self.namespaces

    @cached_property
    def containers(self) -> list[Container]:
        """Every container of every pod, except of pods that are being deleted or are only a record of the past."""
        return [
            container
            for pod in self.pods
            if not text(pod, "metadata", "deletionTimestamp") and not self.superseded(pod)
            for container in containers_of(pod)
        ]

    def superseded(self, pod: Object) -> bool:
        """Whether an ended pod is only the record of a try that its controller has got over: its Job completed, or it
        ended over an hour ago and the workload has what it wants."""
        chain = self.snapshot.owners(pod)
        if not chain or text(pod, "status", "phase") not in ("Failed", "Succeeded"):
            return False
        for ref in chain:
            if ref.kind == "Job":
                job = self.snapshot.get("Job", ref.namespace, ref.name)
                if condition(job, "Complete").get("status") == "True":
                    return True
        ended = newest(when(container.status, "state", "terminated", "finishedAt") for container in containers_of(pod))
        old = ended is not None and self.snapshot.observed_at - ended > RECENT
        return old and not self.unready_workload(self.snapshot.workload_of(pod))

    @cached_property
    def troubled(self) -> list[Container]:
        """Containers that are not as they should be now, or ended in the last hour other than by being stopped."""
        return [container for container in self.containers if self._in_trouble(container)]

    def _in_trouble(self, container: Container) -> bool:
        if container.section == "ephemeralContainers" and container.running:
            return False
        waiting = container.waiting
        if waiting and waiting not in ("PodInitializing", "ContainerCreating"):
            return True
        if waiting == "ContainerCreating":
            return self.delayed(container.pod)
        if self.recent_endings(container):
            return self.recovered(container) is None
        return container.section == "containers" and container.running and not container.ready

    def recovered(self, container: Container) -> Restart | None:
        """The newest ending of a container that is over: it runs and is ready for minutes since, and for longer than
        the instance that ended did. A crash of native code is not over within the hour: its core is worth reading.
        """
        started = when(container.status, "state", "running", "startedAt")
        if container.section != "containers" or not container.ready or started is None:
            return None
        endings = self.recent_endings(container)
        if not endings or any(ending.ending is Ending.CRASH_SIGNAL for ending in endings):
            return None
        ran, lived = self.snapshot.observed_at - started, endings[0].lifetime or RECENT / 4
        return endings[0] if ran >= max(SETTLED, 2 * lived) else None

    def delayed(self, pod: Object) -> bool:
        """Whether a pod that is being created has something to say about it."""
        return any(event.warning for event in self.pod_events(pod)) or self._age(pod) > timedelta(minutes=2)

    def ran_since(self, container: Container) -> datetime | None:
        """Since when a container runs: by its status, or, while its status says that it is being created, by the
        kubelet's own word that it was started and probed. A busy kubelet tells of a failed probe before it writes the
        status."""
        if container.running:
            return when(container.status, "state", "running", "startedAt")
        if container.waiting != "ContainerCreating" or container.restarts or not text(container.pod, "metadata", "uid"):
            return None
        events = self.container_events(container)
        if not any(event.reason == "Unhealthy" for event in events):
            return None
        return newest(event.last for event in events if event.reason == "Started")

    def failed_meanwhile(self, container: Container) -> list[Event]:
        """What the kubelet said of a container that it could not start, and whose status is still that of its
        creation."""
        if container.waiting != "ContainerCreating" or container.restarts or not text(container.pod, "metadata", "uid"):
            return []
        return [event for event in self.container_events(container) if event.reason == "Failed"]

    def _age(self, pod: Object) -> timedelta:
        created = when(pod, "metadata", "creationTimestamp")
        return self.snapshot.observed_at - created if created else timedelta(0)

    def endings(self, container: Container) -> list[Restart]:
        """All ended instances of a container that its status shows, newest first."""
        key = id(container)
        if key not in self._endings:
            states = (pick(container.status, "state", "terminated"), pick(container.status, "lastState", "terminated"))
            shown = any(isinstance(state, dict) for state in states)
            self._endings[key] = restarts_of(container, self.pod_events(container.pod)) if shown else []
        return self._endings[key]

    def recent_endings(self, container: Container) -> list[Restart]:
        """Ended instances that matter now: of the last hour, and not simply stopped or done."""
        key = id(container)
        if key not in self._recent:
            self._recent[key] = [ending for ending in self.endings(container) if self._matters(ending)]
        return self._recent[key]

    def _matters(self, ending: Restart) -> bool:
        container = ending.container
        if ending.ending in _QUIET_ENDINGS:
            return False
        if ending.ending is Ending.COMPLETED and (
            container.section != "containers" or text(container.pod, "spec", "restartPolicy") != "Always"
        ):
            return False
        if container.section == "initContainers" and pick(container.status, "ready") is True:
            return False
        if ending.finished is None:
            return True
        age = self.snapshot.observed_at - ending.finished
        standing = not ending.is_last_state or container.waiting == "CrashLoopBackOff"
        return standing or age <= RECENT

    def pod_events(self, pod: Object) -> list[Event]:
        uid = text(pod, "metadata", "uid")
        key = uid or f"{text(pod, 'metadata', 'namespace')}/{text(pod, 'metadata', 'name')}"
        if key not in self._events:
            self._events[key] = self.snapshot.events_for(
                "Pod", text(pod, "metadata", "namespace"), text(pod, "metadata", "name"), uid
            )
        return self._events[key]

    def container_events(self, container: Container) -> list[Event]:
        return [event for event in self.pod_events(container.pod) if event.container == container.name]

    def owner(self, container: Container) -> ObjectRef:
        """The container in its workload: where a person would change it."""
        key = id(container)
        if key not in self._owners:
            workload = self.snapshot.workload_of(container.pod)
            self._owners[key] = workload.model_copy(update={"container": container.name})
        return self._owners[key]

    def log(self, container: Container, ending: Restart | None = None) -> Log | None:
        """The log that tells of an ending: the previous instance's first, unless the newest instance is the one."""
        current_ended = ending is not None and not ending.is_last_state
        order = (False, True) if current_ended or (ending is None and container.restarts == 0) else (True, False)
        for previous in order:
            content = self.snapshot.log(container.namespace, container.pod_name, container.name, previous)
            if content and content.strip():
                return Log.of(container.namespace, container.pod_name, container.name, previous, content)
        return None

    def unready_workload(self, ref: ObjectRef) -> bool:
        """Whether a workload has fewer ready pods than it wants, or says itself that it cannot make progress."""
        item = self.snapshot.get(ref.kind, ref.namespace, ref.name)
        if item is None:
            return False
        ready, wanted = _replicas(item)
        if ready is not None and wanted is not None and ready < wanted:
            return True
        if condition(item, "ReplicaFailure").get("status") == "True":
            return True
        if ref.kind == "Job":
            return condition(item, "Failed").get("status") == "True"
        return condition(item, "Progressing").get("reason") == "ProgressDeadlineExceeded"


def _replicas(item: Object) -> tuple[int | None, int | None]:
    kind = text(item, "kind")
    if kind == "DaemonSet":
        return number(item, "status", "numberReady") or 0, number(item, "status", "desiredNumberScheduled") or 0
    if kind in ("Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"):
        wanted = number(item, "spec", "replicas")
        updated = number(item, "status", "updatedReplicas") if kind == "Deployment" else None
        ready = number(item, "status", "readyReplicas") or 0
        wanted = 1 if wanted is None else wanted
        return min(ready, wanted if updated is None else updated), wanted
    return None, None


def scope_of(snapshot: Snapshot, target: ObjectRef | None, namespace: str | None, symptom: str = "") -> Scope:
    """The scope of a target (a workload, a pod, a service), of a namespace, or of everything."""
    if target is not None:
        pods, workloads = _of_target(snapshot, target.model_copy(update={"container": None}))
    else:
        pods = snapshot.all("Pod", namespace)
        workloads = [
            ref_of(item)
            for kind in WORKLOAD_KINDS
            if kind != "Pod"
            for item in snapshot.all(kind, namespace)
            if (top := snapshot.workload_of(item)) is (own := ref_of(item)) or top == own
        ]
        workloads += [snapshot.workload_of(pod) for pod in pods]
    whole = None if namespace is None else frozenset({namespace})
    return Scope(
        snapshot,
        pods,
        list(dict.fromkeys(workloads)),
        symptom,
        target=target,
        namespaces=whole if target is None else frozenset(),
    )


def _of_target(snapshot: Snapshot, target: ObjectRef) -> tuple[list[Object], list[ObjectRef]]:
    if target.kind == "Service":
        service = snapshot.get("Service", target.namespace, target.name) or {}
        pods = selected_pods(snapshot, service)
        return pods, [snapshot.workload_of(pod) for pod in pods]
    if target.kind == "Node":
        pods = [pod for pod in snapshot.all("Pod") if text(pod, "spec", "nodeName") == target.name]
        return pods, [snapshot.workload_of(pod) for pod in pods]
    item = snapshot.get(target.kind, target.namespace, target.name)
    if target.kind in ROUTES:
        behind = services_behind(item or {}, snapshot.all("HTTPRoute"))
        services = [snapshot.get("Service", namespace, name) or {} for namespace, name in behind]
        pods = [pod for service in services for pod in selected_pods(snapshot, service)]
        return pods, [snapshot.workload_of(pod) for pod in pods]
    if target.kind in ("PersistentVolumeClaim", "ConfigMap", "Secret"):
        pods = [pod for pod in snapshot.all("Pod", target.namespace) if _refers(pod, target.kind, target.name)]
        return pods, [snapshot.workload_of(pod) for pod in pods]
    if target.kind == "HorizontalPodAutoscaler":
        kind, name = text(item, "spec", "scaleTargetRef", "kind"), text(item, "spec", "scaleTargetRef", "name")
        scaled = ObjectRef(kind=kind or "Deployment", namespace=target.namespace, name=name)
        return snapshot.pods_of(scaled), [scaled]
    pods = snapshot.pods_of(target)
    if target.kind == "Pod":
        return pods, [snapshot.workload_of(pod) for pod in pods] or [target]
    return pods, [target, *([snapshot.workload_of(item)] if item else []), *(snapshot.workload_of(p) for p in pods)]


def _refers(pod: Object, kind: str, name: str) -> bool:
    return any((reference.kind, reference.name) == (kind, name) for reference in references_of(pod))


def selected_pods(snapshot: Snapshot, service: Object) -> list[Object]:
    """The pods that a Service selects; a Service without a selector selects none."""
    selector = pick(service, "spec", "selector")
    if not isinstance(selector, dict) or not selector:
        return []
    namespace = text(service, "metadata", "namespace")
    return [
        pod
        for pod in snapshot.all("Pod", namespace)
        if all(pick(pod, "metadata", "labels", key) == value for key, value in selector.items())
    ]
