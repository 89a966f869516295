"""Vectors from either server: one shape, the model's budgets, and one error for whatever comes back wrong."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable

import pytest

from errors import BudgetExhausted, InvalidInput, ToolFailed, ToolTimeout
from incidents.database import utcnow
from incidents.usage import UsageStore
from settings import LlmSettings
from tests.standins.llm import EMBEDDING_MODEL, KEY, Fail, Garbage, LlmStandIn, Slow
from tools.llm.embeddings import Embeddings, similarity

Make = Callable[..., Embeddings]


@pytest.fixture(params=["openai", "ollama"])
def make(request: pytest.FixtureRequest, server: LlmStandIn, usage: UsageStore) -> Make:
    """Runs a test once in each wire format."""

    def make(**options: object) -> Embeddings:
        url = server.openai_url if request.param == "openai" else server.ollama_url
        settings = LlmSettings.model_validate({"base_url": url, "api_key": KEY, "timeout": 60.0} | options)
        return Embeddings(settings, f"{request.param}:{EMBEDDING_MODEL}", usage)

    return make


async def test_vectors_of_length_one_in_the_order_of_the_texts(
    make: Make, server: LlmStandIn, usage: UsageStore
) -> None:
    memory, disk, heap = await make().embed(["out of memory", "disk is full", "heap grows"], incident_id="inc_1")
    assert similarity(memory, memory) == pytest.approx(1.0, abs=1e-6)
    assert similarity(memory, heap) > 0.9 > 0.2 > similarity(memory, disk)
    assert len(array("f", memory)) == 4
    assert server.embedded == [["out of memory", "disk is full", "heap grows"]] and server.rejected == []
    spent = await usage.spent("inc_1", utcnow())
    assert (spent.incident_tokens, spent.calls_last_hour) == (3, 1)


async def test_long_and_empty_texts_are_sent_as_the_server_takes_them(make: Make, server: LlmStandIn) -> None:
    await make().embed(["x" * 9000, ""])
    assert [len(text) for text in server.embedded[0]] == [2000, 1]


async def test_a_used_up_budget_sends_nothing(make: Make, server: LlmStandIn) -> None:
    with pytest.raises(BudgetExhausted):
        await make(calls_per_hour=0).embed(["x"])
    with pytest.raises(BudgetExhausted):
        await make(tokens_per_incident=10).embed(["x" * 500], incident_id="inc_1")
    assert server.requests == []


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (Fail(500, "out of cheese"), "answered 500"),
        (Fail(401), "refused the API key"),
        (Fail(404), "knows no"),
        (Fail(429), "limits requests"),
        (Garbage(), "model server"),
        (Garbage("[]"), "model server"),
        (Garbage(json.dumps({"data": [], "embeddings": []})), "number of vectors"),
        (Garbage(json.dumps({"data": [{"embedding": [0, 0]}], "embeddings": [[0, 0]]})), "direction"),
        (Garbage(json.dumps({"data": [{"embedding": []}], "embeddings": [[]]})), "length"),
        (Garbage('{"data": [{"embedding": [NaN]}], "embeddings": [[NaN]]}'), "model server"),
    ],
)
async def test_every_wrong_answer_is_one_error(make: Make, server: LlmStandIn, behaviour: object, said: str) -> None:
    server.script = [behaviour]  # type: ignore[list-item]
    with pytest.raises(ToolFailed, match=said):
        await make().embed(["x"])


async def test_a_silent_server(make: Make, server: LlmStandIn) -> None:
    server.script = [Slow(1.0)]
    with pytest.raises(ToolTimeout):
        await make(timeout=0.1).embed(["x"])


async def test_no_server(make: Make, usage: UsageStore) -> None:
    with pytest.raises(ToolFailed, match=r"check llm\.base_url"):
        await make(base_url="http://127.0.0.1:1").embed(["x"], incident_id="inc_1")
    assert (await usage.spent("inc_1", utcnow())).incident_tokens == 0, "nothing was used"


def test_names_of_models(usage: UsageStore) -> None:
    assert Embeddings.from_settings(LlmSettings(), "", usage) is None
    for wrong in ("bge-m3", "other:bge", "openai:"):
        with pytest.raises(InvalidInput, match="openai:NAME or ollama:NAME"):
            Embeddings(LlmSettings(base_url="http://127.0.0.1:1"), wrong, usage)


def test_vectors_of_another_model_are_not_alike() -> None:
    assert similarity(array("f", [1.0]).tobytes(), array("f", [1.0, 0.0]).tobytes()) == 0.0
