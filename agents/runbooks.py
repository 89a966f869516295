"""What the team has written about such a case: passages of its runbooks beside a diagnosis, and as a model's tool.

A runbook proposes and decides nothing: what its front matter says it is for is checked against the present diagnosis.
"""

from __future__ import annotations

import asyncio
from fnmatch import fnmatchcase

import structlog
from pydantic import BaseModel, ConfigDict, Field

from agents.tool_loop import Reading, ReadTool
from errors import ParamedicError
from incidents.database import utcnow
from incidents.models import Cause, Diagnosis, DiagnosisStatus, Evidence, EvidenceKind, Incident, Recalled
from tools.runbooks.asking import question_about, question_of
from tools.runbooks.library import Hit, Runbooks
from tools.runbooks.passages import Scope

_QUOTED = 3
_LOOKED_AT = 30
_TEXT_CHARS = 1500
_NAMED = 6
_FOUND_FOR_MODEL = 3

log = structlog.get_logger(__name__)


async def with_runbooks(
    runbooks: Runbooks | None, incident: Incident, diagnosis: Diagnosis, *, beside: Diagnosis | None = None
) -> Diagnosis:
    """The diagnosis with at most three passages of different runbooks, each as evidence. What another specialist has
    quoted `beside` it counts, and is not quoted again.

    Never raises because of the runbooks: what could not be looked at is said in `unseen`. Without any configured, and
    for what is healthy, the diagnosis comes back unchanged.
    """
    if runbooks is None or diagnosis.status in (DiagnosisStatus.HEALTHY, DiagnosisStatus.FAILED):
        return diagnosis
    question = await asyncio.to_thread(question_about, incident, diagnosis)
    try:
        answer = await runbooks.search(
            question,
            limit=_LOOKED_AT,
            incident_id=incident.id,
            accept=lambda scope: bool(scope) and check(scope, diagnosis.causes)[0] is True,
        )
    except ParamedicError as error:
        return _unseen(diagnosis, [f"the runbooks could not be searched: {error}"])
    except Exception as error:
        # the last guard: a file of any content must not cost a diagnosis
        log.exception("searching the runbooks failed", incident=incident.id)
        return _unseen(diagnosis, [f"the runbooks could not be searched: unexpected {type(error).__name__}"])
    quoted = [item.source for item in (beside.recalled if beside else ()) if item.kind == "runbook"]
    best: dict[str, Hit] = {}
    for hit in answer.hits:
        if hit.passage.source not in quoted:
            best.setdefault(hit.passage.path, hit)
    found = [(hit, *check(hit.passage.scope, diagnosis.causes)) for hit in best.values()]
    found.sort(key=lambda item: {True: 0, None: 1, False: 2}[item[1]])
    evidence, recalled = [], []
    for hit, borne_out, checked in found[: max(_QUOTED - len(quoted), 0)]:
        item = evidence_of(hit)
        evidence.append(item)
        recalled.append(
            Recalled(
                kind="runbook",
                source=hit.passage.source,
                text=cut(hit.passage.text),
                why=_why(hit, borne_out),
                borne_out=borne_out,
                checked=checked,
                evidence_ids=[item.id],
            )
        )
    return _unseen(
        diagnosis.model_copy(
            update={
                "evidence": [*diagnosis.evidence, *evidence],
                "recalled": [*diagnosis.recalled, *recalled],
            }
        ),
        answer.notes,
    )


def check(scope: Scope, causes: list[Cause]) -> tuple[bool | None, str]:
    """Whether one cause of the diagnosis is what a front matter says the runbook is for, and a sentence on it."""
    if not scope:
        return None, "its front matter does not say what it is for: nothing to check it by"
    said = _said(scope)
    for cause in causes:
        if _fits(scope, cause):
            return True, f"it is for {said}; the diagnosis names {cause.cause_class.value} of {cause.object}"
    named = "; ".join(f"{cause.cause_class.value} of {cause.object}" for cause in causes[:3]) or "no cause"
    return False, f"it is for {said}; the diagnosis names {named}"


def evidence_of(hit: Hit) -> Evidence:
    return Evidence.of(EvidenceKind.RUNBOOK, hit.passage.source, hit.passage.text, utcnow())


def cut(text: str) -> str:
    """A passage as it is shown beside other things."""
    return text if len(text) <= _TEXT_CHARS else f"{text[:_TEXT_CHARS]}…"


class _Ask(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    query: str = Field(min_length=2, max_length=200, description="Words to look for, in English or Chinese")


def runbook_tool(runbooks: Runbooks, incident_id: str) -> ReadTool:
    """`search_runbooks` for a model. What it finds is what the team once wrote, not an observation."""

    async def run(args: _Ask) -> list[Reading]:
        answer = await runbooks.search(question_of(args.query), limit=_FOUND_FOR_MODEL, incident_id=incident_id)
        found = [Reading(hit.passage.text, hit.passage.source, EvidenceKind.RUNBOOK) for hit in answer.hits]
        return found or [Reading("(no runbook has these words)", "search_runbooks", EvidenceKind.RUNBOOK)]

    return ReadTool(
        "search_runbooks",
        "Search the team's own runbooks. They say what to do in general, and nothing of what happened now.",
        _Ask,
        run,
    )


def _fits(scope: Scope, cause: Cause) -> bool:
    item = cause.object
    return (
        (not scope.applies_to or cause.cause_class.value in scope.applies_to)
        and _matches(scope.kind, item.kind.lower(), folded=True)
        and _matches(scope.namespace, item.namespace or "")
        and _matches(scope.owner, item.name)
    )


def _matches(patterns: tuple[str, ...], name: str, *, folded: bool = False) -> bool:
    return not patterns or any(fnmatchcase(name, pattern.lower() if folded else pattern) for pattern in patterns)


def _said(scope: Scope) -> str:
    parts = [" or ".join(scope.applies_to) or "any cause"]
    parts += [f"{label} {' or '.join(given)}" for label, given in _labelled(scope) if given]
    return ", ".join(parts)


def _labelled(scope: Scope) -> list[tuple[str, tuple[str, ...]]]:
    return [("kind", scope.kind), ("namespace", scope.namespace), ("owner", scope.owner)]


def _why(hit: Hit, borne_out: bool | None) -> str:
    heading = [term.text for term in hit.terms if term.text in hit.in_heading]
    body = [term.text for term in hit.terms if term.text not in hit.in_heading]
    parts = [f"its heading has {_list(heading)}"] if heading else []
    parts += [f"it has {_list(body)}"] if body else []
    if borne_out:
        parts.insert(0, "its front matter is for this cause")
    return "; ".join(parts)


def _list(words: list[str]) -> str:
    return ", ".join(words[:_NAMED]) + (f" and {len(words) - _NAMED} more" if len(words) > _NAMED else "")


def _unseen(diagnosis: Diagnosis, notes: list[str]) -> Diagnosis:
    fresh = [note for note in notes if note not in diagnosis.unseen]
    return diagnosis.model_copy(update={"unseen": [*diagnosis.unseen, *fresh]}) if fresh else diagnosis
