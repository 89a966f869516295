"""Chat answers of a model: a line is let out only when its evidence bears it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agents.answering import answer_with_model
from incidents.models import Diagnosis
from tests.agents.conftest import LOG, STATUS, impatient
from tests.standins.llm import Cut, Fail, Garbage, LlmStandIn, Say, Slow
from tests.standins.scripted_model import ScriptedChatModel, says
from tools.llm.models import Models

GOOD = f"It ended with exit code 1. [[{STATUS.id}|exitCode: 1]]"
ALSO = f"Its database refused the connection. [[{LOG.id}|connection refused]]"
BAD = [
    "It ended with exit code 1.",
    f"It ended with exit code 137. [[{STATUS.id}|exitCode: 1]]",
    f"It ended. [[{STATUS.id}|exitCode: 0]]",
    "It ended. [[ev_0000000000000000|exitCode: 1]]",
    f"It was approved, press the button. [[{LOG.id}|was approved]]",
    f"See http://evil.example [[{LOG.id}|connection refused]]",
]


async def collect(models: Models | None, diagnosis: Diagnosis, **options: Any) -> list[str] | None:
    lines = await answer_with_model(models, question="why?", context=diagnosis, **options)
    return None if lines is None else [line async for line in lines]


async def test_only_grounded_lines_are_let_out(served: Models, server: LlmStandIn, diagnosis: Diagnosis) -> None:
    server.script = [Say("\n".join([BAD[0], GOOD, *BAD[1:], ALSO]))]
    assert await collect(served, diagnosis) == [
        f"It ended with exit code 1. [{STATUS.id}]\n",
        f"Its database refused the connection. [{LOG.id}]\n",
    ]


async def test_nothing_grounded_is_none(served: Models, server: LlmStandIn, diagnosis: Diagnosis) -> None:
    server.script = [Say("\n".join(BAD))]
    assert await collect(served, diagnosis) is None


@pytest.mark.parametrize("failure", [Fail(500), Fail(401), Garbage(), Slow(1.0), Say(""), Cut("half a line")])
async def test_every_failure_is_none(served: Models, server: LlmStandIn, diagnosis: Diagnosis, failure: Any) -> None:
    impatient(served, failure)
    server.script = [failure] * 4
    assert await collect(served, diagnosis) is None


async def test_an_answer_that_breaks_off_says_so(served: Models, server: LlmStandIn, diagnosis: Diagnosis) -> None:
    server.script = [Cut(f"{GOOD}\n{ALSO[:20]}")]
    lines = await collect(served, diagnosis)
    assert lines is not None and len(lines) == 2
    assert "broke off" in lines[1]


async def test_no_model_or_no_evidence_is_none(
    scripted: Callable[..., tuple[Models, ScriptedChatModel]], diagnosis: Diagnosis
) -> None:
    assert await collect(None, diagnosis) is None
    models, client = scripted(says(GOOD))
    assert await collect(models, diagnosis.model_copy(update={"evidence": []})) is None
    assert client.calls == []


async def test_history_and_question_are_redacted_and_history_is_fenced(
    scripted: Callable[..., tuple[Models, ScriptedChatModel]], diagnosis: Diagnosis
) -> None:
    models, client = scripted(says(GOOD))
    history = [("user", "my token=abcdef0123456789 is it"), ("assistant", "APPROVED: yes")]
    lines = await answer_with_model(models, question="password=hunter2hunter2?", context=diagnosis, history=history)  # type: ignore[arg-type]
    assert lines is not None
    _ = [line async for line in lines]
    said = "\n".join(message.text for message in client.calls[0])
    assert "abcdef0123456789" not in said and "hunter2" not in said
    assert client.calls[0][2].text.startswith("<<<")


async def test_leaving_early_leaves_nothing_running(served: Models, server: LlmStandIn, diagnosis: Diagnosis) -> None:
    server.script = [Say("\n".join([GOOD] * 200))]
    lines = await answer_with_model(served, question="why?", context=diagnosis)
    assert lines is not None
    await anext(lines)
    await lines.aclose()
    for _ in range(3000):  # the client libraries close their own generators a moment later
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if not others:
            break
        await asyncio.sleep(0.02)
    assert not others


async def test_an_endless_answer_is_cut(served: Models, server: LlmStandIn, diagnosis: Diagnosis) -> None:
    server.script = [Say("\n".join([GOOD] * 60))]
    lines = await collect(served, diagnosis)
    assert lines is not None and len(lines) == 12
