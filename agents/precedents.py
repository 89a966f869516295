"""What earlier executions on the same object say about a plan: that its kind of change held there, or did not.

They order what the gate accepted, and are told with it; no risk, no write and no need of approval changes by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agents.recall import Outcome, Told
from agents.remedies import Remedy
from incidents.actions import Action, ChangeConfigReference, ChangeProbe, ChangeResources, ChangeVariable, Combined
from incidents.models import Diagnosis
from incidents.plan import Plan


def precedent(action: Action, told: Sequence[Told]) -> Told | None:
    """The newest executed fix of the same kind on the same object; `told` is newest first."""
    for item in told:
        last = item.last
        if last is not None and _alike(last.approval.plan.action, action):
            return item
    return None


def held(before: Told | None) -> bool:
    return before is not None and before.outcome is Outcome.HELD


def failed(before: Told | None) -> bool:
    return before is not None and before.outcome in (Outcome.CAME_BACK, Outcome.UNDONE)


def with_precedent(remedy: Remedy, plan: Plan, before: Told | None, diagnosis: Diagnosis) -> tuple[Remedy, Plan]:
    """Both with a sentence on what became of the earlier one, and where it can be read."""
    if before is None:
        return remedy, plan
    cited = next(item.evidence_ids[0] for item in diagnosis.recalled if item.source == before.past.incident_id)
    if held(before):
        told = "The same kind of change held here before"
    else:
        told = "The same kind of change did not hold here before, so any other way comes first"
    sentence = f"{told}: {before.line} ({before.past.incident_id}, {cited})."
    return (
        replace(remedy, reason=f"{remedy.reason} {sentence}"),
        plan.model_copy(update={"reason": f"{plan.reason} {sentence}"}),
    )


def _alike(then: Action, now: Action) -> bool:
    """Revisions, images and amounts differ from time to time; the place that is changed does not."""
    if type(then) is not type(now) or then.target != now.target:
        return False
    if isinstance(then, Combined) and isinstance(now, Combined):
        places = [sorted(_place(part) for part in item.parts) for item in (then, now)]
        return places[0] == places[1]
    return _place(then) == _place(now)


def _place(action: Action) -> tuple[str, ...]:
    container = getattr(action, "container", None) or ""
    if isinstance(action, ChangeProbe):
        return (action.type, container, action.probe.value)
    if isinstance(action, ChangeResources):
        amounts = ("memory_limit", "memory_request", "cpu_limit", "cpu_request")
        return (action.type, container, *(name for name in amounts if getattr(action, name) is not None))
    if isinstance(action, ChangeConfigReference):
        return (action.type, container, action.kind, action.name, action.key or "")
    if isinstance(action, ChangeVariable):
        return (action.type, container, action.variable)
    return (action.type, container)
