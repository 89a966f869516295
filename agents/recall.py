"""What memory proposes: earlier incidents of the same cause on the same object, or of the same crash elsewhere.

It decides nothing: no cause, confidence or risk changes. Each recalled fix is checked against the present objects.
Texts of the past (titles, reasons that people gave) are outside text here: one line, cleaned, cut.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from actions.catalogue.images import repository
from agents.fencing import clean
from agents.known_crashes import place_of
from agents.remedies.remedy import bare
from diagnosis.merge import CODE_FAULTS, crashed_container
from diagnosis.workloads.earlier_fix import Fit, still_fits
from diagnosis.workloads.snapshot import Snapshot
from incidents.memory import Attempt, Memory, PastIncident
from incidents.models import (
    Cause,
    CauseClass,
    Diagnosis,
    Evidence,
    EvidenceKind,
    Finding,
    Incident,
    ObjectRef,
    Recalled,
    Severity,
)
from incidents.plan import ApprovalState

RULE = "past_incidents"
MAX_RECALLED = 4
_CAUSES = 3
_WORDS = 200
_HELD = timedelta(days=1)
_PULLABLE = "docker-pullable://"


class Outcome(IntEnum):
    """How a past incident ended, by what it tells for the present one: most first."""

    HELD = 0
    CAME_BACK = 1
    UNDONE = 2
    DECLINED = 3
    NOTHING = 4


@dataclass(frozen=True)
class Told:
    """A past incident in words. `line` is one sentence: what was done, by whom it was approved, whether it held."""

    past: PastIncident
    outcome: Outcome
    line: str

    @property
    def last(self) -> Attempt | None:
        return self.past.attempts[-1] if self.past.attempts else None


class Recall:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def of_workload(self, incident: Incident, found: Diagnosis, snapshot: Snapshot) -> Diagnosis:
        """`found` with what was done about the same causes on the same objects before."""
        await self._memory.learn(incident.target.namespace)
        recalled: list[tuple[Told, Recalled, Evidence, ObjectRef]] = []
        for cause in found.causes[:_CAUSES]:
            owner, classes = bare(cause.object), _alike(cause.cause_class)
            past = await self._memory.of_object(owner, classes, but=incident.id)
            count = await self._memory.count(owner, classes, but=incident.id) if past else 0
            for told in _best(past, incident.created_at):
                fit = still_fits(told.last.approval.plan, snapshot) if told.last else None
                why = (
                    f"{_named(told.past)} on the same {owner}, which has {count} such on record{_unsure(cause, told)}."
                )
                recalled.append(_recalled(told, why, fit, _same_class(cause, told.past), cause.object))
        return _with(found, recalled[:MAX_RECALLED])

    async def of_crash(self, incident: Incident, found: Diagnosis, workload: Diagnosis | None) -> Diagnosis:
        """`found`, which a core gave, with earlier incidents of the same crash.

        What the researcher recalled of the same workload is said to be the same crash or another one; the same crash
        of other workloads comes after it when they run the same image.
        """
        group = found.crash.signatures.group_id if found.crash and found.crash.signatures else None
        if group is None or not found.causes:
            return found
        await self._memory.learn(incident.target.namespace)
        crashed = crashed_container(workload) if workload else None
        owner = bare(crashed or found.causes[0].object)
        known = {item.source: item for item in (workload.recalled if workload else []) if item.kind == "incident"}
        recalled = []
        for told in _tell(await self._memory.named(known), incident.created_at):
            item = known[told.past.incident_id]
            if told.past.group_id is not None and told.past.cause_class in CODE_FAULTS:
                recalled.append(_compared(told, item, group, found.causes[0].object))
        image = place_of(workload).image
        others = [
            past
            for past in await self._memory.of_crash(group, but=incident.id)
            if past.incident_id not in known and (bare(past.object) == owner or _same_image(past, owner, image))
        ]
        for told in sorted(_best(others, incident.created_at), key=lambda item: bare(item.past.object) != owner):
            same = bare(told.past.object) == owner
            where = f"the same {owner}" if same else f"{bare(told.past.object)}, which is another with the same program"
            why = f"The same crash (group {group}) in {where}."
            note = "The core shows the same crash."
            if told.last is not None:
                note += " What was done then was not compared with the objects here."
            recalled.append(_recalled(told, why, None, note, found.causes[0].object))
        return _with(found, recalled[:MAX_RECALLED])

    async def precedents(self, incident: Incident, diagnosis: Diagnosis) -> list[Told]:
        """The executed fixes that `diagnosis` recalls, newest first; not those that held and would do nothing now."""
        known = {item.source: item for item in diagnosis.recalled if item.kind == "incident"}
        told = _tell(await self._memory.named(known), incident.created_at) if known else []
        useless = {source for source, item in known.items() if item.borne_out is False}
        return [
            item
            for item in sorted(told, key=lambda item: item.past.began_at, reverse=True)
            if item.outcome in (Outcome.CAME_BACK, Outcome.UNDONE)
            or (item.outcome is Outcome.HELD and item.past.incident_id not in useless)
        ]


def _alike(cause_class: CauseClass) -> Collection[CauseClass]:
    """A crash by a signal may be any fault of the code, until its core is read."""
    return CODE_FAULTS if cause_class is CauseClass.NATIVE_CRASH else {cause_class}


def _same_class(cause: Cause, past: PastIncident) -> str:
    return f"The cause found now is {_words(cause.cause_class)} too." if cause.cause_class is past.cause_class else ""


def _unsure(cause: Cause, told: Told) -> str:
    same = cause.cause_class is told.past.cause_class
    return "" if same else "; whether it is the same crash now, only its core can say"


def _tell(past: Sequence[PastIncident], seen_at: datetime) -> list[Told]:
    """In words, those first that help most, then the newest."""
    told = [_told(item, seen_at) for item in past]
    told.sort(key=lambda item: item.past.began_at, reverse=True)
    return sorted(told, key=lambda item: item.outcome)


def _best(past: Sequence[PastIncident], seen_at: datetime) -> list[Told]:
    """As many as are recalled; of those where nothing was done, the newest alone."""
    told = _tell(past, seen_at)
    idle = [item for item in told if item.outcome is Outcome.NOTHING]
    return [item for item in told if item not in idle[1:]][:MAX_RECALLED]


def _told(past: PastIncident, seen_at: datetime) -> Told:
    day = f"{past.began_at:%Y-%m-%d}"
    last = past.attempts[-1] if past.attempts else None
    if last is None:
        return Told(past, Outcome.NOTHING, f"{day}: nothing was executed, it ended {_words(past.status)}")
    approval = last.approval
    title = _line(approval.plan.title)
    votes = [vote for vote in approval.votes if vote.verdict == "approve"]
    by = f" (approved by {_line(', '.join(vote.identity for vote in votes))})" if votes else ""
    if approval.state is ApprovalState.REJECTED:
        against = [vote for vote in approval.votes if vote.verdict == "reject"]
        who = f" by {_line(against[-1].identity)}" if against else ""
        reason = f": «{_line(against[-1].reason)}»" if against and against[-1].reason else ", without a reason"
        return Told(past, Outcome.DECLINED, f"{day}: {title}, declined{who}{reason}")
    if approval.state is ApprovalState.UNDONE:
        return Told(past, Outcome.UNDONE, f"{day}: {title}{by}, did not help and was undone")
    if approval.state is ApprovalState.FAILED:
        return Told(past, Outcome.UNDONE, f"{day}: {title}{by}, did not end well: a person had to look")
    again = past.again_at if past.again_at is not None and past.again_at < seen_at else None
    span = max((again or seen_at) - last.at, timedelta(0))
    if again is None and span >= _HELD:
        return Told(past, Outcome.HELD, f"{day}: {title}{by}, verified, held {_span(span)}")
    return Told(past, Outcome.CAME_BACK, f"{day}: {title}{by}, verified, but it came back after {_span(span)}")


def _recalled(
    told: Told, why: str, fit: Fit | None, note: str, about: ObjectRef
) -> tuple[Told, Recalled, Evidence, ObjectRef]:
    evidence = _evidence(told)
    nothing = "Nothing was done then that could be checked." if told.last is None else ""
    item = Recalled(
        kind="incident",
        source=told.past.incident_id,
        text=told.line,
        why=why,
        borne_out=fit.ok if fit else None,
        checked=" ".join(part for part in (note, fit.why if fit else nothing) if part),
        evidence_ids=[evidence.id],
    )
    return told, item, evidence, about


def _compared(told: Told, item: Recalled, group: str, about: ObjectRef) -> tuple[Told, Recalled, Evidence, ObjectRef]:
    """What the researcher recalled, now that the core says which crash it is."""
    same = told.past.group_id == group
    said = "The core shows the same crash." if same else f"The core shows another crash than then: group {group}."
    evidence = _evidence(told)
    checked = item.checked if item.checked.startswith(said) else f"{said} {item.checked}"  # a node may run again
    compared = item.model_copy(
        update={
            "why": f"The same crash (group {group}) as then." if same else item.why,
            "borne_out": item.borne_out if same else False,
            "checked": checked,
            "evidence_ids": [evidence.id],
        }
    )
    return told, compared, evidence, about


def _evidence(told: Told) -> Evidence:
    """The record of a past incident. It ends when the incident did, so that reading it again gives the same id."""
    past = told.past
    lines = [
        f"Incident {past.incident_id} about {past.object}: {past.cause_class.value}",
        f"from {past.began_at:%Y-%m-%d %H:%M} to {past.ended_at:%Y-%m-%d %H:%M} UTC, ended {past.status.value}",
        told.line,
    ]
    for attempt in past.attempts:
        outcome = f": {_line(attempt.approval.outcome)}" if attempt.approval.outcome else ""
        lines.append(f"{attempt.at:%Y-%m-%d %H:%M} UTC {attempt.approval.id} {attempt.approval.state.value}{outcome}")
    source = f"incident {past.incident_id} ({past.began_at:%Y-%m-%d})"
    return Evidence.of(EvidenceKind.HISTORY, source, "\n".join(lines), past.ended_at)


def _with(found: Diagnosis, recalled: Sequence[tuple[Told, Recalled, Evidence, ObjectRef]]) -> Diagnosis:
    findings = [
        Finding.of(RULE, f"Seen before, {told.line}", [evidence], severity=Severity.INFO, object=about)
        for told, _, evidence, about in recalled
    ]
    return found.model_copy(
        update={
            "findings": [*found.findings, *findings],
            "evidence": [*found.evidence, *(evidence for _, _, evidence, _ in recalled)],
            "recalled": [*found.recalled, *(item for _, item, _, _ in recalled)],
        }
    )


def _same_image(past: PastIncident, owner: ObjectRef, image: str | None) -> bool:
    """Whether both ran the same program: of workloads, images of one repository; a process is known by its crash."""
    if past.image and image:
        return repository(past.image.removeprefix(_PULLABLE)) == repository(image.removeprefix(_PULLABLE))
    return past.object.kind == owner.kind == "Process"


def _named(past: PastIncident) -> str:
    inside = f" in container {past.object.container}" if past.object.container else ""
    return f"{_words(past.cause_class).capitalize()}{inside}"


def _words(value: str) -> str:
    return value.replace("_", " ")


def _line(text: str) -> str:
    """One line of at most `_WORDS` characters, for text that somebody else wrote."""
    line = " ".join(clean(text).split())
    return line if len(line) <= _WORDS else f"{line[: _WORDS - 1]}…"


def _span(span: timedelta) -> str:
    for seconds, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if (count := int(span.total_seconds()) // seconds) >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"
