"""Questions in English and Chinese, and what a question cannot do to the index."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tools.runbooks.conftest import Make
from tools.runbooks.asking import question_of
from tools.runbooks.words import indexed, phrase, words_of


async def found(make: Make, text: str) -> list[str]:
    answer = await make().search(question_of(text), limit=5)
    assert answer.notes == []
    return [hit.passage.path for hit in answer.hits]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("OOMKilled", "memory.md"),
        ("raising limits", "memory.md"),  # stemmed
        ("连接", "zh/connections.md"),  # two characters: the trigram tokenizer finds nothing
        ("数据库连接数耗尽怎么办", "zh/connections.md"),
        ("磁盘满了怎么办", "zh/disk.md"),
        ("空间不足", "zh/disk.md"),
        ("盘", "zh/disk.md"),
        ("pg_stat_activity", "zh/connections.md"),
        ("ＯＯＭＫｉｌｌｅｄ", "memory.md"),
        ("liveness probe wrong port", "probes.md"),
        ("有没有 cart 的预案", "cart.md"),
        ("connections", "zh/connections.md"),  # the file's name counts as a heading
    ],
)
async def test_it_is_found(make: Make, text: str, path: str) -> None:
    assert (await found(make, text))[0] == path


@pytest.mark.parametrize("text", ["kafka", "网关", "", "   ", "!!!", "liveness gateway", "数学"])
async def test_it_is_not_found(make: Make, text: str) -> None:
    assert await found(make, text) == []


async def test_the_source_names_file_heading_and_lines(make: Make) -> None:
    answer = await make().search(question_of("OOMKilled"), limit=5)
    assert answer.hits[0].passage.source == "memory.md#Containers that are OOMKilled (lines 3–4)"


@pytest.mark.parametrize(
    "text",
    ['"', '" OR "a" OR "', "trail : liveness", "liv*", "NEAR(pod container, 100)", "^Memory", "a AND (b", "{trail}: x"],
)
def test_no_syntax_of_a_query_gets_out_of_its_quotes(text: str) -> None:
    query = phrase(text)
    assert query is None or (query[0], query[-1], query.count('"')) == ('"', '"', 2)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
async def test_any_text_is_a_question(make: Make, text: str) -> None:
    await make().search(question_of(text), limit=3)


def test_words() -> None:
    assert indexed("先看连接池x盘") == " 先看 看连 连接 接池 x 盘 ".replace("  ", " ").replace(" x ", " x ")
    assert words_of("How do I fix the OOMKilled pods?") == ["OOMKilled"]
    assert words_of("有没有数据库连接数耗尽的预案？") == ["数据库连接数耗尽"]
    assert words_of("the pods") == ["the", "pods"], "nothing else is there to look for"
