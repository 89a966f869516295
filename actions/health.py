"""Whether a workload runs what it was told to run: rollout, readiness, restarts, crashes of its new pods.

Sources: rollout conditions as `kubectl rollout status` reads them (observedGeneration first); signals whose default
action is to dump core from signal(7); a container ended by signal N exits with 128+N.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actions.baseline import container_statuses
from actions.objects import controller_of, label_selector, metadata, replicas, template_of, title, uid
from tools.kubernetes.client import Cluster, Object

CORE_SIGNALS = frozenset({3, 4, 5, 6, 7, 8, 11, 24, 25, 31})


@dataclass(frozen=True)
class Health:
    """One look at one workload."""

    settled: bool
    """Rolled out, and every new pod ready."""
    detail: str
    restarts: int = 0
    """Of watched containers in the new pods, since the write."""
    most_restarts: int = 0
    """Of the one watched container that restarted most."""
    core_signals: int = 0
    """Watched containers of new pods that were ended by a signal that dumps core."""
    hopeless: str | None = None
    """Why waiting longer is of no use."""
    pods: int = 0
    probe_seconds: float = 0.0
    """How long a failing liveness or startup probe takes to restart a container of it."""


async def look_at(
    cluster: Cluster, workload: Object, *, containers: Sequence[str], restarts_before: Mapping[str, int]
) -> Health:
    """Look at a Deployment, StatefulSet, DaemonSet, ReplicaSet or Job. `containers` empty: all are watched."""
    waiting = rollout_waits_for(workload)
    pods = await new_pods(cluster, workload)
    restarts = most = signals = 0
    for pod in pods:
        for status in container_statuses(pod):
            if containers and status["name"] not in containers:
                continue
            key = f"{uid(pod)}/{status['name']}"
            count = int(status.get("restartCount") or 0) - restarts_before.get(key, 0)
            restarts += max(count, 0)
            most = max(most, count)
            signals += _ended_by_core_signal(status, fresh=count > 0 or key not in restarts_before)
    unready = [metadata(pod)["name"] for pod in pods if not is_ready(pod)]
    if waiting is None and unready:
        waiting = f"pod {unready[0]} is not ready"
    if waiting is None and len(pods) < replicas(workload) and workload["kind"] != "Job":
        waiting = f"{len(pods)} of {replicas(workload)} new pod(s) are there"
    return Health(
        settled=waiting is None,
        detail=waiting or _at_rest(workload, len(pods)),
        restarts=restarts,
        most_restarts=most,
        core_signals=signals,
        hopeless=_hopeless(workload),
        pods=len(pods),
        probe_seconds=probe_patience(template_of(workload)),
    )


def _at_rest(workload: Object, pods: int) -> str:
    if not pods and workload["kind"] != "Job" and not replicas(workload):
        return f"{title(workload)} is scaled to zero, and no pod of it is left"
    return f"{pods} pod(s) of {title(workload)} are ready"


def probe_patience(template: Object) -> float:
    """Seconds until the slowest failing liveness or startup probe of a pod template restarts its container.

    initialDelaySeconds + periodSeconds x failureThreshold + timeoutSeconds, with the API's defaults (0, 10, 3, 1); a
    startup probe runs before the liveness probe, so theirs add up.
    """
    slowest = 0.0
    for container in (template.get("spec") or {}).get("containers") or []:
        probes = [container[kind] for kind in ("startupProbe", "livenessProbe") if container.get(kind)]
        slowest = max(slowest, sum(_kill_seconds(probe) for probe in probes))
    return slowest


def _kill_seconds(probe: dict[str, Any]) -> float:
    delay, period = probe.get("initialDelaySeconds") or 0, probe.get("periodSeconds") or 10
    return float(delay + period * (probe.get("failureThreshold") or 3) + (probe.get("timeoutSeconds") or 1))


def rollout_waits_for(workload: Object) -> str | None:
    """What a rollout still waits for, None when it is complete."""
    status, name = workload.get("status") or {}, title(workload)
    wanted = replicas(workload)
    if int(status.get("observedGeneration") or 0) < int(metadata(workload).get("generation") or 0):
        return f"the controller has not seen the change of {name} yet"
    match workload["kind"]:
        case "Deployment":
            counts = [int(status.get(key) or 0) for key in ("updatedReplicas", "readyReplicas", "availableReplicas")]
            if int(status.get("replicas") or 0) > counts[0]:
                return f"{int(status['replicas']) - counts[0]} old pod(s) of {name} are left"
        case "StatefulSet":
            updated = status.get("updateRevision") == status.get("currentRevision")
            counts = [
                wanted if updated else int(status.get("updatedReplicas") or 0),
                int(status.get("readyReplicas") or 0),
            ]
        case "DaemonSet":
            counts = [int(status.get(key) or 0) for key in ("updatedNumberScheduled", "numberReady", "numberAvailable")]
        case "ReplicaSet":
            counts = [int(status.get(key) or 0) for key in ("replicas", "readyReplicas")]
        case _:  # a Job: it runs, or it ended well
            alive = int(status.get("active") or 0) + int(status.get("succeeded") or 0)
            return None if alive else f"{name} has no pod"
    short = [count for count in counts if count != wanted]
    return f"{short[0]} of {wanted} pod(s) of {name} are up to date and ready" if short else None


async def new_pods(cluster: Cluster, workload: Object) -> list[Object]:
    """The pods of the workload's current template that are not being deleted."""
    namespace, labels = str(metadata(workload)["namespace"]), label_selector(workload)
    owner, marks = uid(workload), {}
    if workload["kind"] == "Deployment":
        owner = await _current_replica_set(cluster, workload) or "none yet"
    elif workload["kind"] == "StatefulSet":
        marks = {"controller-revision-hash": (workload.get("status") or {}).get("updateRevision")}
    elif workload["kind"] == "DaemonSet":
        marks = {"controller-revision-hash": await _current_revision_hash(cluster, workload)}
    return [
        pod
        for pod in await cluster.list_all("v1", "Pod", namespace, labels=labels)
        if (controller_of(pod) or {}).get("uid") == owner
        and not metadata(pod).get("deletionTimestamp")
        and all((metadata(pod).get("labels") or {}).get(key) == value for key, value in marks.items())
    ]


def is_ready(pod: Object) -> bool:
    status = pod.get("status") or {}
    if status.get("phase") == "Succeeded":
        return True
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in status.get("conditions") or [])


async def _current_replica_set(cluster: Cluster, deployment: Object) -> str | None:
    """uid of the ReplicaSet whose template is the Deployment's."""
    namespace, wanted = str(metadata(deployment)["namespace"]), template_of(deployment)
    for item in await cluster.list_all("apps/v1", "ReplicaSet", namespace, labels=label_selector(deployment)):
        if (controller_of(item) or {}).get("uid") != uid(deployment):
            continue
        template = template_of(item)
        meta = dict(template.get("metadata") or {})
        meta["labels"] = {key: value for key, value in (meta.get("labels") or {}).items() if key != "pod-template-hash"}
        if {**template, "metadata": meta} == wanted:
            return uid(item)
    return None


async def _current_revision_hash(cluster: Cluster, daemon_set: Object) -> str | None:
    namespace, newest = str(metadata(daemon_set)["namespace"]), (0, None)
    for item in await cluster.list_all("apps/v1", "ControllerRevision", namespace, labels=label_selector(daemon_set)):
        if (controller_of(item) or {}).get("uid") == uid(daemon_set) and int(item.get("revision") or 0) > newest[0]:
            newest = int(item["revision"]), (metadata(item).get("labels") or {}).get("controller-revision-hash")
    return newest[1]


def _ended_by_core_signal(status: dict[str, Any], *, fresh: bool) -> int:
    """1 when the container's present or last end was by such a signal. An older container's last end is not new."""
    ends = [(status.get("state") or {}).get("terminated")]
    if fresh:
        ends.append((status.get("lastState") or {}).get("terminated"))
    for end in ends:
        if not end:
            continue
        signal = end.get("signal") or int(end.get("exitCode") or 0) - 128
        if signal in CORE_SIGNALS:
            return 1
    return 0


def _hopeless(workload: Object) -> str | None:
    for condition in (workload.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return f"{title(workload)} did not progress within its deadline"
    return None
