"""What is looked for: the words of a question, or of a diagnosis.

Of a diagnosis these are the names of its cause classes, and what its findings, its cited evidence and its crash report
call things: reasons (`FailedMount`), exceptions, signals, error numbers, the objects, their containers and images.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from incidents.models import Diagnosis, EvidenceKind, Incident, ObjectRef
from tools.runbooks.names import is_distinctive, names_of
from tools.runbooks.words import is_common, is_wide, pairs, phrase, words_of

_CAUSES = 3
_TERMS = 48
_TERM_CHARS = 60
_LOOKED_THROUGH = 4000
"""Characters of one piece of evidence."""
_TEXTS = 100
_IDENTIFIER = re.compile(
    r"\b(?:[A-Z]{1,5}[a-z0-9]+(?:[A-Z][a-z0-9]*)+"  # FailedMount, OOMKilled, java's SQLException
    r"|[A-Za-z][\w]*(?:Exception|Error|Panic)"
    r"|SIG[A-Z]{2,6}|E[A-Z]{3,12}|[a-z]+_[a-z_]+[a-z])\b"
)
_QUOTED = frozenset({EvidenceKind.LOG, EvidenceKind.EVENT, EvidenceKind.GDB})


@dataclass(frozen=True)
class Term:
    """A word or phrase. It is there when half of `queries` match: a Chinese run has one for each pair."""

    text: str
    queries: tuple[str, ...]
    weight: int = 1
    """What it counts towards the floor; 0: it only ranks."""
    heading_tells: bool = False
    """In a heading it is enough by itself."""
    body_tells: bool = False
    """It is enough wherever it stands."""


@dataclass(frozen=True)
class Question:
    """`needed` is the weight of terms that a passage must have; `rare`: of terms that few passages have."""

    terms: tuple[Term, ...]
    needed: int
    rare: bool
    text: str
    """In one string, for embeddings."""


def question_of(text: str) -> Question:
    """A question of a person or a model: all its words, half of them where there are many."""
    terms = []
    for word in words_of(text)[:_TERMS]:
        word = word[:_TERM_CHARS]
        pieces = pairs(word).split() if is_wide(word) else [word]
        queries = tuple(found for piece in pieces if (found := phrase(piece)))
        if queries:
            terms.append(Term(word, queries, weight=2 if is_wide(word) and len(word) >= 4 else 1))
    return Question(tuple(terms), min(2, sum(term.weight for term in terms)), rare=False, text=text[:1000])


def question_about(incident: Incident, diagnosis: Diagnosis) -> Question:
    """What the team may have written about a diagnosis. What the requester said only ranks, but for its identifiers."""
    terms: dict[str, Term] = {}

    def add(text: str, **options: object) -> None:
        text = text.strip()[:_TERM_CHARS]
        query = phrase(text)
        if query and text.casefold() not in terms and len(terms) < _TERMS:
            terms[text.casefold()] = Term(text, (query,), **options)  # type: ignore[arg-type]

    classes = [cause.cause_class for cause in diagnosis.causes[:_CAUSES]]
    for name in (name for cause_class in classes for name in names_of(cause_class)):
        add(name, heading_tells=not _is_plain(name), body_tells=is_distinctive(name))
    for name in _objects(incident, diagnosis):
        add(name)
    for name in _identifiers(incident, diagnosis):
        add(name, weight=1)
    for word in words_of(incident.event[:500])[:12]:
        add(word, weight=0)
    spoken = " ".join(cause.summary for cause in diagnosis.causes[:_CAUSES]) or incident.event
    return Question(tuple(terms.values()), 2, rare=True, text=spoken[:1000])


def _is_plain(name: str) -> bool:
    """Words that stand in many a heading: they need another word beside them."""
    return all(is_common(word) for word in re.findall(r"\w+", name)) and not is_wide(name)


def _objects(incident: Incident, diagnosis: Diagnosis) -> Iterator[str]:
    objects = [incident.target, *(cause.object for cause in diagnosis.causes[:_CAUSES])]
    names = [name for item in objects for name in _names(item)]
    for cause in diagnosis.causes[:_CAUSES]:
        image = cause.facts.get("image")
        if isinstance(image, str):
            names.append(image.partition("@")[0].rpartition("/")[2].partition(":")[0])
    if diagnosis.crash is not None:
        names += [PurePosixPath(diagnosis.crash.executable or diagnosis.crash.process.exe or "").name]
    yield from (name for name in dict.fromkeys(names) if not is_common(name) and len(name) > 2)


def _names(item: ObjectRef) -> list[str]:
    return [name for name in (item.name, item.container) if name]


def _identifiers(incident: Incident, diagnosis: Diagnosis) -> Iterator[str]:
    texts: list[str] = []
    crash = diagnosis.crash
    if crash is not None:
        info = crash.crash_info
        texts += [info.type or "", info.assertion or "", info.abort_message or ""]
        texts += [info.exception.type or "" if info.exception else ""]
        frames = [frame for frame in (crash.threads[0].frames if crash.threads else []) if frame.in_app]
        yield from (frame.function for frame in frames[:2] if frame.function)
    cited = {number for cause in diagnosis.causes[:_CAUSES] for number in cause.finding_ids}
    findings = [finding for finding in diagnosis.findings if finding.id in cited or not cited]
    for cause in diagnosis.causes[:_CAUSES]:
        texts += [cause.summary, *(value for value in cause.facts.values() if isinstance(value, str))]
    texts += [finding.claim for finding in findings]
    evidence = {number for finding in findings for number in finding.evidence_ids}
    texts += [item.excerpt for item in diagnosis.evidence if item.id in evidence and item.kind in _QUOTED]
    texts.append(incident.event)
    yield from _found(texts[:_TEXTS])


def _found(texts: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for text in texts:
        for match in _IDENTIFIER.finditer(text[:_LOOKED_THROUGH]):
            if match[0] not in seen and match[0] not in _KINDS:
                seen.add(match[0])
                yield match[0]


_KINDS = {
    "ReplicaSet", "StatefulSet", "DaemonSet", "CronJob", "ConfigMap", "ServiceAccount", "Deployment",
    "PersistentVolumeClaim", "HorizontalPodAutoscaler", "PersistentVolume", "EndpointSlice", "BackOff",
}  # fmt: skip
"""They say what something is, not what went wrong."""
