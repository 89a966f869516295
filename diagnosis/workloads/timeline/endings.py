"""Containers that ended: by a signal (a crash), by themselves, or by somebody's wish; and pods that are not ready."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial

from diagnosis.workloads.evidence import of_object
from diagnosis.workloads.fields import Object, objects, text, when
from diagnosis.workloads.restarts import Ending, Restart
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.timeline.entry import Entry, line, named
from incidents.models import Evidence, MomentKind, ObjectRef

_Key = tuple[ObjectRef, str, str, int | None, int | None]
_CITED = 2
_LATER = timedelta(minutes=2)  # a pod of a rollout is made within


def ending_entries(scope: Scope) -> Iterator[Entry]:
    """Ended instances of containers; those alike of one workload are one entry."""
    alike: dict[_Key, list[Restart]] = {}
    for container in scope.containers:
        for ending in scope.endings(container):
            if ending.finished is not None and not _as_meant(ending):
                owner = scope.owner(container)
                key = (owner, container.section, ending.ending.value, ending.exit_code, ending.signal)
                alike.setdefault(key, []).append(ending)
    for (owner, *_), endings in alike.items():
        endings.sort(key=lambda ending: (ending.finished, ending.container.pod_name))
        times = [ending.finished for ending in endings if ending.finished is not None]
        yield Entry(
            times[0],
            MomentKind.CRASH if endings[0].ending is Ending.CRASH_SIGNAL else MomentKind.RESTART,
            owner,
            line(_said(endings)),
            partial(_cited, scope, endings),
            until=times[-1] if times[-1] > times[0] else None,
            count=len(endings),
            failing=any(ending in scope.recent_endings(ending.container) for ending in endings),
        )


def _as_meant(ending: Restart) -> bool:
    """Whether a container ended because its work was done."""
    container = ending.container
    lasting = container.section == "containers" and text(container.pod, "spec", "restartPolicy") in ("", "Always")
    return ending.ending is Ending.COMPLETED and not lasting


def _said(endings: list[Restart]) -> str:
    newest = endings[-1]
    pods = list(dict.fromkeys(ending.container.pod_name for ending in reversed(endings)))
    where = f"pod {pods[0]}" if len(pods) == 1 else f"{len(pods)} pods ({named(pods)})"
    code = f" (exit code {newest.exit_code})" if newest.signal_name and newest.exit_code is not None else ""
    restarts = {ending.container.pod_name: ending.container.restarts for ending in endings}
    total = sum(restarts.values())
    more = f"; {total} restart{'s' if total > 1 else ''} so far" if total else ""
    return f"Container {newest.container.name} of {where} ended: {newest.why}{code}{more}"


def _cited(scope: Scope, endings: list[Restart]) -> list[Evidence]:
    chosen = endings if len(endings) <= _CITED else [endings[0], endings[-1]]
    return [of_object(ending.container.pod, ending.at, scope.snapshot.observed_at) for ending in chosen]


def unready_entries(scope: Scope) -> Iterator[Entry]:
    """Since when pods of troubled containers are not ready."""
    by_workload: dict[ObjectRef, list[tuple[datetime, str, Object, int]]] = {}
    for pod in {id(container.pod): container.pod for container in scope.troubled}.values():
        for index, entry in enumerate(objects(pod, "status", "conditions")):
            since = when(entry, "lastTransitionTime")
            if entry.get("type") == "Ready" and entry.get("status") != "True" and since is not None:
                told = by_workload.setdefault(scope.snapshot.workload_of(pod), [])
                told.append((since, text(pod, "metadata", "name"), pod, index))
    for ref, found in by_workload.items():
        found.sort(key=lambda entry: entry[:2])
        names = [name for _, name, _, _ in found]
        said = f"Pod {names[0]} is" if len(names) == 1 else f"{len(names)} pods ({named(names)}) are"
        since, _, pod, index = found[0]
        cite = partial(_condition, pod, index, scope)
        until = found[-1][0] if found[-1][0] > since else None
        yield Entry(since, MomentKind.EVENT, ref, line(f"{said} not ready"), cite, until, len(names), True)


def _condition(item: Object, index: int, scope: Scope) -> list[Evidence]:
    return [of_object(item, f"/status/conditions/{index}", scope.snapshot.observed_at)]


def replaced_entries(scope: Scope) -> Iterator[Entry]:
    """Pods that were made well after what makes them: one took the place of another."""
    by_workload: dict[ObjectRef, list[Object]] = {}
    for pod in scope.pods:
        chain = scope.snapshot.owners(pod)
        maker = scope.snapshot.get(chain[0].kind, chain[0].namespace, chain[0].name) if chain else None
        made, begun = when(pod, "metadata", "creationTimestamp"), when(maker, "metadata", "creationTimestamp")
        if made is not None and begun is not None and made - begun > _LATER:
            by_workload.setdefault(scope.snapshot.workload_of(pod), []).append(pod)
    for ref, pods in by_workload.items():
        pods.sort(key=lambda pod: (text(pod, "metadata", "creationTimestamp"), text(pod, "metadata", "name")))
        times = [time for pod in pods if (time := when(pod, "metadata", "creationTimestamp")) is not None]
        names = [text(pod, "metadata", "name") for pod in pods]
        said = f"Pod {names[0]} was created" if len(names) == 1 else f"{len(names)} pods ({named(names)}) were created"
        cite = partial(_created, pods[0], scope)
        until = times[-1] if times[-1] > times[0] else None
        yield Entry(times[0], MomentKind.EVENT, ref, line(said), cite, until=until, count=len(names))


def _created(pod: Object, scope: Scope) -> list[Evidence]:
    return [of_object(pod, "/metadata/creationTimestamp", scope.snapshot.observed_at)]
