"""The cards about an incident itself: its diagnosis, and its end when no approval was involved."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from diagnosis.crashes.frames import relevant
from diagnosis.workloads.timeline.onset import began
from incidents.crash_report import CrashReport
from incidents.models import Cause, Diagnosis, DiagnosisStatus, Finding, Hypothesis, Incident
from incidents.plan import Proposal
from tools.feishu.cards import (
    MAX_CARD_BYTES,
    Element,
    bullets,
    button_row,
    card,
    excerpt,
    facts,
    fitted,
    link_button,
    markdown,
    ref_markdown,
    ref_plain,
    rule,
)
from tools.feishu.client import Card
from tools.feishu.markup import inline, plain
from tools.feishu.texts import Language, text

_TEMPLATES = {
    DiagnosisStatus.DIAGNOSED: "red",
    DiagnosisStatus.UNKNOWN: "yellow",
    DiagnosisStatus.HEALTHY: "green",
    DiagnosisStatus.FAILED: "grey",
}
_SEVERITIES = {"critical": "red", "high": "orange", "medium": "yellow"}
_Size = Callable[[int], int]
"""Characters that a piece of text may have, out of those it may have at most."""
_FRAMES = 6
_FINDINGS = 6
_ITEMS = 5
_HYPOTHESES = 3


def diagnosis_card(
    incident: Incident,
    diagnosis: Diagnosis,
    proposals: Sequence[Proposal],
    *,
    language: Language,
    link: str | None = None,
    max_bytes: int = MAX_CARD_BYTES,
) -> Card:
    """What crashed, why, on what evidence, and what people can do."""
    title = text(language, f"title.{diagnosis.status.value}")
    causes = diagnosis.causes
    summary = f"{title}: {ref_plain(incident.target)}"

    def build(share: float) -> Card:
        def size(characters: int) -> int:
            return max(40, int(characters * share))

        elements: list[Element] = [_head(language, incident, diagnosis, size)]
        if diagnosis.crash is not None:
            elements += _stack(language, diagnosis.crash, size)
        elements += _findings(language, diagnosis, size)
        if len(causes) > 1:
            others = [_cause(language, cause, size(200)) for cause in causes[1:4]]
            elements.append(_list(language, "label.other_causes", others))
        elements += _hypotheses(language, diagnosis, size)
        if diagnosis.explanation:
            where = text(language, "cut.where_incident", id=incident.id)
            body = excerpt(language, diagnosis.explanation, size(1500), where)
            elements.append(markdown(f"**{text(language, 'label.explanation')}**\n{body}"))
        for label, lines in (("label.unseen", diagnosis.unseen), ("label.next_steps", diagnosis.next_steps)):
            if lines:
                elements.append(_list(language, label, [inline(line, size(300)) for line in lines[:_ITEMS]]))
        for proposal in proposals[:3]:
            elements += [rule(), _proposal(language, incident, proposal, size)]
        if link:
            elements.append(button_row([link_button(text(language, "button.open"), link)]))
        return card(title, ref_plain(incident.target), _TEMPLATES[diagnosis.status], elements, summary=summary)

    return fitted(build, max_bytes)


def result_card(
    incident: Incident, *, language: Language, link: str | None = None, max_bytes: int = MAX_CARD_BYTES
) -> Card:
    """How an incident ended, where there was no approval to tell it on."""
    title = text(language, "title.result")
    status = text(language, f"incident.{incident.status.value}")

    def build(share: float) -> Card:
        elements = [
            facts(
                language,
                [
                    ("label.target", ref_markdown(incident.target)),
                    ("label.status", status),
                    ("label.outcome", inline(incident.summary or "", max(40, int(1000 * share)))),
                    ("label.incident", inline(incident.id)),
                ],
            )
        ]
        if link:
            elements.append(button_row([link_button(text(language, "button.open"), link)]))
        summary = f"{title}: {ref_plain(incident.target)}"
        return card(title, ref_plain(incident.target), "grey", elements, summary=plain(summary, 150))

    return fitted(build, max_bytes)


def notice_card(
    title: str, content: str, severity: str, *, language: Language, max_bytes: int = MAX_CARD_BYTES
) -> Card:
    """A notice that belongs to no incident; all three texts come from outside."""
    template = _SEVERITIES.get(severity, "blue")
    head = plain(title)

    def build(share: float) -> Card:
        body = excerpt(language, content, max(100, int(8000 * share)), text(language, "cut.where_sender"))
        return card(head, plain(severity, 40), template, [markdown(body)], summary=head)

    return fitted(build, max_bytes)


def _head(language: Language, incident: Incident, diagnosis: Diagnosis, size: _Size) -> Element:
    top = diagnosis.causes[0] if diagnosis.causes else None
    return facts(
        language,
        [
            ("label.target", ref_markdown(incident.target)),
            ("label.event", inline(incident.event, size(300))),
            ("label.cause", _cause(language, top, size(500)) if top else ""),
            ("label.began", inline(began(diagnosis.timeline) or "", size(200))),
            ("label.seen_before", inline(_seen_before(diagnosis), size(200))),
            ("label.runbooks", inline(_runbooks(diagnosis), size(400))),
            ("label.incident", inline(incident.id)),
        ],
    )


def _seen_before(diagnosis: Diagnosis) -> str:
    """What was done the last time, and whether it held, in one line."""
    return next((item.text for item in diagnosis.recalled if item.kind == "incident"), "")


def _runbooks(diagnosis: Diagnosis) -> str:
    """Where the team has written about it; what the runbook itself says it is not for is left out."""
    return "; ".join(
        item.source for item in diagnosis.recalled if item.kind == "runbook" and item.borne_out is not False
    )


def _cause(language: Language, cause: Cause, limit: int) -> str:
    name = text(language, f"cause.{cause.cause_class.value}")
    confidence = f"{text(language, 'label.confidence')} {cause.confidence:.0%}"
    return f"**{name}** ({confidence}), {ref_markdown(cause.object)}: {inline(cause.summary, limit)}"


def _stack(language: Language, crash: CrashReport, size: _Size) -> list[Element]:
    """The crash in short: what, why, how bad, whether it is new, and the frames that say where."""
    lines = [inline(line, size(300)) for line in (crash.crash_info.type, crash.mechanism) if line]
    root, severity, history = crash.root_cause, crash.severity, crash.history
    pairs = (
        ("label.root_cause", f"{root.cause_class} ({', '.join(root.cwe)})" if root and root.cwe else ""),
        ("label.severity", f"{severity.type}, {severity.short_description}" if severity else ""),
        ("label.history", history.sentence if history and history.sentence else ""),
    )
    lines += [f"**{text(language, label)}** {inline(value, size(300))}" for label, value in pairs if value]
    frames = crash.threads[0].frames if crash.threads else []  # the crashing thread comes first
    for frame in (relevant(frames) or frames)[:_FRAMES]:
        place = f" {frame.file}:{frame.line}" if frame.file and frame.line else f" {frame.module or ''}"
        lines.append(inline(f"#{frame.frame} {frame.function or '??'}{place}", size(200)))
    return [markdown("\n".join([f"**{text(language, 'label.stack')}**", *lines]))] if lines else []


def _findings(language: Language, diagnosis: Diagnosis, size: _Size) -> list[Element]:
    if not diagnosis.findings:
        return []
    cited = {finding_id for cause in diagnosis.causes for finding_id in cause.finding_ids}
    ranked = sorted(diagnosis.findings, key=lambda finding: finding.id not in cited)[:_FINDINGS]
    return [_list(language, "label.findings", [_finding(language, finding, size(300)) for finding in ranked])]


def _finding(language: Language, finding: Finding, limit: int) -> str:
    ids = ", ".join(inline(evidence_id, 40) for evidence_id in finding.evidence_ids[:3])
    return f"{inline(finding.claim, limit)} ({text(language, 'label.evidence')} {ids})"


def _hypotheses(language: Language, diagnosis: Diagnosis, size: _Size) -> list[Element]:
    """What the evidence decided of a model's hypotheses, those that it bears first; what stayed open is left out."""
    decided = [
        [item for item in diagnosis.hypotheses if item.verdict == verdict] for verdict in ("confirmed", "refuted")
    ]
    shown = [_hypothesis(language, item, size(200)) for items in decided for item in items][:_HYPOTHESES]
    return [_list(language, "label.hypotheses", shown)] if shown else []


def _hypothesis(language: Language, item: Hypothesis, limit: int) -> str:
    verdict, name = text(language, f"hypothesis.{item.verdict}"), text(language, f"cause.{item.cause_class.value}")
    ids = ", ".join(inline(evidence_id, 40) for evidence_id in item.evidence_ids[:3])
    seen = f" ({text(language, 'label.evidence')} {ids})" if ids else ""
    return f"**{verdict}** {name}, {ref_markdown(item.object)}: {inline(item.because, limit)}{seen}"


def _proposal(language: Language, incident: Incident, proposal: Proposal, size: _Size) -> Element:
    parts = [
        f"**{text(language, 'label.proposal')}** {inline(proposal.title, 200)}",
        inline(proposal.reason, size(400)),
    ]
    parts += [f"- {inline(step, size(200))}" for step in proposal.steps[:_ITEMS]]
    if proposal.change:
        where = text(language, "cut.where_incident", id=incident.id)
        parts.append(excerpt(language, proposal.change, size(2000), where))
    return markdown("\n".join(parts))


def _list(language: Language, label: str, items: Sequence[str]) -> Element:
    return markdown(f"**{text(language, label)}**\n{bullets(items)}")
