"""A strict stand-in for SearxNG's search API: `GET` or `POST` of `/search`, answering JSON where its settings allow.

From docs.searxng.org ("Search API") and searx/webutils.py: an unset format is 403, an empty `q` is 400, an external
bang (`!!g`) is a redirect to that engine, and an answer has exactly the fields below. Parameters that the API does not
have are refused here, to find mistakes; the server itself ignores them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.standins.serving import ServerThread

_PARAMETERS = {"q", "categories", "engines", "language", "pageno", "time_range", "format", "safesearch"}


def result(url: str, title: str, content: str) -> dict[str, Any]:
    """A row as the server sends it."""
    return {
        "template": "default.html",
        "engine": "duckduckgo",
        "engines": ["duckduckgo"],
        "parsed_url": ["https", "example.org", "/", "", "", ""],
        "positions": [1],
        "score": 1.0,
        "category": "general",
        "url": url,
        "title": title,
        "content": content,
    }


@dataclass
class Behaviour:
    """How the server answers: as it should, or not."""

    results: list[Any] = field(default_factory=list)
    formats: tuple[str, ...] = ("html", "json")
    status: int = 200
    raw: bytes | None = None
    content_type: str = "application/json"
    location: str | None = None
    wait: float = 0.0


class SearxngStandIn:
    """`queries` are what was searched for; `seen` whole request lines with their headers, for what must not leave."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.queries: list[str] = []
        self.seen: list[str] = []
        routes = [
            Route("/search", self._search, methods=["GET", "POST"]),
            Route("/{rest:path}", self._other, methods=["GET", "POST"]),
        ]
        self._thread = ServerThread(Starlette(routes=routes))
        self.url = self._thread.url

    def __enter__(self) -> SearxngStandIn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.stop()

    async def _search(self, request: Request) -> Response:
        self.seen.append(f"{request.method} {request.url} {dict(request.headers)}")
        how = self.behaviour
        given = request.query_params if request.method == "GET" else await request.form()
        query, form = str(given.get("q", "")), str(given.get("format", "html"))
        self.queries.append(query)
        if how.wait:
            await asyncio.sleep(how.wait)
        if how.status != 200:
            return PlainTextResponse("Too Many Requests" if how.status == 429 else "error", how.status)
        if unknown := set(given) - _PARAMETERS:
            return PlainTextResponse(f"unknown parameter {sorted(unknown)[0]}", 400)
        if form not in how.formats:
            return PlainTextResponse("Forbidden", 403)
        if not query.strip():
            return PlainTextResponse("No query", 400)
        if query.startswith("!!") or how.location:
            return RedirectResponse(how.location or "https://www.google.com/search", 302)
        if how.raw is not None:
            return Response(how.raw, media_type=how.content_type)
        if form == "html":
            return HTMLResponse("<html></html>")
        return JSONResponse(
            {
                "query": query,
                "number_of_results": 0,
                "results": how.results,
                "answers": [],
                "corrections": [],
                "infoboxes": [],
                "suggestions": [],
                "unresponsive_engines": [["google", "timeout"]],
            }
        )

    async def _other(self, request: Request) -> Response:
        self.seen.append(f"{request.method} {request.url}")
        return HTMLResponse("<html>the start page</html>")
