"""One request at a time over real HTTP: answers, tools, streams, and every way in which a server fails."""

from __future__ import annotations

import pytest
from blockbuster import blockbuster_ctx
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage

from errors import InvalidInput, ToolFailed, ToolTimeout
from incidents.database import Database
from incidents.usage import UsageStore
from settings import LlmSettings
from tests.standins.llm import Call, Cut, Fail, Garbage, LlmStandIn, Say, Slow
from tests.tools.llm.conftest import MakeModels
from tools.llm.errors import ToolsUnsupported, is_transient
from tools.llm.models import Models, ToolSpec

ASK = [SystemMessage("You are terse."), HumanMessage("Say ready.")]
SPEC = ToolSpec("look", "Look.", {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]})


async def test_answers_and_counts(make_models: MakeModels, server: LlmStandIn, usage: UsageStore) -> None:
    server.script = [Say("ready", usage=(321, 45))]
    models = make_models()
    reply = await models.ask(ASK, incident_id="inc_1")
    assert reply.text == "ready"
    spent = await usage.spent("inc_1", models.budget._now())
    assert spent.incident_tokens == 366
    assert spent.calls_last_hour == 1
    assert spent.unpriced_this_month == 1


async def test_tool_calls_and_their_answers(make_models: MakeModels, server: LlmStandIn) -> None:
    server.script = [Call([("look", {"at": "pod"}), ("look", {"at": "log"})]), Say("done")]
    models = make_models()
    first = await models.ask(ASK, tools=[SPEC])
    assert [call["args"] for call in first.tool_calls] == [{"at": "pod"}, {"at": "log"}]
    answers = [ToolMessage("seen", tool_call_id=call["id"]) for call in first.tool_calls]
    assert (await models.ask([*ASK, first, *answers], tools=[SPEC])).text == "done"
    assert server.rejected == []


async def test_enforced_answer_over_openai_is_a_forced_tool(openai: MakeModels, server: LlmStandIn) -> None:
    server.script = [Call([("look", {"at": "x"})])]
    await openai().ask(ASK, answer=SPEC)
    assert server.requests[0]["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert server.requests[0]["max_completion_tokens"] == 4096


async def test_enforced_answer_over_ollama_is_a_format(ollama: MakeModels, server: LlmStandIn) -> None:
    server.script = [Say('{"at": "x"}')]
    await ollama(num_ctx=8192).ask(ASK, answer=SPEC)
    assert server.requests[0]["format"]["type"] == "object"
    assert "tools" not in server.requests[0] or not server.requests[0]["tools"]
    # its own default of 4096 would cut the prompt from the front, silently
    assert server.requests[0]["options"]["num_ctx"] == 8192


async def test_streams_with_usage(make_models: MakeModels, server: LlmStandIn, usage: UsageStore) -> None:
    server.script = [Say("one two three four", usage=(50, 9))]
    models = make_models()
    pieces = [piece async for piece in models.stream(ASK, incident_id="inc_1")]
    assert "".join(pieces) == "one two three four"
    assert len(pieces) > 1
    assert (await usage.spent("inc_1", models.budget._now())).incident_tokens == 59


@pytest.mark.parametrize("failure", [Fail(429, headers={"retry-after": "0"}), Fail(500), Fail(503), Cut("half a")])
async def test_transient_failures_are_repeated(make_models: MakeModels, server: LlmStandIn, failure: object) -> None:
    server.script = [failure, failure, Say("ready")]  # type: ignore[list-item]
    assert (await make_models().ask(ASK)).text == "ready"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("failure", "requests"),
    [
        (Fail(429, headers={"retry-after": "0"}), 3),
        (Fail(500), 3),
        (Fail(400, "bad"), 1),
        (Fail(429, "no money", code="insufficient_quota"), 1),
        (Fail(429, "come back tomorrow", headers={"retry-after": "86400"}), 1),
        (Fail(401, "Incorrect API key provided: sk-stan****ghij."), 1),
        (Garbage(), 1),
        (Garbage('{"choices": null}'), 1),
        (Garbage("42"), 1),
    ],
)
async def test_failures_end_as_our_error(
    openai: MakeModels, server: LlmStandIn, failure: object, requests: int
) -> None:
    server.script = [failure] * 5  # type: ignore[list-item]
    with pytest.raises(ToolFailed) as caught:
        await openai().ask(ASK)
    assert len(server.requests) == requests
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize(
    "failure",
    [Fail(500, "out of memory"), Fail(400, "bad"), Garbage(), Garbage('{"error": "runner died"}\n'), Cut("x")],
)
async def test_ollama_failures_end_as_our_error(ollama: MakeModels, server: LlmStandIn, failure: object) -> None:
    server.script = [failure] * 5  # type: ignore[list-item]
    with pytest.raises(ToolFailed):
        await ollama().ask(ASK)


async def test_a_stream_is_not_repeated_after_something_was_given(make_models: MakeModels, server: LlmStandIn) -> None:
    server.script = [Cut("a first part "), Say("never")]
    given = []
    with pytest.raises(ToolFailed, match="connection"):
        async for piece in make_models().stream(ASK):
            given.append(piece)
    assert "".join(given) == "a first part "
    assert len(server.requests) == 1


async def test_a_stream_is_repeated_while_nothing_was_given(make_models: MakeModels, server: LlmStandIn) -> None:
    server.script = [Fail(500), Say("ready")]
    assert [piece async for piece in make_models().stream(ASK)] == ["ready"]


async def test_a_slow_server_is_a_timeout_and_is_asked_once(make_models: MakeModels, server: LlmStandIn) -> None:
    server.script = [Slow(1.0)]
    with pytest.raises(ToolTimeout):
        await make_models(timeout=0.2).ask(ASK)
    assert len(server.requests) == 1


async def test_a_slow_stream_is_a_timeout(make_models: MakeModels, server: LlmStandIn) -> None:
    server.script = [Slow(1.0)]
    with pytest.raises(ToolTimeout):
        _ = [piece async for piece in make_models(timeout=0.2).stream(ASK)]


async def test_nobody_listens(usage: UsageStore) -> None:
    for model in ("openai:x", "ollama:x"):
        models = Models(LlmSettings(model=model, base_url="http://127.0.0.1:9"), usage)
        with pytest.raises(ToolFailed, match="base_url"):
            await models.ask(ASK, incident_id="inc_1")
    # a server that was never reached cost nothing, but the attempts count as calls
    spent = await usage.spent("inc_1", models.budget._now())
    assert (spent.incident_tokens, spent.calls_last_hour) == (0, 6)


async def test_unknown_model_says_how_to_get_it(ollama: MakeModels, openai: MakeModels) -> None:
    with pytest.raises(ToolFailed, match="paramedic models pull nothere:1b"):
        await ollama(model="ollama:nothere:1b").ask(ASK)
    with pytest.raises(ToolFailed, match="knows no openai:nothere"):
        await openai(model="openai:nothere").ask(ASK)


async def test_a_model_without_tools_is_told_apart(ollama: MakeModels) -> None:
    with pytest.raises(ToolsUnsupported):
        await ollama(model="ollama:plain:1b").ask(ASK, tools=[SPEC])


async def test_wrong_key(openai: MakeModels, server: LlmStandIn) -> None:
    with pytest.raises(ToolFailed, match=r"llm\.api_key"):
        await openai(api_key="sk-wrong-0123456789abcdef").ask(ASK)
    assert server.requests == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "gpt-4o"},
        {"model": "openai:"},
        {"model": "anthropic:claude"},
        {"model": "openai:x"},
        {"model": "ollama:x", "base_url": "localhost:11434"},
        {"model": "ollama:x", "base_url": "file:///etc/passwd"},
    ],
)
def test_wrong_configuration_is_one_sentence(wrong: dict[str, str], database: Database) -> None:
    with pytest.raises(InvalidInput) as caught:
        Models.from_settings(LlmSettings.model_validate(wrong), UsageStore(database))
    assert "llm." in str(caught.value) and "\n" not in str(caught.value)


def test_no_model_is_none(database: Database) -> None:
    assert Models.from_settings(LlmSettings(), UsageStore(database)) is None


async def test_tracing_stays_off(openai: MakeModels, server: LlmStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's shell may trace; a prompt with a cluster's logs must not leave because of it."""
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("LANGSMITH_API_KEY", "lsv2-none")
    traced: list[object] = []
    monkeypatch.setattr("langsmith.client.Client.create_run", lambda *a, **k: traced.append(a))
    monkeypatch.setattr("langsmith.client.Client.__init__", lambda *a, **k: traced.append(a))
    await openai().ask(ASK)
    _ = [piece async for piece in openai().stream(ASK)]
    assert traced == []


def test_transient_errors_of_all_families() -> None:
    import httpx
    import httpx2
    import ollama
    import openai

    request, request2 = httpx.Request("GET", "http://x"), httpx2.Request("GET", "http://x")
    yes = [
        openai.APIConnectionError(request=request2),
        openai.APITimeoutError(request2),
        openai.RateLimitError("slow down", response=httpx2.Response(429, request=request2), body=None),
        openai.InternalServerError("oops", response=httpx2.Response(503, request=request2), body=None),
        httpx.ConnectError("x"),
        httpx.RemoteProtocolError("x"),
        httpx.HTTPStatusError("x", request=request, response=httpx.Response(429, request=request)),
        httpx2.ReadError("x"),
        httpx2.HTTPStatusError("x", request=request2, response=httpx2.Response(502, request=request2)),
        ollama.ResponseError("busy", 503),
        ConnectionError("refused"),
        TimeoutError(),
    ]
    no = [
        openai.AuthenticationError("who?", response=httpx2.Response(401, request=request2), body=None),
        openai.BadRequestError("bad", response=httpx2.Response(400, request=request2), body=None),
        openai.RateLimitError(
            "x", response=httpx2.Response(429, request=request2), body={"code": "insufficient_quota"}
        ),
        httpx.HTTPStatusError("x", request=request, response=httpx.Response(404, request=request)),
        ollama.ResponseError("no such model", 404),
        ValueError("garbage"),
        ToolFailed("ours"),
    ]
    assert [error for error in yes if not is_transient(error)] == []
    assert [error for error in no if is_transient(error)] == []


async def test_no_call_blocks_the_event_loop(make_models: MakeModels, server: LlmStandIn) -> None:
    """Not the first one either, which imports the client and loads certificates."""
    models = make_models()
    server.script = [Fail(500), Say("ready"), Say("ready")]
    with blockbuster_ctx():
        assert (await models.ask(ASK)).text == "ready"
        assert "".join([piece async for piece in models.stream(ASK)]) == "ready"
