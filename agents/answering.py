"""A model answers a question in the chat: line by line, and a line is let out only after its evidence was checked."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Literal

import structlog
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from agents.briefing import briefing, observed_objects
from agents.fencing import Fence, clean, cut
from diagnosis.answer import Citation
from diagnosis.grounding import Checker
from errors import ParamedicError
from incidents.models import Diagnosis, ObjectRef
from prompts import render
from tools.llm.models import Models

Turn = tuple[Literal["user", "assistant"], str]

_CITATION = re.compile(r"\[\[(?P<id>ev_[0-9a-z]{1,40})\|(?P<quote>[^\]\n]{1,400})\]\]")
_MAX_LINES = 12
_MAX_LINE_CHARS = 3000
_HISTORY_TURNS = 6
_TURN_CHARS = 1500

log = structlog.get_logger(__name__)


async def answer_with_model(
    models: Models | None,
    *,
    question: str,
    context: Diagnosis,
    texts: Mapping[str, str] | None = None,
    objects: Sequence[ObjectRef] = (),
    history: Sequence[Turn] = (),
    incident_id: str | None = None,
) -> AsyncGenerator[str] | None:
    """The answer's lines as they are found good, each with the ids of its evidence; None when no line was.

    `texts` are whole evidence texts by id, `objects` further observed objects. It returns when the first line has
    passed, so None means that nothing was shown and the answer by rules can be given. Never raises because of a model.
    """
    if models is None or not context.evidence:
        return None
    lines = _lines(models, question, context, texts or {}, objects, history, incident_id)
    first = await anext(lines, None)
    return None if first is None else _after(first, lines)


async def _after(first: str, rest: AsyncGenerator[str]) -> AsyncGenerator[str]:
    async with aclosing(rest):
        yield first
        async for line in rest:
            yield line


async def _lines(
    models: Models,
    question: str,
    context: Diagnosis,
    whole: Mapping[str, str],
    objects: Sequence[ObjectRef],
    history: Sequence[Turn],
    incident_id: str | None,
) -> AsyncGenerator[str]:
    fence = Fence()
    texts = {item.id: clean(whole.get(item.id, item.excerpt)) for item in context.evidence}
    checker = Checker(
        context.evidence, texts=texts, objects=[*observed_objects(context), *objects], crash=context.crash
    )
    system = render("chat", fence=fence.word, lines=_MAX_LINES)
    limit = int(models.prompt_chars * 0.8) - len(system) - _HISTORY_TURNS * _TURN_CHARS
    messages: list[BaseMessage] = [SystemMessage(system)]
    for role, text in history[-_HISTORY_TURNS:]:
        # what was said before may hold outside text too; it is no instruction either
        fenced = fence.wrap("earlier in this conversation", cut(clean(text), _TURN_CHARS))
        messages.append(HumanMessage(fenced) if role == "user" else AIMessage(fenced))
    asked = cut(clean(question), _TURN_CHARS)
    messages.append(HumanMessage(f"{briefing(fence, context, texts, limit)}\n\nThe question:\n{asked}"))
    kept = dropped = 0
    try:
        async with (
            aclosing(models.stream(messages, incident_id=incident_id)) as pieces,
            aclosing(_split(pieces)) as lines,
        ):
            async for line in lines:
                checked = _checked(line, checker)
                if checked is None:
                    dropped += 1
                    continue
                kept += 1
                yield checked
                if kept >= _MAX_LINES:
                    break
    except ParamedicError as error:
        log.warning("the model's answer broke off", model=models.name, error=str(error))
        if kept:
            yield "(The model's answer broke off here.)\n"
    except Exception:
        # the last guard, as in agents.reading: the chat must be able to answer by rules
        log.exception("answering with a model failed", model=models.name)
    log.info("model answer checked", incident=incident_id, model=models.name, kept=kept, total=kept + dropped)


def _checked(line: str, checker: Checker) -> str | None:
    """The line with its citations shortened to ids, or None when the evidence does not bear it."""
    citations = [Citation(evidence_id=match["id"], quote=match["quote"]) for match in _CITATION.finditer(line)]
    text = _CITATION.sub("", line).strip().lstrip("-*# ").strip()
    fault = checker.fault(text, citations)
    if fault is not None:
        log.debug("a line of the model was dropped", reason=fault)
        return None
    ids = dict.fromkeys(citation.evidence_id for citation in citations)
    return f"{text} {' '.join(f'[{evidence_id}]' for evidence_id in ids)}\n"


async def _split(pieces: AsyncGenerator[str]) -> AsyncGenerator[str]:
    """Whole lines out of pieces of text. A line that never ends is given up, not kept in memory."""
    rest = ""
    async for piece in pieces:
        rest += piece
        *lines, rest = rest.split("\n")
        for line in lines:
            if line.strip():
                yield line
        rest = rest[: _MAX_LINE_CHARS + 1]
    if rest.strip():
        yield rest
