"""A model reads, on top of the rules.

It sees the evidence, what the rules found and some read-only tools. What it answers is checked claim by claim; what
stays is added to the diagnosis, and nothing of the rules is changed. A model that fails, lies, is slow or has no budget
leaves the diagnosis as it was, with a note in `unseen`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog
from langchain_core.messages import HumanMessage, SystemMessage

from agents.fencing import Fence, clean, cut
from agents.tool_loop import ANSWER_TOOL, Reading, ReadTool, ToolLoop
from diagnosis.grounding import Checker, Grounded, ground
from errors import ParamedicError
from incidents.models import Diagnosis, Evidence, Incident, ObjectRef
from prompts import render
from tools.llm.models import Models

__all__ = ["ReadTool", "Reading", "briefing", "observed_objects", "read_with_model"]

_EVIDENCE_CHARS = 3000
_PROMPT_SHARE = 0.6
"""Of what the model's context holds; the rest is for what the tools read."""
_DEADLINE_CALLS = 4
"""A whole reading may last as long as this many calls that each use their full time."""

log = structlog.get_logger(__name__)


async def read_with_model(
    models: Models | None,
    *,
    agent: str,
    incident: Incident,
    diagnosis: Diagnosis,
    tools: Sequence[ReadTool],
    report: Callable[[str], Awaitable[None]],
    whole: Mapping[str, str] | None = None,
) -> Diagnosis:
    """The diagnosis with what a model adds: explanation, findings, candidate causes below the rules', next steps.

    `agent` names the prompt (researcher, gdb_analyst). `report` gets one sentence a step. `whole` maps evidence ids to
    texts longer than their excerpts. Never raises because of the model; without one the diagnosis comes back unchanged.
    """
    if models is None:
        return diagnosis
    seconds = models.settings.timeout * _DEADLINE_CALLS
    try:
        async with asyncio.timeout(seconds):
            return await _read(models, agent, incident, diagnosis, tools, report, whole or {})
    except TimeoutError:
        reason = f"it took longer than {seconds:.0f} s"
    except ParamedicError as error:
        reason = str(error)
    except Exception as error:
        # the last guard: whatever a model makes our code do, the rules' diagnosis must get through
        log.exception("reading with a model failed", model=models.name, incident=incident.id)
        reason = f"unexpected {type(error).__name__}"
    note = f"the model {models.name} did not help: {clean(reason)}"
    await report(note)
    return diagnosis.model_copy(update={"unseen": [*diagnosis.unseen, note]})


async def _read(
    models: Models,
    agent: str,
    incident: Incident,
    diagnosis: Diagnosis,
    tools: Sequence[ReadTool],
    report: Callable[[str], Awaitable[None]],
    whole: Mapping[str, str],
) -> Diagnosis:
    fence = Fence()
    texts = {item.id: clean(whole.get(item.id, item.excerpt)) for item in diagnosis.evidence}
    system = render(agent, fence=fence.word, steps=models.settings.max_steps, answer_tool=ANSWER_TOOL)
    limit = int(models.prompt_chars * _PROMPT_SHARE) - len(system)
    loop = ToolLoop(models, incident.id, tools, report, fence)
    await report(f"asks the model {models.name}")
    answer = await loop.run(
        [SystemMessage(system), HumanMessage(briefing(fence, diagnosis, texts, limit, incident=incident))]
    )
    checker = Checker(
        [*diagnosis.evidence, *loop.evidence],
        texts={**texts, **loop.texts},
        objects=[incident.target, *observed_objects(diagnosis), *loop.objects],
        crash=diagnosis.crash,
    )
    grounded = ground(answer, checker, diagnosis, model=models.name)
    log.info(
        "model answer checked",
        incident=incident.id,
        agent=agent,
        model=models.name,
        kept=grounded.kept,
        total=grounded.total,
        dropped=[f"{item.part}: {item.reason}" for item in grounded.dropped],
    )
    await report(f"the evidence bears {grounded.kept} of {grounded.total} statements of the model")
    return _merged(diagnosis, grounded, loop, models.name)


def _merged(diagnosis: Diagnosis, grounded: Grounded, loop: ToolLoop, model: str) -> Diagnosis:
    """The rules' diagnosis first and whole. Of what the model read, only what stays cited becomes evidence."""
    known = {item.id for item in diagnosis.evidence}
    notes = []
    if grounded.dropped:
        notes.append(
            f"{len(grounded.dropped)} of {grounded.total} statements of the model {model} were dropped: "
            "the evidence does not bear them"
        )
    if loop.refused:
        names = ", ".join(dict.fromkeys(loop.refused))
        notes.append(f"the model {model} asked for tools that do not exist and got none: {names}")
    said = [text for text in (diagnosis.explanation, grounded.explanation) if text]
    return diagnosis.model_copy(
        update={
            "causes": [*diagnosis.causes, *grounded.causes],
            "findings": [*diagnosis.findings, *grounded.findings],
            "evidence": [*diagnosis.evidence, *(i for i in loop.evidence if i.id in grounded.cited - known)],
            "next_steps": [
                *diagnosis.next_steps,
                *(f"{step} (the model's suggestion)" for step in grounded.next_steps),
            ],
            "unseen": [*diagnosis.unseen, *notes],
            "explanation": "\n\n".join(said) or None,
        }
    )


def observed_objects(diagnosis: Diagnosis) -> list[ObjectRef]:
    """The objects that the rules named."""
    found = [cause.object for cause in diagnosis.causes]
    return found + [finding.object for finding in diagnosis.findings if finding.object is not None]


def briefing(
    fence: Fence, diagnosis: Diagnosis, texts: Mapping[str, str], limit: int, *, incident: Incident | None = None
) -> str:
    """All outside text of a prompt, fenced, in at most about `limit` characters. Cited evidence comes first."""
    parts = []
    if incident is not None:
        parts.append(fence.wrap("incident", clean(f"target: {incident.target}\nreported: {cut(incident.event, 1000)}")))
    parts.append(fence.wrap("what the rules found", cut(clean(_findings(diagnosis)), limit // 3)))
    room = limit - sum(len(part) for part in parts)
    cited = {evidence_id for finding in diagnosis.findings for evidence_id in finding.evidence_ids}
    left_out: list[Evidence] = []
    for item in sorted(diagnosis.evidence, key=lambda item: item.id not in cited):
        text = f"source: {clean(item.source)[:300]}\n{cut(texts.get(item.id, ''), _EVIDENCE_CHARS)}"
        part = fence.wrap(f"evidence {item.id} {item.kind.value}", text)
        if len(part) > room:
            left_out.append(item)
            continue
        room -= len(part)
        parts.append(part)
    if left_out:
        parts.append(f"{len(left_out)} more pieces of evidence did not fit.")
    return "\n\n".join(parts)


def _findings(diagnosis: Diagnosis) -> str:
    lines = [f"status: {diagnosis.status.value}"]
    for cause in diagnosis.causes:
        where = str(cause.object)
        lines.append(f"cause {cause.cause_class.value} in {where} (confidence {cause.confidence:.2f}): {cause.summary}")
    lines += [f"finding [{', '.join(item.evidence_ids)}]: {item.claim}" for item in diagnosis.findings]
    lines += [f"ruled out: {text}" for text in diagnosis.ruled_out]
    lines += [f"could not be seen: {text}" for text in diagnosis.unseen]
    if diagnosis.crash is not None and diagnosis.crash.mechanism:
        lines.append(f"mechanism: {diagnosis.crash.mechanism}")
    return "\n".join(lines)
