"""Pods that are not even made: the API server refuses them for a quota or a limit range.

Said in `FailedCreate` events of the controller, and in its `ReplicaFailure` condition after the events are gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from diagnosis.workloads.contract import Claim, Found, quoted
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import Object, objects, text
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.snapshot import ref_of
from incidents.models import CauseClass, Evidence, Fact, ObjectRef

NAME = "quota_exceeded"
READS = ("Event", "ReplicaSet")
RULED_OUT = "quotas: no controller was refused a pod"

_MAKERS = ("ReplicaSet", "StatefulSet", "DaemonSet", "Job", "Deployment", "ReplicationController")
_EXCEEDED = re.compile(
    r"exceeded quota: (?P<quota>[^,]+), requested: (?P<requested>.+?), used: (?P<used>.+?), limited: (?P<limited>.+)$"
)
_MUST_SPECIFY = re.compile(r"failed quota: (?P<quota>[^:]+): must specify (?P<what>.+)$")
_LIMIT_RANGE = re.compile(
    r"(?:maximum|minimum) \S+ (?:usage|limit|request).* is |limit to request ratio", re.IGNORECASE
)


def find(scope: Scope) -> Iterable[Found]:
    wanted = set(scope.workloads)
    for kind in _MAKERS:
        for namespace in sorted({ref.namespace or "" for ref in wanted}):
            for item in scope.snapshot.all(kind, namespace):
                owner = scope.snapshot.workload_of(item)
                if (owner in wanted or ref_of(item) in wanted) and scope.unready_workload(owner):
                    yield from _refusals(scope, item, owner)


def _refusals(scope: Scope, item: Object, owner: ObjectRef) -> Iterator[Found]:
    now, name = scope.snapshot.observed_at, text(item, "metadata", "name")
    told: list[tuple[str, Evidence]] = []
    for event in reversed(scope.snapshot.events_for(text(item, "kind"), owner.namespace, name)):
        if event.reason == "FailedCreate":
            told.append((event.message, of_event(event, now)))
    for index, entry in enumerate(objects(item, "status", "conditions")):
        if entry.get("type") == "ReplicaFailure" and entry.get("status") == "True":
            told.append((text(entry, "message"), of_object(item, f"/status/conditions/{index}/message", now)))
    for message, evidence in told:
        if (parsed := _parse(message)) is not None:
            facts, why = parsed
            claims = [Claim(f"{text(item, 'kind')} {name} may not make pods: {quoted(message, 500)}", [evidence])]
            quota = scope.snapshot.get("ResourceQuota", owner.namespace, str(facts.get("quota") or ""))
            if quota is not None:
                shown = of_object(quota, "/status", now)
                claims.append(Claim(f"Quota {facts['quota']} is used up or asks for more", [shown]))
            yield Found(
                CauseClass.QUOTA_EXCEEDED,
                owner,
                0.97,
                f"{owner.kind} {owner.name} may not make its pods: {why}.",
                claims,
                facts=facts,
                next_steps=["Raise the quota, ask for less, or remove what uses it up"],
            )
            return


def _parse(message: str) -> tuple[dict[str, Fact], str] | None:
    if match := _EXCEEDED.search(message):
        facts: dict[str, Fact] = {key: value.strip(" .") for key, value in match.groupdict().items()}
        why = f"quota {facts['quota']} allows {facts['limited']}, used are {facts['used']}, asked {facts['requested']}"
        return facts, why
    if match := _MUST_SPECIFY.search(message):
        facts = {"quota": match["quota"].strip(), "must_specify": match["what"].strip(" .")}
        return facts, f"quota {facts['quota']} asks that containers specify {facts['must_specify']}"
    if _LIMIT_RANGE.search(message):
        said = message.rpartition("forbidden: ")[2][:300]
        return {"limit_range": said}, f"a limit range forbids it: {said}"
    return None
