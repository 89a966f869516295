"""A ConfigMap or Secret that was changed right before a program that reads it began to fail.

The template is the same, the pod started before the change, and it failed after it and not before. When an object was
last written stands in its managed fields (Kubernetes before 1.22 does not renew the time when the same writer changes a
value again).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, decimal, newest, objects, text, when
from diagnosis.workloads.references import Reference, references_of
from diagnosis.workloads.restarts import Ending
from diagnosis.workloads.scope import RECENT, Scope
from diagnosis.workloads.snapshot import Snapshot, ref_of
from incidents.models import CauseClass, Evidence, Fact

NAME = "bad_change"
READS = ("Pod", "ConfigMap", "Event")
RULED_OUT = "changes: no ConfigMap or Secret was changed right before a failure"
CAUSES = {
    CauseClass.BAD_CHANGE: Documented(
        "A ConfigMap or Secret was changed, and a program that reads it has failed since, with the same template.",
        "When the object was last written, when the pod started, and when its container first failed.",
        "None by rule: its earlier content is not in the cluster. A person puts the old values back.",
    )
}
_SELF_ENDED = {Ending.EXIT_CODE, Ending.LIVENESS_KILL, Ending.STARTUP_KILL, Ending.CRASH_SIGNAL}
_LEAST = timedelta(seconds=2)


def find(scope: Scope) -> Iterable[Found]:
    for container in scope.troubled:
        endings = [ending for ending in scope.recent_endings(container) if ending.ending in _SELF_ENDED]
        failed = newest(ending.finished for ending in endings)
        began = _began(scope, container)
        if failed is None or began is None:
            continue
        for item, reference in _read_by(scope, container):
            written = last_written(scope.snapshot, item)
            if written is None:
                continue
            time, evidence = written
            recent = scope.snapshot.observed_at - time <= RECENT
            if recent and began + _LEAST < time <= failed and not _failed_before(scope, container, time):
                yield _found(scope, container, item, reference, time, evidence, began, failed)


def _began(scope: Scope, container: Container) -> datetime | None:
    """When the container is first known to have been started in this pod."""
    started = [e.first for e in scope.container_events(container) if e.reason == "Started" and e.first is not None]
    return min(started) if started else when(container.pod, "status", "startTime")


def _failed_before(scope: Scope, container: Container, time: datetime) -> bool:
    """Whether the container failed before the change already."""
    telling = ("BackOff", "Failed", "Unhealthy")
    return any(
        event.warning and event.reason in telling and event.first is not None and event.first < time - _LEAST
        for event in scope.container_events(container)
    )


def _read_by(scope: Scope, container: Container) -> Iterable[tuple[Object, Reference]]:
    mounted = {text(mount, "name") for mount in objects(container.spec, "volumeMounts")}
    volumes = objects(container.pod, "spec", "volumes")
    seen: set[tuple[str, str]] = set()
    for reference in references_of(container.pod):
        if reference.kind not in ("ConfigMap", "Secret") or reference.pull_secret:
            continue
        if reference.container is None:
            index = decimal(reference.at.split("/")[3])
            if index is None or index >= len(volumes) or text(volumes[index], "name") not in mounted:
                continue
        elif reference.container != container.name:
            continue
        item = scope.snapshot.get(reference.kind, container.namespace, reference.name)
        key = (reference.kind, reference.name)
        if item is not None and key not in seen and reference.name != "kube-root-ca.crt":
            seen.add(key)
            yield item, reference


def last_written(snapshot: Snapshot, item: Object) -> tuple[datetime, list[Evidence]] | None:
    """When an object was changed after it was made, and what shows it; None where that is not known."""
    now, made = snapshot.observed_at, when(item, "metadata", "creationTimestamp")
    managed = newest(when(entry, "time") for entry in objects(item, "metadata", "managedFields"))
    if managed is not None and made is not None and managed > made + _LEAST:
        return managed, [of_object(item, "/metadata/managedFields", now)]
    return None


def _found(
    scope: Scope,
    container: Container,
    item: Object,
    reference: Reference,
    time: datetime,
    evidence: list[Evidence],
    began: datetime,
    failed: datetime,
) -> Found:
    now, owner, ref = scope.snapshot.observed_at, scope.owner(container), ref_of(item)
    ending = scope.recent_endings(container)[0]
    clock = "%H:%M:%S"
    claims = [
        Claim(f"{ref.kind} {ref.name} was changed at {time:{clock}}", evidence),
        Claim(f"Container {container.name} of pod {container.pod_name} reads it and started at {began:{clock}}, before",
              [of_object(container.pod, reference.at, now), of_object(container.pod, "/status/startTime", now)]),
        Claim(f"Since then it fails: {ending.why}", [of_object(container.pod, ending.at, now)]),
    ]  # fmt: skip
    facts: dict[str, Fact] = {
        "workload": owner.name,
        "changed_at": time.isoformat(),
        "failed_at": failed.isoformat(),
        "changed_by": [text(e, "manager") for e in objects(item, "metadata", "managedFields") if text(e, "manager")],
    }
    return Found(
        CauseClass.BAD_CHANGE,
        ref,
        0.9,
        f"{ref.kind} {ref.name} was changed, and container {container.name} of {owner.kind} {owner.name}, which reads "
        "it, fails since.",
        claims,
        facts=facts,
        explains=[owner.model_copy(update={"container": None})],
        next_steps=[f"Look at the last change of {ref.kind} {ref.name}, and put the old values back"],
    )
