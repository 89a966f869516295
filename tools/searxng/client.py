"""One search: `GET /search?q=…&format=json` of a SearxNG server.

Source: docs.searxng.org, "Search API" (parameters, 403 for a format that the server's settings do not have) and
searx/webutils.py, get_json_response (the answer's fields). Nothing but the configured address is ever asked: no
redirect is followed, and no address among the results.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from errors import BudgetExhausted, ToolFailed, ToolTimeout
from settings import SearchSettings
from tools.trust import trusted

_ANSWER_BYTES = 1 << 20
_URL_CHARS = 2000
_TITLE_CHARS = 200
_SNIPPET_CHARS = 700
_CALLS_AN_HOUR = 60


@dataclass(frozen=True)
class Result:
    """What the server says of one page; the page itself was not read."""

    url: str
    title: str
    snippet: str


class SearxNG:
    """Raises BudgetExhausted before a search, ToolFailed or ToolTimeout after it."""

    def __init__(self, settings: SearchSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        assert settings.searxng_url is not None
        self._settings = settings
        self._url = settings.searxng_url.rstrip("/")
        self._clock = clock
        self._calls: deque[float] = deque()

    @classmethod
    def from_settings(cls, settings: SearchSettings) -> SearxNG | None:
        """The configured server, or None. It is not asked before the first search."""
        return cls(settings) if settings.searxng_url else None

    async def search(self, query: str) -> list[Result]:
        """The first results in the server's order, each address once. `query` must be fit to leave (`leaving`)."""
        self._claim()
        timeout = httpx.Timeout(self._settings.timeout)
        try:
            async with (
                httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False, verify=trusted()) as client,
                client.stream(
                    "GET",
                    f"{self._url}/search",
                    params={"q": query, "format": "json"},
                    headers={"Accept": "application/json"},
                ) as response,
            ):
                self._refuse(response)
                data = bytearray()
                async for piece in response.aiter_bytes():
                    data += piece
                    if len(data) > _ANSWER_BYTES:
                        raise ToolFailed(f"the SearxNG server's answer is longer than {_ANSWER_BYTES} bytes")
        except httpx.TimeoutException:
            raise ToolTimeout(f"the SearxNG server did not answer within {self._settings.timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ToolFailed(
                f"the SearxNG server cannot be reached ({type(error).__name__}); see search.searxng_url"
            ) from None
        return _results(bytes(data), self._settings.max_results)

    def _claim(self) -> None:
        now = self._clock()
        while self._calls and now - self._calls[0] > 3600:
            self._calls.popleft()
        if len(self._calls) >= _CALLS_AN_HOUR:
            raise BudgetExhausted(f"the web may be searched {_CALLS_AN_HOUR} times an hour, and was")
        self._calls.append(now)

    def _refuse(self, response: httpx.Response) -> None:
        code = response.status_code
        if code == 403:
            raise ToolFailed(
                "the SearxNG server refused (403): its settings.yml must have json among search.formats, and its "
                "limiter must let this service pass"
            )
        if code == 429:
            raise ToolFailed("the SearxNG server limits requests (429)")
        if 300 <= code < 400:
            raise ToolFailed("the SearxNG server redirects, which is not followed; set search.searxng_url to its end")
        if code != 200:
            raise ToolFailed(f"the SearxNG server answered {code}")
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            found = kind[:60] or "something"
            raise ToolFailed(f"the SearxNG server answered with {found} instead of JSON; see search.searxng_url")


def _results(data: bytes, limit: int) -> list[Result]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise ToolFailed("the SearxNG server's answer is no JSON") from None
    rows = document.get("results") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise ToolFailed("the SearxNG server's answer has no list of results")
    found: dict[str, Result] = {}
    for row in rows:
        result = _result(row)
        if result is not None:
            found.setdefault(result.url, result)
    return list(found.values())[:limit]


def _result(row: Any) -> Result | None:
    """A row that can be quoted with its source; None for any other."""
    if not isinstance(row, dict) or not isinstance(row.get("url"), str):
        return None
    url, title, snippet = row["url"].strip(), row.get("title"), row.get("content")
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or len(url) > _URL_CHARS:
        return None
    if any(character.isspace() or not character.isprintable() for character in url):
        return None
    title = title if isinstance(title, str) else ""
    snippet = snippet if isinstance(snippet, str) else ""
    return Result(url, " ".join(title.split())[:_TITLE_CHARS], " ".join(snippet.split())[:_SNIPPET_CHARS])
