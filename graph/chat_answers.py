"""Answers by rules: each line comes from the record of one incident, with the evidence that it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from agents.fencing import clean
from diagnosis.workloads.timeline.onset import around_onset, changed_before, duration
from graph.chat_texts import Language, say, status_word
from graph.intents import Intent
from incidents.crash_report import Frame
from incidents.models import Cause, Diagnosis, DiagnosisStatus, Evidence, Incident, Step
from incidents.plan import Approval, ApprovalState, Proposal

_FRAMES = 8
_ITEMS = 12
_MOMENTS = 15
_EXCERPT = 1500
_DIFF = 3000


@dataclass(frozen=True)
class Line:
    """One line of an answer and the ids of the evidence it rests on."""

    text: str
    evidence_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """What is on record about one incident."""

    incident: Incident
    diagnosis: Diagnosis | None
    proposals: Sequence[Proposal]
    approvals: Sequence[Approval]
    steps: Sequence[Step]
    evidence: Sequence[Evidence]


def answer(intent: Intent, record: Record, language: Language, *, asked: Sequence[str] = ()) -> list[Line]:
    """The answer to a question about one incident. `asked` are evidence ids that the question names."""
    teller = _Teller(record, language)
    if intent is Intent.EVIDENCE:
        return list(teller.evidence(asked))
    tell: dict[Intent, Callable[[], Iterable[Line]]] = {
        Intent.WHY: teller.why,
        Intent.WHERE: teller.where,
        Intent.FIX: teller.fix,
        Intent.CHANGES: teller.changes,
        Intent.BEFORE: teller.before,
        Intent.STATUS: teller.status,
        Intent.WHO: teller.who,
    }
    return list(tell.get(intent, teller.what)())


def causes(diagnosis: Diagnosis, language: Language) -> list[Line]:
    """What a diagnosis says, without the incident around it."""
    return list(_causes(diagnosis, language))


def waiting(record: Record, language: Language) -> list[Line]:
    """The approvals that people have yet to decide."""
    return _Teller(record, language).waiting()


class _Teller:
    def __init__(self, record: Record, language: Language) -> None:
        self.record = record
        self.lang = language

    def _say(self, key: str, **values: object) -> str:
        shown = {name: clean(value) if isinstance(value, str) else value for name, value in values.items()}
        return say(self.lang, key, **shown)

    def what(self) -> Iterator[Line]:
        incident = self.record.incident
        yield Line(
            self._say(
                "headline",
                target=str(incident.target),
                status=status_word(self.lang, incident.status.value),
                at=f"{incident.created_at:%Y-%m-%d %H:%M} UTC",
                by=incident.requested_by,
            )
        )
        if incident.event:
            yield Line(self._say("reported", event=incident.event[:500]))
        if (diagnosis := self.record.diagnosis) is None:
            yield from self._no_diagnosis()
            return
        crash = diagnosis.crash
        if crash is not None and crash.mechanism:
            yield Line(self._say("mechanism", text=crash.mechanism), _first_evidence(diagnosis))
        yield from _causes(diagnosis, self.lang, brief=True)
        if crash is not None and crash.crash_line:
            yield Line(self._crash_line(), _first_evidence(diagnosis))
        yield from self.waiting()

    def why(self) -> Iterator[Line]:
        if (diagnosis := self.record.diagnosis) is None:
            yield from self._no_diagnosis()
            return
        yield from _causes(diagnosis, self.lang)

    def where(self) -> Iterator[Line]:
        diagnosis = self.record.diagnosis
        crash = diagnosis.crash if diagnosis else None
        if diagnosis is None:
            yield from self._no_diagnosis()
            return
        if crash is None:
            yield Line(self._say("no_crash"))
            for item in diagnosis.unseen[:3]:
                yield Line(self._say("finding", claim=item))
            return
        cited = _first_evidence(diagnosis)
        yield Line(self._crash_line(), cited)
        if crash.threads:
            thread = crash.threads[0]
            name = f" ({thread.thread_name})" if thread.thread_name else ""
            yield Line(self._say("thread", id=str(thread.thread_id or "?"), name=name))
            for frame in thread.frames[:_FRAMES]:
                place = f" at {_place(frame)}" if _place(frame) else ""
                yield Line(
                    self._say("frame", n=frame.frame, function=frame.function or frame.offset or "??", place=place)
                )
            if thread.frame_count > _FRAMES:
                yield Line(self._say("more", n=thread.frame_count - _FRAMES))

    def evidence(self, asked: Sequence[str]) -> Iterator[Line]:
        cited = self.record.diagnosis.evidence if self.record.diagnosis else []
        items = {item.id: item for item in [*cited, *self.record.evidence]}
        named = [item for item in items.values() if any(item.id.startswith(prefix) for prefix in asked)]
        for item in named[:3]:
            yield Line(self._say("excerpt", id=item.id, kind=item.kind.value, source=item.source), (item.id,))
            yield Line(clean(item.excerpt[:_EXCERPT]))
        if named:
            return
        if not items:
            yield Line(self._say("no_evidence"))
            return
        yield Line(self._say("evidence_count", n=len(items)))
        for item in list(items.values())[:_ITEMS]:
            yield Line(self._say("evidence", kind=item.kind.value, source=item.source[:300]), (item.id,))
        if len(items) > _ITEMS:
            yield Line(self._say("more", n=len(items) - _ITEMS))

    def fix(self) -> Iterator[Line]:
        found = False
        for approval in self.record.approvals:
            if approval.state is ApprovalState.SUPERSEDED:
                continue
            found, plan = True, approval.plan
            yield Line(
                self._say(
                    "plan",
                    title=plan.title,
                    risk=plan.risk.value,
                    blast=plan.blast_radius,
                    undo=self._say("undo_yes" if plan.reversible else "undo_no"),
                    state=approval.state.value,
                )
            )
            yield Line(self._say("diff", text=plan.diff[:_DIFF]))
            if approval.state is ApprovalState.PENDING:
                yield Line(self._say("by_people", n=approval.quorum))
                yield self._waits(approval)
        for proposal in self.record.proposals:
            found = True
            yield Line(self._say("proposal", title=proposal.title, reason=proposal.reason))
            for text in proposal.steps[:_ITEMS]:
                yield Line(self._say("proposal_step", text=text))
            if proposal.change:
                yield Line(self._say("change", text=proposal.change[:_DIFF]))
        if not found:
            yield Line(self._say("no_fix"))
        diagnosis = self.record.diagnosis
        if diagnosis is None:
            yield from self._no_diagnosis()
        elif diagnosis.next_steps:
            yield Line(self._say("next_steps"))
            for text in diagnosis.next_steps[:_ITEMS]:
                yield Line(self._say("next_step", text=text))

    def changes(self) -> Iterator[Line]:
        """What changed right before it began, and the entries of the timeline around that."""
        if (diagnosis := self.record.diagnosis) is None:
            yield from self._no_diagnosis()
            return
        if not diagnosis.timeline:
            yield Line(self._say("no_timeline"))
            return
        if (found := changed_before(diagnosis.timeline)) is not None:
            change, onset = found
            span = duration(onset.at - change.at)
            said = self._say("began", span=span, at=f"{change.at:%Y-%m-%d %H:%M:%S}", text=change.text)
            yield Line(said, tuple(change.evidence_ids[:3]))
        yield Line(self._say("timeline"))
        for moment in around_onset(diagnosis.timeline, _MOMENTS):
            until = f"{moment.until or moment.at:%H:%M:%S}"
            times = self._say("moment_times", n=moment.count, until=until) if moment.count > 1 else ""
            at, mark = f"{moment.at:%m-%d %H:%M:%S}", "▶" if moment.onset else "-"
            said = self._say("moment", mark=mark, at=at, text=moment.text, times=times)
            yield Line(said, tuple(moment.evidence_ids[:2]))

    def before(self) -> Iterator[Line]:
        """Earlier incidents that memory proposed, each with what speaks for it now."""
        if (diagnosis := self.record.diagnosis) is None:
            yield from self._no_diagnosis()
            return
        earlier = [item for item in diagnosis.recalled if item.kind == "incident"]
        if not earlier:
            yield Line(self._say("recalled_none"))
        for item in earlier:
            said = self._say("recalled", text=item.text, source=item.source, why=item.why, checked=item.checked)
            yield Line(said, tuple(item.evidence_ids[:2]))

    def status(self) -> Iterator[Line]:
        incident = self.record.incident
        status = status_word(self.lang, incident.status.value)
        yield Line(self._say("status", target=str(incident.target), status=status))
        for step in self.record.steps[-5:]:
            yield Line(self._say("step", at=f"{step.at:%H:%M:%S}", text=step.text[:300]))
        yield from self.waiting()

    def who(self) -> Iterator[Line]:
        if not self.record.approvals:
            yield Line(self._say("no_approvals"))
        for approval in self.record.approvals:
            yield Line(self._say("votes_for", title=approval.plan.title, id=approval.id, state=approval.state.value))
            for vote in approval.votes:
                waived = self._say("waived") if vote.waive_evidence else ""
                yield Line(
                    self._say(
                        "vote",
                        identity=vote.identity,
                        verdict=vote.verdict,
                        at=f"{vote.at:%Y-%m-%d %H:%M:%S} UTC",
                        channel=vote.channel,
                        waived=waived,
                    )
                )
            if not approval.votes:
                yield Line(self._say("no_votes", quorum=approval.quorum, until=f"{approval.expires_at:%H:%M:%S} UTC"))
            if approval.outcome:
                yield Line(self._say("outcome", text=approval.outcome))

    def _no_diagnosis(self) -> Iterator[Line]:
        yield Line(self._say("no_diagnosis" if self.record.incident.status.ended else "analysing"))

    def waiting(self) -> list[Line]:
        return [self._waits(item) for item in self.record.approvals if item.state is ApprovalState.PENDING]

    def _waits(self, approval: Approval) -> Line:
        until = f"{approval.expires_at:%H:%M:%S} UTC"
        return Line(self._say("waits", title=approval.plan.title, id=approval.id, until=until))

    def _crash_line(self) -> str:
        assert self.record.diagnosis is not None and self.record.diagnosis.crash is not None
        crash = self.record.diagnosis.crash
        frames = crash.threads[0].frames if crash.threads else []
        at_line = [item for item in frames if crash.crash_line and _place(item) == crash.crash_line]
        own = at_line or [item for item in frames if item.in_app]
        function = own[0].function if own else None
        if crash.crash_line:
            inside = self._say("in_function", function=function) if function else ""
            return self._say("crash_line", line=crash.crash_line, function=inside)
        return self._say("crash_function", function=function) if function else self._say("crash_nowhere")


def _causes(diagnosis: Diagnosis, language: Language, *, brief: bool = False) -> Iterator[Line]:
    """The causes in rank order with their findings; with `brief`, the first alone."""
    if diagnosis.status is DiagnosisStatus.HEALTHY:
        yield Line(say(language, "healthy"))
    elif diagnosis.status is DiagnosisStatus.FAILED:
        yield Line(say(language, "failed"))
    elif not diagnosis.causes:
        yield Line(say(language, "unknown_cause"))
    by_id = {finding.id: finding for finding in diagnosis.findings}
    for rank, cause in enumerate(diagnosis.causes[: 1 if brief else 5], start=1):
        text = {"summary": clean(cause.summary), "confidence": f"{cause.confidence:.0%}", "n": rank}
        yield Line(say(language, "likely" if rank == 1 else "cause", **text), _cited(cause, diagnosis))
        if not brief:
            for finding in (by_id[item] for item in cause.finding_ids[:4] if item in by_id):
                if clean(finding.claim) != text["summary"]:
                    yield Line(say(language, "finding", claim=clean(finding.claim)), tuple(finding.evidence_ids[:3]))
    if brief and len(diagnosis.causes) > 1:
        names = ", ".join(cause.cause_class.value.replace("_", " ") for cause in diagnosis.causes[1:4])
        yield Line(say(language, "others", list=names))
    for key, items in (("ruled_out", diagnosis.ruled_out), ("unseen", diagnosis.unseen)):
        if items and not (brief and key == "ruled_out"):
            yield Line(say(language, key, list="; ".join(clean(item).rstrip(".") for item in items[:5])))


def _cited(cause: Cause, diagnosis: Diagnosis) -> tuple[str, ...]:
    by_id = {finding.id: finding for finding in diagnosis.findings}
    ids = [e for item in cause.finding_ids if item in by_id for e in by_id[item].evidence_ids]
    return tuple(dict.fromkeys(ids))[:4]


def _first_evidence(diagnosis: Diagnosis) -> tuple[str, ...]:
    """Of a crash: what its first cause rests on."""
    return _cited(diagnosis.causes[0], diagnosis) if diagnosis.causes else ()


def _place(frame: Frame) -> str:
    if not frame.file:
        return ""
    return f"{frame.file}:{frame.line}" if frame.line else frame.file
