"""What happened near the onset: the workloads' timeline joined to the ranking."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from diagnosis.metrics.calls import Calls
from diagnosis.metrics.subject import Owners, workload_of_pod
from incidents.metric_report import EventBeside
from incidents.models import Moment, MomentKind, ObjectRef

MOST = 20
_AFTER_SECONDS = 300.0
CHANGES = {MomentKind.CHANGE, MomentKind.ROLLOUT, MomentKind.SCALING, MomentKind.CRASH, MomentKind.RESTART,
           MomentKind.NODE, MomentKind.ACTION}  # fmt: skip
"""What can be a reason; an alert or an event tells of one."""
BONUS = 0.1
"""Added to the score of a workload that was changed, or that leans on one that was, right before the onset."""
_SHOWS = 0.1


def entity_of(ref: ObjectRef | None, known: Collection[str], owners: Owners | None) -> str:
    """The ranked entity that an object belongs to; empty when none does."""
    if ref is None:
        return ""
    namespace, name = ref.namespace or "", ref.name
    if ref.kind == "Node":
        candidates = [f"node/{name}"]
    else:
        if ref.kind == "Pod":
            owner = (owners or {}).get((namespace, name))
            name = owner.name if owner is not None else workload_of_pod(name)
        candidates = [f"{namespace}/{name}" if namespace else name, name]
    found = next((entity for candidate in candidates if (entity := candidate.lower()) in known), "")
    if not found and not namespace and ref.kind != "Node":
        alike = [entity for entity in known if entity.rpartition("/")[2] == name.lower()]
        found = alike[0] if len(alike) == 1 else ""
    return found


def changed_before(
    moments: Sequence[Moment], onset: datetime, lead: float, known: Collection[str], owners: Owners | None, slack: float
) -> dict[str, Moment]:
    """Entity to the last change of it within `lead` seconds before the onset (and `slack` after: a step's doubt)."""
    found: dict[str, Moment] = {}
    for moment in sorted(moments, key=lambda each: each.at):
        before = (onset - moment.at).total_seconds()
        entity = entity_of(moment.object, known, owners)
        if entity and moment.kind in CHANGES and -slack <= before <= lead:
            found[entity] = moment
    return found


def with_changes(
    ranking: Sequence[tuple[str, float]], changed: Mapping[str, Moment], calls: Calls
) -> list[tuple[str, float]]:
    """The ranking after a workload that was changed right before the onset, and shows anything, got its bonus."""
    raised = []
    for entity, score in ranking:
        if score >= _SHOWS and entity in changed:
            score += BONUS
        elif score >= _SHOWS and any(callee in changed for callee in calls.callees.get(entity, ())):
            score += BONUS / 2
        raised.append((entity, score))
    return sorted(raised, key=lambda item: (-item[1], item[0]))


def events_beside(
    moments: Sequence[Moment],
    onset: datetime,
    lead: float,
    top: Sequence[str],
    known: Collection[str],
    calls: Calls,
    owners: Owners | None,
) -> list[EventBeside]:
    """Entries of the timeline from `lead` seconds before the onset to five minutes after it that happened to a ranked
    workload, to one that it leans on, or to no known one; nearest first, changes before what only tells of them."""
    found: list[tuple[tuple[object, ...], EventBeside]] = []
    for moment in moments:
        before = (onset - moment.at).total_seconds()
        if not -_AFTER_SECONDS <= before <= lead:
            continue
        entity = entity_of(moment.object, known, owners)
        leaning = next(
            (name for name in top if entity and entity != name and entity in calls.callees.get(name, ())), ""
        )
        own = entity in top
        order = (not own, not leaning, moment.kind not in CHANGES, abs(before), moment.text)
        event = EventBeside(
            moment=moment,
            seconds_before_onset=round(before, 3),
            entity=entity if own else leaning or entity,
            upstream=bool(leaning) and not own,
        )
        found.append((order, event))
    return [event for _, event in sorted(found, key=lambda item: item[0])[:MOST]]
