"""What the API server refused a controller: its `FailedCreate` events, and its `ReplicaFailure` condition, which stays
after the events are gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from diagnosis.workloads.contract import Claim, quoted
from diagnosis.workloads.evidence import of_event, of_object
from diagnosis.workloads.fields import Object, condition, number, objects, text
from diagnosis.workloads.scope import Scope
from diagnosis.workloads.snapshot import ref_of
from incidents.models import Evidence, ObjectRef

MAKERS = (
    "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "Deployment", "ReplicationController", "CronJob",
)  # fmt: skip
_FRESH = timedelta(minutes=15)  # controllers try again at least this often (their back-off ends at 1000 s)


@dataclass(frozen=True)
class Refusal:
    """One refused creation. `item` is the controller, `owner` the workload that a person would change."""

    item: Object
    owner: ObjectRef
    message: str
    evidence: Evidence

    @property
    def claim(self) -> Claim:
        name = text(self.item, "metadata", "name")
        return Claim(f"{text(self.item, 'kind')} {name} may not make what it should: {quoted(self.message, 700)}",
                     [self.evidence])  # fmt: skip


def refusals(scope: Scope, everywhere: bool = False) -> list[list[Refusal]]:
    """For each controller within the scope (or everywhere) that lacks pods, what was refused, newest first; never an
    empty list."""
    known = f"refusals everywhere={everywhere}"
    if known not in scope.memo:
        scope.memo[known] = list(_refusals(scope, everywhere))
    found: list[list[Refusal]] = scope.memo[known]
    return found


def _refusals(scope: Scope, everywhere: bool) -> Iterator[list[Refusal]]:
    wanted = set(scope.workloads)
    spaces: list[str | None] = [None] if everywhere else [*sorted({ref.namespace or "" for ref in wanted})]
    for kind in MAKERS:
        for namespace in spaces:
            for item in scope.snapshot.all(kind, namespace):
                owner = scope.snapshot.workload_of(item)
                inside = everywhere or owner in wanted or ref_of(item) in wanted
                if inside and _lacks_pods(scope, item, owner):
                    told = list(_of(scope, item, owner))
                    if told:
                        yield told


def _lacks_pods(scope: Scope, item: Object, owner: ObjectRef) -> bool:
    kind = text(item, "kind")
    if kind == "Job":
        done = condition(item, "Complete").get("status") == "True"
        return not done and not number(item, "status", "active") and not number(item, "status", "succeeded")
    if kind == "DaemonSet":  # its controller does not get as far as the status when it may not make pods
        seen = number(item, "status", "observedGeneration") or 0
        return scope.unready_workload(owner) or seen < (number(item, "metadata", "generation") or 0)
    return kind == "CronJob" or scope.unready_workload(owner)


def _of(scope: Scope, item: Object, owner: ObjectRef) -> Iterator[Refusal]:
    now, name = scope.snapshot.observed_at, text(item, "metadata", "name")
    events = scope.snapshot.events_for(text(item, "kind"), owner.namespace, name, text(item, "metadata", "uid"))
    for event in reversed(events):
        old = event.last is not None and now - event.last > _FRESH
        if event.reason in ("FailedCreate", "FailedUpdate") and not (old and text(item, "kind") == "CronJob"):
            yield Refusal(item, owner, event.message, of_event(event, now))
    for index, entry in enumerate(objects(item, "status", "conditions")):
        if entry.get("type") == "ReplicaFailure" and entry.get("status") == "True":
            evidence = of_object(item, f"/status/conditions/{index}/message", now)
            yield Refusal(item, owner, text(entry, "message"), evidence)
