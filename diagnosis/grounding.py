"""The checker between a model and a diagnosis: what evidence does not bear is dropped, whatever it says.

A claim stays only if all of this holds:

- It cites at least one piece of evidence, every cited id exists, and every quote stands literally (white space aside)
  in the whole text of that evidence, as the model was shown it.
- Every number in it (exit codes, ports, addresses, sizes, versions) stands in the evidence it cites. Two equivalences
  are known: an exit code above 128 is a signal plus 128, and an address may be written in hexadecimal or decimal.
  Numbers in words ("two containers") are prose.
- With a core dump: every file, line and function that it names is in the core's stack. Without: in cited evidence.
- Every other name of a shape that prose does not have (snake_case, camelCase, words with digits) was observed in some
  evidence; every object name was observed outside logs; every URL stands in cited evidence.
- It does not speak about approving: that is not a model's to do.

A cause needs a class of the closed list and an object that was observed; it ranks below everything the rules found and
carries no facts, so no action can be derived from it. A next step holds no command line and no URL.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from diagnosis.answer import CandidateCause, Citation, Claim, ModelAnswer
from diagnosis.known_names import Stack, holds, number_forms
from diagnosis.mentions import mentions
from diagnosis.merge import CODE_FAULTS
from incidents.crash_report import CrashReport
from incidents.models import (
    Cause,
    CauseClass,
    Diagnosis,
    DiagnosisStatus,
    Evidence,
    EvidenceKind,
    Finding,
    ObjectRef,
    Severity,
    content_id,
)

CONFIDENCE_CAP = 0.45
"""A model's cause is never more certain than this, and always less than any cause of the rules. It lies below what an
action needs."""
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
    """What stayed. `kept` of `total` claims is the closure rate of the answer."""

    explanation: str | None = None
    findings: list[Finding] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    next_steps: list[str] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    kept: int = 0
    total: int = 0
    cited: frozenset[str] = frozenset()
    """Ids of all evidence that a kept claim cites."""

    @property
    def closure_rate(self) -> float | None:
        """Share of claims that evidence bears; None when nothing was claimed."""
        return self.kept / self.total if self.total else None


class Checker:
    """Knows everything that was observed, and finds the first fault of a claim.

    `texts` are whole texts by evidence id, as the model was shown them; where one is missing the excerpt is taken.
    `objects` are those that the rules named or a tool read.
    """

    def __init__(
        self,
        evidence: Sequence[Evidence],
        *,
        texts: Mapping[str, str],
        objects: Collection[ObjectRef],
        crash: CrashReport | None,
    ) -> None:
        self._texts = {item.id: _squeeze(texts.get(item.id, item.excerpt)) for item in evidence}
        self._objects = {(item.kind.lower(), item.namespace, item.name) for item in objects}
        self._containers = {item.container for item in objects if item.container}
        names = {item.name for item in objects} | {item.namespace for item in objects if item.namespace}
        self._names = names | self._containers | {item.kind for item in objects}
        self._all = "\n".join([*self._texts.values(), *(_squeeze(item.source) for item in evidence)])
        logs = {EvidenceKind.LOG}
        self._all_but_logs = "\n".join(
            f"{self._texts[item.id]}\n{_squeeze(item.source)}" for item in evidence if item.kind not in logs
        )
        self._stack = Stack(crash) if crash is not None else None

    def fault(self, text: str, citations: Sequence[Citation]) -> str | None:
        """Why `text` cannot stay, in a few words; None when it can."""
        if not text.strip() or len(text) > _MAX_CLAIM_CHARS:
            return "empty or too long"
        if _APPROVING.search(text):
            return "speaks about approving"
        return self._citation_fault(citations) or self._mention_fault(text, citations)

    def object(self, kind: str, namespace: str | None, name: str, container: str | None) -> bool:
        """Whether this object, and this container in it, was observed."""
        if (kind.lower(), namespace, name) not in self._objects:
            return False
        return container is None or container in self._containers or holds(self._all_but_logs, container)

    def _citation_fault(self, citations: Sequence[Citation]) -> str | None:
        if not citations:
            return "cites nothing"
        for citation in citations:
            whole = self._texts.get(citation.evidence_id)
            if whole is None:
                return f"cites {citation.evidence_id[:40]!r}, which does not exist"
            quote = _squeeze(citation.quote)
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


def ground(answer: ModelAnswer, checker: Checker, diagnosis: Diagnosis, *, model: str) -> Grounded:
    """Keep what `checker` finds no fault with. `diagnosis` is the rules'; `model` names the source of findings."""
    dropped: list[Dropped] = []

    def keep(part: str, claims: Sequence[Claim]) -> list[Claim]:
        kept = []
        for claim in claims:
            fault = checker.fault(claim.text, claim.citations)
            if fault is None and part == "next step":
                fault = "holds a command or an address" if _COMMAND.search(claim.text) or "://" in claim.text else None
            if fault is None:
                kept.append(claim)
            else:
                dropped.append(Dropped(part, claim.text[:200], fault))
        return kept

    explanation = keep("explanation", answer.explanation)
    findings = [_finding(claim, model, Severity.INFO) for claim in keep("finding", answer.findings)]
    steps = keep("next step", answer.next_steps)
    causes: list[Cause] = []
    kept_causes = 0
    taken = {(cause.cause_class, cause.object) for cause in diagnosis.causes}
    ceiling = min([0.9 * cause.confidence for cause in diagnosis.causes] + [CONFIDENCE_CAP])
    for candidate in answer.causes:
        fault = _cause_fault(candidate, checker, diagnosis)
        if fault is not None:
            dropped.append(Dropped("cause", f"{candidate.cause_class}: {candidate.summary}"[:200], fault))
            continue
        kept_causes += 1
        finding = _finding(Claim(text=candidate.summary, citations=candidate.citations), model, Severity.WARNING)
        findings.append(finding)
        cause = _cause(candidate, finding, ceiling)
        if (cause.cause_class, cause.object) not in taken:
            taken.add((cause.cause_class, cause.object))
            causes.append(cause)
    kept = len(explanation) + len(steps) + kept_causes + (len(findings) - kept_causes)
    return Grounded(
        explanation="\n\n".join(_squeeze(claim.text) for claim in explanation) or None,
        findings=list({item.id: item for item in findings}.values()),
        causes=sorted(causes, key=lambda cause: -cause.confidence),
        next_steps=[_squeeze(claim.text) for claim in steps],
        dropped=dropped,
        kept=kept,
        total=kept + len(dropped),
        cited=frozenset(
            [citation.evidence_id for claim in [*explanation, *steps] for citation in claim.citations]
            + [evidence_id for finding in findings for evidence_id in finding.evidence_ids]
        ),
    )


def _cause_fault(candidate: CandidateCause, checker: Checker, diagnosis: Diagnosis) -> str | None:
    if candidate.cause_class not in {item.value for item in CauseClass if item is not CauseClass.UNKNOWN}:
        return "not a class of the closed list"
    if diagnosis.status is DiagnosisStatus.HEALTHY:
        return "the rules found the object healthy"
    # what counts as a crash of the program decides which evidence must be kept: only rules say that
    own_fault = any(cause.cause_class in CODE_FAULTS for cause in diagnosis.causes)
    if CauseClass(candidate.cause_class) in CODE_FAULTS and not (own_fault and diagnosis.crash is not None):
        return "the rules saw no such crash in a core dump"
    if not checker.object(candidate.kind, candidate.namespace, candidate.name, candidate.container):
        return f"the object {candidate.kind} {candidate.name} was not observed"[:200]
    return checker.fault(candidate.summary, candidate.citations)


def _cause(candidate: CandidateCause, finding: Finding, ceiling: float) -> Cause:
    sure = candidate.confidence if candidate.confidence > 0 else 0.0  # also what is not a number
    return Cause.model_validate(
        {
            "class": candidate.cause_class,
            "object": ObjectRef(
                kind=candidate.kind,
                namespace=candidate.namespace,
                name=candidate.name,
                container=candidate.container,
            ),
            "confidence": min(sure, ceiling),
            "summary": _squeeze(candidate.summary),
            "finding_ids": [finding.id],
        }
    )


def _finding(claim: Claim, model: str, severity: Severity) -> Finding:
    ids = list(dict.fromkeys(citation.evidence_id for citation in claim.citations))
    text = _squeeze(claim.text)
    return Finding(
        id=content_id("fnd", "model", model, text, *ids),
        rule=f"model:{model}",
        claim=text,
        severity=severity,
        evidence_ids=ids,
        source="model",
    )


def _squeeze(text: str) -> str:
    return " ".join(text.split())
