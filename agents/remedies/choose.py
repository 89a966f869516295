"""From causes to a course: what is tried for the first cause, and what comes after it, in order.

A bug in the program's own code is never answered by a change of configuration: the earlier revision that ran is, or a
report to its owners. A missing value (the right image, the missing key) is asked for, never invented.

One approval is about one object. Causes that lie in the same pod template are repaired by one patch; causes of other
objects are told as the next steps, and are planned anew when the first step was verified: what it did is seen then.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from agents.remedies import configuration, placing, rollback, running, serving
from agents.remedies.people import ask
from agents.remedies.remedy import Offers, Remedy, bare
from agents.remedies.rollback import HelmHistories
from diagnosis.merge import CODE_FAULTS
from incidents.actions import (
    AddPullSecret,
    ChangeConfigReference,
    ChangeProbe,
    ChangeResources,
    ChangeScheduling,
    ChangeVariable,
    Combined,
    RevertImage,
    TemplateChange,
)
from incidents.models import Cause, CauseClass, Diagnosis

MIN_CONFIDENCE = 0.5
"""Below this a cause is told, not acted upon."""

TOGETHER_CONFIDENCE = 0.7
"""A second cause is only repaired along with the first when it is at least this certain."""

MAX_CAUSES = 5

OFFERS: dict[CauseClass, Offers] = {**configuration.OFFERS, **running.OFFERS, **placing.OFFERS, **serving.OFFERS}

_TEMPLATE = (
    AddPullSecret,
    ChangeConfigReference,
    ChangeProbe,
    ChangeResources,
    ChangeScheduling,
    ChangeVariable,
    RevertImage,
)


@dataclass(frozen=True)
class Course:
    """`now`: alternatives for the first cause, best first. `later`: for each further cause its best remedy."""

    now: list[Remedy] = field(default_factory=list)
    later: list[Remedy] = field(default_factory=list)


def course(diagnosis: Diagnosis, histories: HelmHistories) -> Course:
    """What to do about all causes that are certain enough."""
    causes = [cause for cause in diagnosis.causes if cause.confidence >= MIN_CONFIDENCE][:MAX_CAUSES]
    if not causes or causes[0] is not diagnosis.causes[0]:
        return Course()
    now = remedies(diagnosis, histories)
    joined, rest = _together(causes, histories)
    later = [_of(cause, diagnosis, histories)[0] for cause in rest]
    return Course(now=[*joined, *now], later=later)


def remedies(diagnosis: Diagnosis, histories: HelmHistories) -> list[Remedy]:
    """What answers the first-ranked cause alone, best first."""
    if not diagnosis.causes or diagnosis.causes[0].confidence < MIN_CONFIDENCE:
        return []
    return _of(diagnosis.causes[0], diagnosis, histories)


def _of(cause: Cause, diagnosis: Diagnosis, histories: HelmHistories) -> list[Remedy]:
    found = rollback.helm(cause, histories)
    if not found:
        found = [*_offered(cause), *rollback.revision(cause)]
    if cause.cause_class in CODE_FAULTS:
        found.append(_report_to_owners(cause, diagnosis))
    elif not any(remedy.action for remedy in found):
        question, why = ask(cause)
        found.append(Remedy(question, f"{cause.summary} {why}", steps=diagnosis.next_steps))
    return found


def _offered(cause: Cause) -> list[Remedy]:
    """The actions of the class. Facts that make no valid action (a port of 0, a name with a slash) make none."""
    offers = OFFERS.get(cause.cause_class)
    try:
        return offers(cause) if offers else []
    except ValidationError:
        return []


def _together(causes: list[Cause], histories: HelmHistories) -> tuple[list[Remedy], list[Cause]]:
    """(one remedy for the first cause and others of the same template, the causes that it leaves)."""
    first, *others = causes
    chosen: list[tuple[Remedy, TemplateChange]] = []
    left = []
    for cause in causes:
        sure = cause is first or (cause.confidence >= TOGETHER_CONFIDENCE and bare(cause.object) == bare(first.object))
        part = _template_change(cause) if sure and not rollback.helm(cause, histories) else None
        if part is not None:
            chosen.append(part)
        elif cause is not first:
            left.append(cause)
    if len(chosen) < 2 or _template_change(first) is None:
        return [], others
    parts = list({change.model_dump_json(): change for _, change in chosen}.values())
    if len(parts) < 2:
        return [], left
    both = replace(
        chosen[0][0],
        title="; ".join(dict.fromkeys(remedy.title for remedy, _ in chosen)),
        reason=" ".join(dict.fromkeys(remedy.reason for remedy, _ in chosen)),
        action=Combined(target=bare(first.object), parts=parts),
    )
    return [both], left


def _template_change(cause: Cause) -> tuple[Remedy, TemplateChange] | None:
    for remedy in _offered(cause):
        if isinstance(remedy.action, _TEMPLATE):
            return remedy, remedy.action
    return None


def _report_to_owners(cause: Cause, diagnosis: Diagnosis) -> Remedy:
    where = f" at {diagnosis.crash.crash_line}" if diagnosis.crash and diagnosis.crash.crash_line else ""
    return Remedy(
        title=f"Report the bug to the owners of {cause.object.name}",
        reason=f"{cause.summary.rstrip('.')}. It is a bug in the program{where}; no configuration repairs it.",
        steps=diagnosis.next_steps,
    )
