"""The contract of an analyzer: one file, one group of causes.

An analyzer is a module with `NAME`, `READS` (the kinds that it needs; those nobody read are named as unseen),
`RULED_OUT` (the sentence for when it looked and found nothing) and `find(scope)`, which yields what it found. It is
registered in `diagnosis.workloads.analyzers`. `CAUSES` documents each class that it can name (a `Documented` for each).
It raises nothing on malformed objects, keeps no state, and cites evidence for every claim.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from diagnosis.workloads.scope import Scope
from incidents.models import CauseClass, Evidence, Fact, Finding, ObjectRef, Severity


@dataclass(frozen=True)
class Claim:
    """One sentence and what it rests on. Text in double angle marks is quoted literally from the evidence."""

    text: str
    evidence: list[Evidence]
    severity: Severity = Severity.ERROR

    def finding(self, rule: str, about: ObjectRef) -> Finding:
        return Finding.of(rule, self.text, self.evidence, severity=self.severity, object=about)


@dataclass(frozen=True)
class Found:
    """One cause as one analyzer sees it in one place; the same cause in many pods is merged afterwards.

    `confidence` is 0 to 1: 0.9 and above where the cluster itself names the cause, 0.7 where a rule joins several
    observations, 0.5 where something else could explain them too. `place` is the pod it was seen in. `subject` tells
    apart several causes of one class in one container (the missing object's name). `leads_to` names workloads to look
    at because this one depends on them; `explains` names other objects whose trouble is only this one's consequence
    (the callers of a broken Service). `next_steps` are plain sentences for a person.
    """

    cause_class: CauseClass
    object: ObjectRef
    confidence: float
    summary: str
    claims: list[Claim]
    facts: dict[str, Fact] = field(default_factory=dict)
    place: str | None = None
    subject: str = ""
    leads_to: list[ObjectRef] = field(default_factory=list)
    explains: list[ObjectRef] = field(default_factory=list)
    next_steps: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Documented:
    """A cause's entry in docs/causes.md, in plain sentences: what it means, which evidence it rests on, and the fix
    that is offered or why none is."""

    meaning: str
    evidence: str
    fix: str


class Analyzer(Protocol):
    """What `diagnose` needs of an analyzer module."""

    @property
    def NAME(self) -> str: ...

    @property
    def READS(self) -> tuple[str, ...]: ...

    @property
    def RULED_OUT(self) -> str: ...

    def find(self, scope: Scope) -> Iterable[Found]: ...


def quoted(text: str, limit: int = 300) -> str:
    """`text` on one line between marks, cut: the part between the marks is found literally in the evidence."""
    first = text.strip().split("\n", 1)[0].strip()
    return f"«{first[:limit]}»"
