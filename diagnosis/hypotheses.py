"""Hypotheses of a model: which may be tested, and what a verdict makes of one.

A hypothesis needs a class of the closed list and an object that was observed. A verdict stays only if the checker finds
no fault with its statement and one of the cited pieces names the object: else it is undecided, whatever the model says.
A confirmed one becomes a candidate cause: below every cause of the rules, never surer than `CONFIDENCE_CAP`, and
without facts, so that no action can be derived from it. A refuted one is told as ruled out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from diagnosis.answer import Claim, Proposed, Verdict
from diagnosis.grounding import Checker, Dropped, finding_of, orders, speaks_of_approving, squeeze
from diagnosis.merge import CODE_FAULTS
from incidents.models import Cause, CauseClass, Diagnosis, DiagnosisStatus, Finding, Hypothesis, ObjectRef, Severity

CONFIDENCE_CAP = 0.45
"""A model's cause is never more certain than this, and always less than any cause of the rules. It lies below what an
action needs."""
MAX_HYPOTHESES = 4
_EXPECTATION_CHARS = 240
_NOT_BORNE = "the evidence does not bear the model's verdict"


@dataclass(frozen=True)
class Candidate:
    """A hypothesis that may be tested, and the tool call that the model thinks would tell (unchecked)."""

    hypothesis: Hypothesis
    tool: str
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        """Our own words: the class and the object."""
        return f"{self.hypothesis.cause_class.value} in {self.hypothesis.object}"


@dataclass(frozen=True)
class Admitted:
    """What may be tested, at most `MAX_HYPOTHESES`, and what was refused because it names what there is not."""

    candidates: list[Candidate] = field(default_factory=list)
    refused: list[Dropped] = field(default_factory=list)


@dataclass(frozen=True)
class Judged:
    """A tested hypothesis. `fault` says why a verdict was not borne; `stated` whether there was one at all."""

    hypothesis: Hypothesis
    confidence: float = 0.0
    claim: Claim | None = None
    fault: str | None = None
    stated: bool = False


def admit(
    proposed: Sequence[Proposed], objects: Sequence[ObjectRef], checker: Checker, diagnosis: Diagnosis
) -> Admitted:
    """Sort proposals. What the rules named already, or what is there twice, is left out and is no fault."""
    taken = {(cause.cause_class, _bare(cause.object)) for cause in diagnosis.causes}
    candidates: list[Candidate] = []
    refused: list[Dropped] = []
    for item in proposed:
        fault, ref = _refusal(item, objects, checker, diagnosis)
        if ref is None or fault is not None:
            refused.append(Dropped("hypothesis", f"{item.cause_class}: {item.object}"[:200], fault or "not observed"))
            continue
        cause_class = CauseClass(item.cause_class)
        if (cause_class, _bare(ref)) in taken or len(candidates) >= MAX_HYPOTHESES:
            continue
        taken.add((cause_class, _bare(ref)))
        hypothesis = Hypothesis(
            cause_class=cause_class,
            object=ref,
            confirms=_expectation(item.confirms, checker),
            refutes=_expectation(item.refutes, checker),
            verdict="not_tested",
            because="it was not tested",
        )
        candidates.append(Candidate(hypothesis, item.tool, item.arguments))
    return Admitted(candidates, refused)


def find_object(said: str, objects: Sequence[ObjectRef]) -> ObjectRef | None:
    """The observed object that a model means: `Kind namespace/name`, or less where only one can be meant."""
    kind, _, path = squeeze(said).replace("/", " ", 1).partition(" ")
    words = path.replace("/", " ").split()
    bare = list(dict.fromkeys(_bare(ref) for ref in objects))
    if not words or len(words) > 2:
        return None
    namespace = words[0] if len(words) == 2 else None
    found = [
        ref
        for ref in bare
        if ref.kind.lower() == kind.lower() and ref.name == words[-1] and namespace in (None, ref.namespace)
    ]
    return found[0] if len(found) == 1 else None


def judge(candidate: Candidate, verdict: Verdict, checker: Checker) -> Judged:
    """The verdict as far as the evidence bears it."""
    tested = candidate.hypothesis
    if verdict.verdict not in ("confirmed", "refuted"):
        return Judged(_open(tested, "undecided", "what was read does not tell"))
    claim = Claim(text=verdict.statement, citations=verdict.citations)
    fault = checker.fault(claim.text, claim.citations)
    if fault is None and tested.object.kind != "Process" and not checker.shows(claim.citations, tested.object.name):
        fault = "nothing that it cites names the object"
    if fault is None and not checker.observed(claim.citations):
        fault = "cites no observation"
    if fault is not None:
        # the fault quotes the model: it is for the log, not for people who read the diagnosis
        return Judged(_open(tested, "undecided", _NOT_BORNE), fault=fault, stated=True)
    ids = list(dict.fromkeys(item.evidence_id for item in claim.citations))
    hypothesis = tested.model_copy(
        update={"verdict": verdict.verdict, "because": squeeze(claim.text), "evidence_ids": ids}
    )
    return Judged(hypothesis, verdict.confidence, claim, stated=True)


def untested(candidate: Candidate, why: str) -> Judged:
    return Judged(_open(candidate.hypothesis, "not_tested", why))


def causes_of(judged: Sequence[Judged], diagnosis: Diagnosis, *, model: str) -> tuple[list[Cause], list[Finding]]:
    """Candidate causes of the confirmed ones, likeliest first, with a finding each."""
    ceiling = min([0.9 * cause.confidence for cause in diagnosis.causes] + [CONFIDENCE_CAP])
    causes, findings = [], []
    for item in judged:
        if item.hypothesis.verdict != "confirmed" or item.claim is None:
            continue
        about = item.hypothesis.object
        finding = finding_of(item.claim, model, Severity.WARNING).model_copy(update={"object": about})
        sure = item.confidence if item.confidence > 0 else 0.0  # also what is not a number
        findings.append(finding)
        causes.append(
            Cause(
                cause_class=item.hypothesis.cause_class,
                object=about,
                confidence=min(sure, ceiling),
                summary=item.hypothesis.because,
                finding_ids=[finding.id],
            )
        )
    return sorted(causes, key=lambda cause: -cause.confidence), findings


def ruled_out_by(judged: Sequence[Judged]) -> list[str]:
    """A sentence for each refuted one."""
    return [
        f"{item.hypothesis.cause_class.value} in {item.hypothesis.object}, tested by the model: "
        f"{item.hypothesis.because}"
        for item in judged
        if item.hypothesis.verdict == "refuted"
    ]


def _refusal(
    item: Proposed, objects: Sequence[ObjectRef], checker: Checker, diagnosis: Diagnosis
) -> tuple[str | None, ObjectRef | None]:
    """Why a proposal may not be tested, and the object that it is about."""
    if item.cause_class not in {known.value for known in CauseClass if known is not CauseClass.UNKNOWN}:
        return "not a class of the closed list", None
    if diagnosis.status is DiagnosisStatus.HEALTHY:
        return "the rules found the object healthy", None
    # what counts as a crash of the program decides which evidence must be kept: only rules say that
    own_fault = any(cause.cause_class in CODE_FAULTS for cause in diagnosis.causes)
    if CauseClass(item.cause_class) in CODE_FAULTS and not (own_fault and diagnosis.crash is not None):
        return "the rules saw no such crash in a core dump", None
    ref = find_object(item.object, objects)
    if ref is None:
        return "the object was not observed", None
    container = item.container or None
    if not checker.object(ref.kind, ref.namespace, ref.name, container):
        return "the container was not observed", None
    return None, ref.model_copy(update={"container": container})


def _expectation(text: str, checker: Checker) -> str:
    """The model's words about what it expects, or nothing: no evidence can bear them, and a person will read them."""
    text = squeeze(text)[:_EXPECTATION_CHARS]
    return "" if orders(text) or speaks_of_approving(text) or not checker.seen(text) else text


def _open(hypothesis: Hypothesis, verdict: Literal["undecided", "not_tested"], why: str) -> Hypothesis:
    return hypothesis.model_copy(update={"verdict": verdict, "because": why})


def _bare(ref: ObjectRef) -> ObjectRef:
    return ref.model_copy(update={"container": None})
