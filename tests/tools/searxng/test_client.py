"""The search client against a strict stand-in: what it takes, and one clear error for everything else."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from errors import BudgetExhausted, ToolFailed, ToolTimeout
from settings import SearchSettings
from tests.standins.searxng import Behaviour, SearxngStandIn, result
from tools.searxng.client import SearxNG


@pytest.fixture(scope="module")
def _server() -> Iterator[SearxngStandIn]:
    with SearxngStandIn() as server:
        yield server


@pytest.fixture
def server(_server: SearxngStandIn) -> SearxngStandIn:
    _server.behaviour = Behaviour()
    _server.queries.clear()
    _server.seen.clear()
    return _server


def client(server: SearxngStandIn, **options: object) -> SearxNG:
    return SearxNG(SearchSettings.model_validate({"searxng_url": server.url, "timeout": 60.0} | options))


async def test_results_in_the_servers_order_each_address_once(server: SearxngStandIn) -> None:
    server.behaviour.results = [
        result("https://a.example/1", "One\nline", "  A   snippet "),
        result("https://a.example/1", "Again", "same"),
        result("http://b.example/", "Two", ""),
        result("https://c.example/", "Three", "past the limit"),
    ]
    found = await client(server, max_results=2).search("too many connections")
    assert [(item.url, item.title, item.snippet) for item in found] == [
        ("https://a.example/1", "One line", "A snippet"),
        ("http://b.example/", "Two", ""),
    ]
    assert server.queries == ["too many connections"]
    assert len(server.seen) == 1, "no result is ever opened"


async def test_a_base_path_and_a_closing_slash(server: SearxngStandIn) -> None:
    assert await client(server, searxng_url=f"{server.url}/").search("a b") == []


async def test_rows_that_cannot_be_quoted_are_left_out(server: SearxngStandIn) -> None:
    server.behaviour.results = [
        "text",
        {"title": "no address"},
        result("javascript:alert(1)", "x", "y"),
        result("ftp://a.example/", "x", "y"),
        result("https://user:pass@a.example/", "x", "y"),
        result("https://a.example/with blank", "x", "y"),
        result("https://[::1/", "x", "y"),
        result("https://a.example/" + "x" * 3000, "x", "y"),
        {"url": "https://good.example/", "title": 7, "content": None},
        result("https://long.example/", "t" * 900, "s" * 9000),
    ]
    found = await client(server).search("a b")
    assert [item.url for item in found] == ["https://good.example/", "https://long.example/"]
    assert (len(found[1].title), len(found[1].snippet)) == (200, 700)


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (Behaviour(formats=("html",)), "json among search.formats"),
        (Behaviour(status=403), "json among search.formats"),
        (Behaviour(status=429), "limits requests"),
        (Behaviour(status=500), "answered 500"),
        (Behaviour(location="https://elsewhere.example/search"), "redirects, which is not followed"),
        (Behaviour(raw=b"<html></html>", content_type="text/html"), "text/html instead of JSON"),
        (Behaviour(raw=b"{"), "is no JSON"),
        (Behaviour(raw=b"[" * 100_000), "is no JSON"),
        (Behaviour(raw=b"[]"), "no list of results"),
        (Behaviour(raw=json.dumps({"results": {"a": 1}}).encode()), "no list of results"),
        (Behaviour(raw=b" " * (1 << 20) + b"{}"), "longer than"),
    ],
)
async def test_every_wrong_answer_is_one_error(server: SearxngStandIn, behaviour: Behaviour, said: str) -> None:
    server.behaviour = behaviour
    with pytest.raises(ToolFailed, match=said):
        await client(server).search("a b")
    assert len(server.seen) == 1


async def test_a_silent_server(server: SearxngStandIn) -> None:
    server.behaviour.wait = 1.0
    with pytest.raises(ToolTimeout, match=r"within 0\.1 s"):
        await client(server, timeout=0.1).search("a b")


async def test_no_server() -> None:
    nobody = SearxNG(SearchSettings(searxng_url="http://127.0.0.1:1"))
    with pytest.raises(ToolFailed, match="cannot be reached"):
        await nobody.search("a b")


async def test_an_hour_has_so_many_searches(server: SearxngStandIn) -> None:
    now = 0.0
    settings = SearchSettings(searxng_url=server.url)
    search = SearxNG(settings, clock=lambda: now)
    for _ in range(60):
        search._claim()
    with pytest.raises(BudgetExhausted, match="60 times an hour"):
        await search.search("a b")
    assert server.seen == []
    now = 3601.0
    assert await search.search("a b") == []


@pytest.mark.parametrize("url", ["searx.example", "ftp://searx.example", "http://u:p@searx.example", "http://s/?q=1"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="searxng_url"):
        SearchSettings(searxng_url=url)


def test_unset_means_no_search() -> None:
    assert SearxNG.from_settings(SearchSettings()) is None
