"""The wire formats as recorded: a new version of a client library must still understand the same bytes.

Replayed without any server. `pytest --record-mode=rewrite tests/tools/llm/test_replay.py` records anew against the
stand-in (see cassettes/README.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage

from errors import ToolFailed
from incidents.usage import UsageStore
from settings import LlmSettings
from tests.standins.llm import KEY, OPENAI_MODEL, Call, Fail, LlmStandIn, Say, Script
from tests.tools.llm.conftest import REPLAY_PORT
from tools.llm.models import Models, ToolSpec
from tools.llm.ollama_admin import OllamaAdmin

pytestmark = [pytest.mark.vcr, pytest.mark.block_network(allowed_hosts=["127.0.0.1"])]

ASK = [SystemMessage("You are terse."), HumanMessage("What does exit code 139 mean?")]
LOOK = ToolSpec("look", "Look.", {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]})
OLLAMA = {"model": "ollama:scripted:8b", "base_url": f"http://127.0.0.1:{REPLAY_PORT}"}
OPENAI = {"model": f"openai:{OPENAI_MODEL}", "base_url": f"http://127.0.0.1:{REPLAY_PORT}/v1", "api_key": KEY}
SCRIPTS: dict[str, Script] = {
    "test_answer": [Say("Signal 11.", usage=(31, 4))],
    "test_stream": [Say("Signal 11: a segmentation fault.", usage=(31, 9))],
    "test_tools": [Call([("look", {"at": "pod"})]), Say("It was killed.")],
    "test_enforced_answer": [
        lambda body: Say('{"at": "pod"}') if "format" in body else Call([("look", {"at": "pod"})])
    ],
    "test_rate_limit": [Fail(429, "Rate limit reached", {"retry-after": "0"}), Say("Signal 11.")],
    "test_error": [Fail(400, "This model's maximum context length is 8192 tokens.")],
}


@pytest.fixture(autouse=True)
def _recorded_server(request: pytest.FixtureRequest, record_mode: str) -> Iterator[None]:
    """The stand-in, only while cassettes are recorded."""
    if record_mode == "none":
        yield
        return
    with LlmStandIn(port=REPLAY_PORT) as standin:
        standin.script = list(SCRIPTS.get(request.node.originalname, []))
        yield


@pytest.fixture(params=["openai", "ollama"])
def models(request: pytest.FixtureRequest, usage: UsageStore) -> Models:
    options = OPENAI if request.param == "openai" else OLLAMA
    return Models(LlmSettings.model_validate(options), usage)


async def test_answer(models: Models) -> None:
    reply = await models.ask(ASK)
    assert reply.text == "Signal 11."
    assert reply.usage_metadata is not None
    assert (reply.usage_metadata["input_tokens"], reply.usage_metadata["output_tokens"]) == (31, 4)


async def test_stream(models: Models, usage: UsageStore) -> None:
    pieces = [piece async for piece in models.stream(ASK, incident_id="inc_1")]
    assert "".join(pieces) == "Signal 11: a segmentation fault." and len(pieces) > 2
    assert (await usage.spent("inc_1", models.budget._now())).incident_tokens == 40


async def test_tools(models: Models) -> None:
    call = await models.ask(ASK, tools=[LOOK])
    assert call.tool_calls[0]["args"] == {"at": "pod"}
    # Ollama's client makes up an id for each call; the recorded request holds none
    answer = ToolMessage("exitCode: 139", tool_call_id=call.tool_calls[0]["id"] or "")
    assert (await models.ask([*ASK, call, answer], tools=[LOOK])).text == "It was killed."


async def test_enforced_answer(models: Models) -> None:
    reply = await models.ask(ASK, answer=LOOK)
    assert reply.tool_calls or reply.text == '{"at": "pod"}'


async def test_rate_limit(models: Models) -> None:
    assert (await models.ask(ASK)).text == "Signal 11."


async def test_error(models: Models) -> None:
    with pytest.raises(ToolFailed, match="maximum context length"):
        await models.ask(ASK)


async def test_list_of_models() -> None:
    found = await OllamaAdmin(LlmSettings.model_validate(OLLAMA)).list()
    assert [model.name for model in found] == ["plain:1b", "scripted:8b"]
