"""Runbooks found by meaning: joined with words where a model server gives vectors, and words alone where it fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from incidents.database import Database
from incidents.usage import UsageStore
from settings import LlmSettings
from tests.standins.llm import EMBEDDING_MODEL, KEY, Fail, LlmStandIn
from tests.tools.runbooks.conftest import FILES, Make
from tools.llm.embeddings import Embeddings
from tools.runbooks.asking import Question, question_of
from tools.runbooks.library import Runbooks


@pytest.fixture
def server() -> Iterator[LlmStandIn]:
    with LlmStandIn() as server:
        yield server


@pytest.fixture
def runbooks(make: Make, server: LlmStandIn, database: Database) -> Runbooks:
    settings = LlmSettings.model_validate({"base_url": server.openai_url, "api_key": KEY, "timeout": 60.0})
    return make(Embeddings(settings, f"openai:{EMBEDDING_MODEL}", UsageStore(database)))


async def test_meaning_finds_what_shares_no_word(runbooks: Runbooks) -> None:
    answer = await runbooks.search(question_of("heap"), limit=5)
    assert [(hit.passage.path, hit.terms, hit.told) for hit in answer.hits] == [("memory.md", (), False)]
    both = await runbooks.search(question_of("OOMKilled heap"), limit=5)
    assert (both.hits[0].passage.path, both.hits[0].told) == ("memory.md", False)


async def test_meaning_alone_is_never_put_beside_a_diagnosis(runbooks: Runbooks) -> None:
    heap = question_of("heap")
    answer = await runbooks.search(Question(heap.terms, 2, rare=True, text="heap"), limit=5)
    assert answer.hits == []


async def test_a_passage_is_sent_once_and_redacted(runbooks: Runbooks, server: LlmStandIn, folder: Path) -> None:
    (folder / "keys.md").write_text("# Keys of the storage\npassword=hunter2hunter2\n")
    _, made, notes = await runbooks.update()
    assert (made, notes) == (len(FILES) + 1, [])
    assert "hunter2" not in str(server.requests)
    assert any(text.startswith("Memory / Containers that are OOMKilled\n") for text in server.embedded[0])
    (folder / "keys.md").write_text("# Keys of the network\n")
    await runbooks.search(question_of("heap"), limit=5)
    assert server.embedded[1:] == [["Keys of the network\n# Keys of the network"], ["heap"]]


async def test_a_server_that_is_gone_leaves_words(runbooks: Runbooks, server: LlmStandIn) -> None:
    server.script = [Fail(500)]
    answer = await runbooks.search(question_of("OOMKilled"), limit=5)
    assert [hit.passage.path for hit in answer.hits] == ["memory.md"]
    assert len(answer.notes) == 1 and answer.notes[0].startswith("runbooks were searched by words alone: ")
    server.script = [Fail(500)]
    _, made, notes = await runbooks.update()
    assert made == 0 and "not every passage has a vector" in notes[0]
