"""The card of one approval, for every state it can be in: the question, the work, the outcome.

A button's value holds no authority: it names the approval, the digest that the card shows and the verdict. Who pressed
is what Feishu signs, and whether they may is decided by the gate.
"""

from __future__ import annotations

from typing import Any

from incidents.models import Incident, IncidentStatus
from incidents.plan import Approval, ApprovalState, EvidenceNeed, HelmWrite, Plan, Vote, Write
from tools.feishu.cards import (
    MAX_CARD_BYTES,
    Element,
    bullets,
    button_row,
    callback_button,
    card,
    excerpt,
    facts,
    fitted,
    link_button,
    markdown,
    ref_plain,
    rule,
)
from tools.feishu.client import Card
from tools.feishu.markup import inline, plain
from tools.feishu.texts import Language, text

DIGEST_SHOWN = 16
"""Hexadecimal digits of the plan's digest on the card: enough to compare by eye with `paramedic approvals`."""

_IN_PROGRESS = {ApprovalState.APPROVED, ApprovalState.CLAIMED, ApprovalState.EXECUTING, ApprovalState.VERIFYING}
_TEMPLATES = {
    ApprovalState.DONE: "green",
    ApprovalState.UNDONE: "yellow",
    ApprovalState.FAILED: "red",
}


def approval_card(
    approval: Approval,
    *,
    language: Language,
    incident: Incident | None = None,
    buttons: bool = True,
    link: str | None = None,
    max_bytes: int = MAX_CARD_BYTES,
) -> Card:
    """The card that fits the approval's state. `buttons`: presses on this card reach us (a request only)."""
    if approval.state is ApprovalState.PENDING:
        return request_card(approval, language=language, buttons=buttons, link=link, max_bytes=max_bytes)
    if approval.state in _IN_PROGRESS:
        return progress_card(approval, language=language, link=link, max_bytes=max_bytes)
    return outcome_card(approval, language=language, incident=incident, link=link, max_bytes=max_bytes)


def request_card(
    approval: Approval,
    *,
    language: Language,
    buttons: bool = True,
    link: str | None = None,
    max_bytes: int = MAX_CARD_BYTES,
) -> Card:
    """The question: exactly what would be written, why, how far it reaches, how it is undone, until when it stands."""
    plan = approval.plan
    title = text(language, "title.request")
    where = text(language, "cut.where", id=approval.id)

    def build(share: float) -> Card:
        def size(characters: int) -> int:
            return max(60, int(characters * share))

        elements: list[Element] = [
            facts(
                language,
                [
                    ("label.action", inline(plan.title, size(300))),
                    ("label.why", inline(plan.reason, size(800))),
                    ("label.writes", _writes(plan.writes, size(300))),
                    ("label.risk", text(language, f"risk.{plan.risk.value}")),
                    ("label.blast_radius", _reach(language, plan, size(300))),
                    ("label.undo", _undo(language, plan)),
                    ("label.core", _core(language, plan)),
                    ("label.expires", f"{approval.expires_at:%Y-%m-%d %H:%M:%S} UTC"),
                    ("label.digest", approval.digest[:DIGEST_SHOWN]),
                    ("label.quorum", _quorum(language, approval)),
                    ("label.requested_by", inline(approval.requested_by)),
                    ("label.incident", inline(approval.incident_id)),
                ],
            ),
            *_votes(language, approval),
            rule(),
            markdown(f"**{text(language, 'label.diff')}**\n{excerpt(language, plan.diff, size(6000), where)}"),
            rule(),
        ]
        row = _buttons(language, approval) if buttons else []
        if not buttons:
            elements.append(markdown(text(language, "decide.elsewhere", id=approval.id)))
        if link:
            row.append(link_button(text(language, "button.open"), link))
        if row:
            elements.append(button_row(row))
        summary = f"{title}: {plain(plan.title)}"
        return card(title, ref_plain(plan.action.target), "orange", elements, summary=summary)

    return fitted(build, max_bytes)


def progress_card(
    approval: Approval, *, language: Language, link: str | None = None, max_bytes: int = MAX_CARD_BYTES
) -> Card:
    """Approved and under way: no buttons any more."""
    return _closed(approval, text(language, "title.progress"), "blue", language, None, link, max_bytes)


def outcome_card(
    approval: Approval,
    *,
    language: Language,
    incident: Incident | None = None,
    link: str | None = None,
    max_bytes: int = MAX_CARD_BYTES,
) -> Card:
    """How it ended: executed, undone, refused, expired, replaced."""
    title = text(language, f"title.outcome.{approval.state.value}")
    template = _TEMPLATES.get(approval.state, "grey")
    if incident is not None and incident.status is IncidentStatus.ESCALATED:
        title, template = text(language, "title.outcome.failed"), "red"
    return _closed(approval, title, template, language, incident, link, max_bytes)


def _closed(
    approval: Approval,
    title: str,
    template: str,
    language: Language,
    incident: Incident | None,
    link: str | None,
    max_bytes: int,
) -> Card:
    plan = approval.plan
    where = text(language, "cut.where", id=approval.id)
    status = text(language, f"state.{approval.state.value}")
    if incident is not None and incident.status.ended:
        status += f" ({text(language, f'incident.{incident.status.value}')})"

    def build(share: float) -> Card:
        def size(characters: int) -> int:
            return max(60, int(characters * share))

        elements: list[Element] = [
            facts(
                language,
                [
                    ("label.action", inline(plan.title, size(300))),
                    ("label.status", status),
                    ("label.outcome", inline(approval.outcome or "", size(1500))),
                    ("label.writes", _writes(plan.writes, size(300))),
                    ("label.digest", approval.digest[:DIGEST_SHOWN]),
                    ("label.incident", inline(approval.incident_id)),
                ],
            ),
            *_votes(language, approval),
            markdown(f"**{text(language, 'label.diff')}**\n{excerpt(language, plan.diff, size(3000), where)}"),
        ]
        if link:
            elements.append(button_row([link_button(text(language, "button.open"), link)]))
        return card(title, ref_plain(plan.action.target), template, elements, summary=f"{title}: {plain(plan.title)}")

    return fitted(build, max_bytes)


def _buttons(language: Language, approval: Approval) -> list[Element]:
    digest = approval.digest[:DIGEST_SHOWN]
    row = [
        callback_button(
            "approve",
            text(language, "button.approve"),
            "primary",
            _value(approval, "approve"),
            (text(language, "confirm.approve.title"), text(language, "confirm.approve.text", digest=digest)),
        )
    ]
    if _core_missing(approval.plan):
        row.append(
            callback_button(
                "approve_waive",
                text(language, "button.waive"),
                "danger",
                _value(approval, "approve", waive=True),
                (text(language, "confirm.waive.title"), text(language, "confirm.waive.text", digest=digest)),
            )
        )
    row.append(callback_button("reject", text(language, "button.reject"), "danger", _value(approval, "reject")))
    return row


def _value(approval: Approval, verdict: str, *, waive: bool = False) -> dict[str, Any]:
    return {"v": 1, "approval_id": approval.id, "verdict": verdict, "digest": approval.digest, "waive": waive}


def _core_missing(plan: Plan) -> bool:
    return plan.evidence_need is EvidenceNeed.CORE and plan.evidence_sha256 is None


def _core(language: Language, plan: Plan) -> str:
    if plan.evidence_need is EvidenceNeed.NONE:
        return text(language, "core.none")
    if plan.evidence_sha256 is None:
        return text(language, "core.missing")
    return text(language, "core.captured", sha=inline(plan.evidence_sha256[:DIGEST_SHOWN]))


def _undo(language: Language, plan: Plan) -> str:
    if not plan.reversible or not plan.inverse:
        return text(language, "undo.impossible")
    return f"{text(language, 'undo.possible', count=len(plan.inverse))}: {_writes(plan.inverse, 300)}"


def _reach(language: Language, plan: Plan, limit: int) -> str:
    return f"{inline(plan.blast_radius, limit)} ({text(language, 'pods.affected', count=plan.affected_pods)})"


def _quorum(language: Language, approval: Approval) -> str:
    given = sum(vote.verdict == "approve" for vote in approval.votes)
    return text(language, "quorum.state", given=given, needed=approval.quorum)


def _votes(language: Language, approval: Approval) -> list[Element]:
    if not approval.votes:
        return []
    lines = [_vote(language, vote) for vote in approval.votes[:10]]
    return [markdown(f"**{text(language, 'label.votes')}**\n{bullets(lines)}")]


def _vote(language: Language, vote: Vote) -> str:
    verdict = text(language, f"vote.{vote.verdict}")
    if vote.waive_evidence:
        verdict += f", {text(language, 'vote.waived')}"
    reason = f": {inline(vote.reason)}" if vote.reason else ""
    return f"{inline(vote.identity)} {verdict}, {vote.at:%Y-%m-%d %H:%M:%S} UTC, {inline(vote.channel, 20)}{reason}"


def _writes(writes: list[Write], limit: int) -> str:
    return inline("; ".join(_write(write) for write in writes), limit)


def _write(write: Write) -> str:
    if isinstance(write, HelmWrite):
        target = f" to revision {write.to_revision}" if write.to_revision is not None else ""
        return f"helm {write.verb} {write.namespace}/{write.release}{target}"
    where = f"{write.namespace}/" if write.namespace else ""
    return f"{write.type} {write.kind} {where}{write.name}"
