"""The checker between a model and a diagnosis: what evidence does not bear is dropped, whatever it says.

A claim stays only if all of this holds:

- It cites at least one piece of evidence, every cited id exists, and every quote stands literally (white space aside)
  in the whole text of that evidence, as the model was shown it.
- Every number in it (exit codes, ports, addresses, sizes, versions) stands in the evidence it cites. Two equivalences
  are known: an exit code above 128 is a signal plus 128, and an address may be written in hexadecimal or decimal.
  Numbers in words ("two containers") are prose.
- With a core dump: every file, line and function that it names is in the core's stack. Without: in cited evidence.
- Every other name of a shape that prose does not have (snake_case, camelCase, words with digits) was observed in some
  evidence; every object name stands in cited evidence, outside logs and web pages, or is what the case is about; every
  URL stands in cited evidence.
- It does not speak about approving: that is not a model's to do.

A finding cites at least one observation, not only runbooks or web pages. A next step holds no command line and no URL.
What makes a cause out of a claim is in `diagnosis.hypotheses`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from diagnosis.answer import Citation, Claim, ModelAnswer
from diagnosis.known_names import Stack, holds, number_forms
from diagnosis.mentions import mentions
from incidents.crash_report import CrashReport
from incidents.models import Evidence, EvidenceKind, Finding, ObjectRef, Severity, content_id

_TOLD = frozenset({EvidenceKind.WEB, EvidenceKind.RUNBOOK})
"""Kinds of evidence that speak in general: no observations of this case."""
_PAST_INCIDENT = "incident inc_"
"""How the sources of recalled incidents begin."""
_ANYBODYS = _TOLD | {EvidenceKind.LOG}
"""Kinds whose text may name whom it likes."""
_MAX_CLAIM_CHARS = 1200
_MIN_QUOTE_CHARS = 4
_APPROVING = re.compile(r"\b(?:pre-?)?approv|\bwaive|\bdigest\b|批准|审批|同意执行", re.IGNORECASE)
_COMMAND = re.compile(
    r"[`$|;&<>]|\b(?:kubectl|helm|curl|wget|sudo|docker|podman|bash|chmod|rm|apt|apt-get|pip|npm|ssh|nc|eval)\s",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Dropped:
    """A claim that did not stay, and why."""

    part: str
    text: str
    reason: str


@dataclass(frozen=True)
class Grounded:
    """What stayed."""

    explanation: str | None = None
    findings: list[Finding] = field(default_factory=list)
    next_steps: list[str] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    kept: int = 0
    cited: frozenset[str] = frozenset()
    """Ids of all evidence that a kept claim cites."""


class Checker:
    """Knows everything that was observed, and finds the first fault of a claim.

    `texts` are whole texts by evidence id, as the model was shown them; where one is missing the excerpt is taken.
    `objects` are all that were observed; `subjects` those that the case is about (all of them where it is not given):
    any claim may name these, and others only where the evidence that it cites does, outside logs. Else a log could
    accuse whom it likes.
    """

    def __init__(
        self,
        evidence: Sequence[Evidence],
        *,
        texts: Mapping[str, str],
        objects: Collection[ObjectRef],
        crash: CrashReport | None,
        subjects: Collection[ObjectRef] | None = None,
    ) -> None:
        self._texts = {item.id: squeeze(texts.get(item.id, item.excerpt)) for item in evidence}
        self._objects = {(item.kind.lower(), item.namespace, item.name) for item in objects}
        self._containers = {item.container for item in objects if item.container}
        names = {item.name for item in objects} | {item.namespace for item in objects if item.namespace}
        about = objects if subjects is None else subjects
        self._subjects = {part for item in about for part in (item.name, item.namespace, item.container) if part}
        self._names = names | self._containers | {item.kind for item in objects}
        self._all = "\n".join([*self._texts.values(), *(squeeze(item.source) for item in evidence)])
        self._places = {
            item.id: squeeze(item.source) + ("" if item.kind in _ANYBODYS else f"\n{self._texts[item.id]}")
            for item in evidence
            if not _is_told(item)
        }
        own = (item.id for item in evidence if item.id in self._places and item.kind not in _ANYBODYS)
        self._all_but_logs = "\n".join(self._places[item_id] for item_id in own)
        self._stack = Stack(crash) if crash is not None else None

    def fault(self, text: str, citations: Sequence[Citation]) -> str | None:
        """Why `text` cannot stay, in a few words; None when it can."""
        if not text.strip() or len(text) > _MAX_CLAIM_CHARS:
            return "empty or too long"
        if speaks_of_approving(text):
            return "speaks about approving"
        return self._citation_fault(citations) or self._mention_fault(text, citations)

    def object(self, kind: str, namespace: str | None, name: str, container: str | None) -> bool:
        """Whether this object, and this container in it, was observed."""
        if (kind.lower(), namespace, name) not in self._objects:
            return False
        return container is None or container in self._containers or holds(self._all_but_logs, container)

    def observed(self, citations: Sequence[Citation]) -> bool:
        """Whether one of the cited pieces is an observation of this case."""
        return any(item.evidence_id in self._places for item in citations)

    def shows(self, citations: Sequence[Citation], name: str) -> bool:
        """Whether one of the cited pieces names an object of this name, or was read at it. What a log or a page says is
        no proof: anybody writes there."""
        return any(holds(self._places.get(item.evidence_id, ""), name) for item in citations)

    def seen(self, text: str) -> bool:
        """Whether everything that a text names, citations or not, was observed outside logs. Numbers are free."""
        named = mentions(text)
        names = named.objects | named.identifiers | named.functions | named.files
        return not named.urls and all(name in self._names or holds(self._all_but_logs, name) for name in names)

    def _citation_fault(self, citations: Sequence[Citation]) -> str | None:
        if not citations:
            return "cites nothing"
        for citation in citations:
            whole = self._texts.get(citation.evidence_id)
            if whole is None:
                return f"cites {citation.evidence_id[:40]!r}, which does not exist"
            quote = squeeze(citation.quote)
            if len(quote) < _MIN_QUOTE_CHARS:
                return "its quote is too short to prove anything"
            if quote not in whole:
                return f"its quote is not in {citation.evidence_id}"
        return None

    def _mention_fault(self, text: str, citations: Sequence[Citation]) -> str | None:
        cited = "\n".join(self._texts[item.evidence_id] for item in citations)
        named = mentions(text)
        for url in named.urls:
            if url not in cited:
                return f"the address {url[:80]!r} is not in the evidence it cites"
        for number in named.numbers:
            if not any(holds(cited, form) for form in number_forms(number)):
                return f"the number {number} is not in the evidence it cites"
        for name in named.objects:
            if name not in self._names and not holds(self._all_but_logs, name):
                return f"the object {name!r} was not observed"
            if name not in self._subjects and not self.shows(citations, name):
                return f"the object {name!r} is not in the evidence it cites"
        code = self._stack.fault(named.file_lines, named.files, named.functions, named.places) if self._stack else None
        if self._stack is None:
            for file, line in named.file_lines:
                if not re.search(rf"{re.escape(file)}\W{{1,4}}(?:line )?{line}\b", cited):
                    return f"{file}:{line} is not in the evidence it cites"
            for name in named.functions | named.files:
                if not holds(cited, name):
                    return f"{name!r} is not in the evidence it cites"
        if code:
            return code
        for name in named.identifiers:
            known = name in self._names or (self._stack is not None and self._stack.names(name))
            if not known and not holds(self._all, name):
                return f"{name[:80]!r} was not observed"
        return None


def ground(answer: ModelAnswer, checker: Checker, *, model: str) -> Grounded:
    """Keep what `checker` finds no fault with; `model` names the source of findings."""
    dropped: list[Dropped] = []

    def keep(part: str, claims: Sequence[Claim]) -> list[Claim]:
        kept = []
        for claim in claims:
            fault = checker.fault(claim.text, claim.citations)
            if fault is None and part == "next step" and orders(claim.text):
                fault = "holds a command or an address"
            if fault is None and part == "finding" and not checker.observed(claim.citations):
                fault = "cites no observation"
            if fault is None:
                kept.append(claim)
            else:
                dropped.append(Dropped(part, claim.text[:200], fault))
        return kept

    explanation = keep("explanation", answer.explanation)
    observed = keep("finding", answer.findings)
    steps = keep("next step", answer.next_steps)
    findings = [finding_of(claim, model, Severity.INFO) for claim in observed]
    kept = [*explanation, *observed, *steps]
    return Grounded(
        explanation="\n\n".join(squeeze(claim.text) for claim in explanation) or None,
        findings=list({item.id: item for item in findings}.values()),
        next_steps=[squeeze(claim.text) for claim in steps],
        dropped=dropped,
        kept=len(kept),
        cited=frozenset(citation.evidence_id for claim in kept for citation in claim.citations),
    )


def orders(text: str) -> bool:
    """Whether a text holds a command line or an address to open: what a person might follow without thinking."""
    return "://" in text or _COMMAND.search(text) is not None


def _is_told(item: Evidence) -> bool:
    """Whether it is no observation of this case: general knowledge, or the record of an earlier incident."""
    return item.kind in _TOLD or (item.kind is EvidenceKind.HISTORY and item.source.startswith(_PAST_INCIDENT))


def speaks_of_approving(text: str) -> bool:
    return _APPROVING.search(text) is not None


def finding_of(claim: Claim, model: str, severity: Severity) -> Finding:
    """A checked claim as a finding of the model."""
    ids = list(dict.fromkeys(citation.evidence_id for citation in claim.citations))
    text = squeeze(claim.text)
    return Finding(
        id=content_id("fnd", "model", model, text, *ids),
        rule=f"model:{model}",
        claim=text,
        severity=severity,
        evidence_ids=ids,
        source="model",
    )


def squeeze(text: str) -> str:
    """With single spaces: how quotes are compared."""
    return " ".join(text.split())
