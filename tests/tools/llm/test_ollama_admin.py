"""Listing and fetching models, through the ollama client, against the stand-in."""

from __future__ import annotations

import pytest

from errors import InvalidInput, ToolFailed
from settings import LlmSettings
from tests.standins.llm import LlmStandIn
from tools.llm.ollama_admin import OllamaAdmin


@pytest.fixture
def admin(server: LlmStandIn) -> OllamaAdmin:
    return OllamaAdmin(LlmSettings(model="ollama:scripted:8b", base_url=server.ollama_url))


async def test_list(admin: OllamaAdmin) -> None:
    models = await admin.list()
    assert [model.name for model in models] == ["plain:1b", "scripted:8b"]
    assert (models[0].parameters, models[0].quantization, models[0].size) == ("8.0B", "Q4_K_M", 4_900_000_000)


async def test_pull_gives_the_servers_own_progress(admin: OllamaAdmin) -> None:
    events = [event async for event in admin.pull("new:1b")]
    assert events[0].status == "pulling manifest" and events[-1].status == "success"
    assert [event.completed for event in events if event.layer] == [0, 250, 500, 1000]
    assert {event.total for event in events if event.layer} == {1000}


async def test_pull_of_an_unknown_name(admin: OllamaAdmin) -> None:
    with pytest.raises(ToolFailed, match="file does not exist"):
        _ = [event async for event in admin.pull("missing:1b")]


@pytest.mark.parametrize("name", ["", "  ", "two words", "a\nb"])
async def test_pull_of_no_name(admin: OllamaAdmin, name: str) -> None:
    with pytest.raises(InvalidInput):
        _ = [event async for event in admin.pull(name)]


async def test_no_server() -> None:
    admin = OllamaAdmin(LlmSettings(model="ollama:x", base_url="http://127.0.0.1:9"))
    with pytest.raises(ToolFailed):
        await admin.list()
