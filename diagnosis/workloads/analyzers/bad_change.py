"""A ConfigMap or Secret that was changed right before a program that reads it began to fail.

The template is the same; the container, or that of an earlier pod of the same ReplicaSet, ran before the change without
a fault, and it failed after it. When an object was last written stands in its managed fields; Kubernetes before 1.22
does not renew that time when the same writer changes a value again. Then the order of resource versions, which grow
over the whole cluster, tells that it was written after the program had started: used for the first restarts only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from diagnosis.workloads.containers import Container
from diagnosis.workloads.contract import Claim, Documented, Found
from diagnosis.workloads.events import Event
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import Object, decimal, newest, objects, text, when
from diagnosis.workloads.references import Reference, references_of
from diagnosis.workloads.restarts import Ending
from diagnosis.workloads.scope import RECENT, Scope
from diagnosis.workloads.snapshot import ref_of
from incidents.models import CauseClass, Evidence, Fact

NAME = "bad_change"
READS = ("Pod", "ConfigMap", "Event")
RULED_OUT = "changes: no ConfigMap or Secret was changed right before a failure"
CAUSES = {
    CauseClass.BAD_CHANGE: Documented(
        "A ConfigMap or Secret was changed, and a program that reads it has failed since, with the same template; or "
        "it was corrected, and pods that failed before still run with the old values.",
        "When the object was last written, when the pod started, and when its container first failed.",
        "A restart where the pods run with values from before the last write. Else none by rule: the earlier content "
        "is not in the cluster, and a person puts the old values back.",
    )
}
_SELF_ENDED = {Ending.EXIT_CODE, Ending.LIVENESS_KILL, Ending.STARTUP_KILL, Ending.CRASH_SIGNAL}
_FEW_RESTARTS = 3
_CLOSE = timedelta(seconds=2)  # times are told in whole seconds


@dataclass(frozen=True)
class _Run:
    """That the container, of this pod or an earlier one of the same template, ran without a fault from `since` on."""

    since: datetime
    pod: str
    events: list[Event]
    evidence: list[Evidence]


def find(scope: Scope) -> Iterable[Found]:
    families: dict[str, dict[str, list[Event]]] = {}
    for container in scope.troubled:
        endings = [ending for ending in scope.recent_endings(container) if ending.ending in _SELF_ENDED]
        failed = newest(ending.finished for ending in endings)
        if failed is None:
            continue
        for item, reference in _read_by(scope, container):
            for run in _runs(scope, container, families):
                write = _last_write(scope, container, item, run)
                if write is None or scope.snapshot.observed_at - write.time > RECENT or write.time > failed:
                    continue
                if (run.since < write.time or not write.exact) and not _failed_before(container, run, write.time):
                    yield _found(scope, container, item, reference, write, run, failed)
                    break


def _runs(scope: Scope, container: Container, families: dict[str, dict[str, list[Event]]]) -> Iterator[_Run]:
    now, own = scope.snapshot.observed_at, scope.pod_events(container.pod)
    started = [e.first for e in scope.container_events(container) if e.reason == "Started" and e.first is not None]
    since = min(started) if started else when(container.pod, "status", "startTime")
    if since is not None:
        yield _Run(since, container.pod_name, own, [of_object(container.pod, "/status/startTime", now)])
    maker = next((ref for ref in scope.snapshot.owners(container.pod) if ref.kind == "ReplicaSet"), None)
    if maker is None:
        return
    if maker.name not in families:
        families[maker.name] = {}
        for event in scope.snapshot.events():
            if (
                event.kind == "Pod"
                and event.namespace == container.namespace
                and event.name.startswith(f"{maker.name}-")
            ):
                families[maker.name].setdefault(event.name, []).append(event)
    for name, events in sorted(families[maker.name].items()):
        told = [event for event in events if event.container == container.name]
        first = [e for e in told if e.reason == "Started" and e.first is not None and e.count == 1]
        if name != container.pod_name and first and not any(e.warning for e in told) and first[0].first is not None:
            yield _Run(first[0].first, name, events, [of_event(first[0], now)])


def _failed_before(container: Container, run: _Run, time: datetime) -> bool:
    """Whether the container failed before the change already."""
    return any(
        event.warning
        and event.reason in ("BackOff", "Failed", "Unhealthy")
        and event.container == container.name
        and event.first is not None
        and event.first < time - _CLOSE
        for event in run.events
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


@dataclass(frozen=True)
class _Write:
    """That an object was changed after it was made. `time` is when, at the earliest; `exact` whether it was then."""

    time: datetime
    exact: bool
    evidence: list[Evidence]


def _last_write(scope: Scope, container: Container, item: Object, run: _Run) -> _Write | None:
    now, made = scope.snapshot.observed_at, when(item, "metadata", "creationTimestamp")
    managed = newest(when(entry, "time") for entry in objects(item, "metadata", "managedFields"))
    if managed is not None and made is not None and managed > made:
        return _Write(managed, True, [of_object(item, "/metadata/managedFields", now)])
    maker = next((ref for ref in scope.snapshot.owners(container.pod) if ref.kind == "ReplicaSet"), None)
    template = scope.snapshot.get("ReplicaSet", maker.namespace, maker.name) if maker else None
    born = when(template or container.pod, "metadata", "creationTimestamp")
    version = decimal(text(item, "metadata", "resourceVersion"))
    if version is None or made is None or born is None or made > born or container.restarts > _FEW_RESTARTS:
        return None
    before = [
        event
        for event in run.events
        if event.count == 1 and event.last is not None and event.reason in ("Scheduled", "Started")
        and (at := decimal(text(event.raw, "metadata", "resourceVersion"))) is not None and at < version
    ]  # fmt: skip
    newest_before = max(before, key=lambda event: event.last or made, default=None)
    if newest_before is None or newest_before.last is None:
        return None
    shown = [
        of_object(item, "/metadata/resourceVersion", now),
        of_object(newest_before.raw, "/metadata/resourceVersion", now),
    ]
    return _Write(newest_before.last, False, [*shown, of_event(newest_before, now)])


def _found(
    scope: Scope,
    container: Container,
    item: Object,
    reference: Reference,
    write: _Write,
    run: _Run,
    failed: datetime,
) -> Found:
    now, owner, ref = scope.snapshot.observed_at, scope.owner(container), ref_of(item)
    ending = scope.recent_endings(container)[0]
    clock = "%H:%M:%S"
    claims = [
        Claim(f"{ref.kind} {ref.name} was changed at {write.time:{clock}}{'' if write.exact else ' or after'}",
              write.evidence),
        Claim(f"Container {container.name} of pod {container.pod_name} reads it",
              [of_object(container.pod, reference.at, now)]),
        Claim(f"In pod {run.pod} it started at {run.since:{clock}}, before the change", run.evidence),
        Claim(f"Since then it fails: {ending.why}", [of_object(container.pod, ending.at, now)]),
    ]  # fmt: skip
    facts: dict[str, Fact] = {
        "workload": owner.name,
        "changed_at" if write.exact else "changed_after": write.time.isoformat(),
        "failed_at": failed.isoformat(),
        "changed_by": [text(e, "manager") for e in objects(item, "metadata", "managedFields") if text(e, "manager")],
    }
    return Found(
        CauseClass.BAD_CHANGE,
        ref,
        0.9 if write.exact else 0.75,
        f"{ref.kind} {ref.name} was changed, and container {container.name} of {owner.kind} {owner.name}, which reads "
        "it, fails since.",
        claims,
        facts=facts,
        explains=[owner.model_copy(update={"container": None})],
        next_steps=[f"Look at the last change of {ref.kind} {ref.name}, and put the old values back"],
    )
