"""A strict stand-in for model servers, in both wire formats: OpenAI's `/v1` and Ollama's `/api`.

It refuses what the vendors refuse (see `llm_openai` and `llm_ollama`) and answers by a script: each request takes the
next item, which is a behaviour or a function from the request's JSON to one. An empty script answers "ready".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.standins import llm_ollama, llm_openai
from tests.standins.llm_wire import Rejected
from tests.standins.serving import ServerThread

KEY = "sk-standin-0123456789abcdefghij"
OPENAI_MODEL = "scripted-large"
EMBEDDING_MODEL = "scripted-embedding"
OLLAMA_MODELS = {"scripted:8b": True, "plain:1b": False}
"""Name to whether it can call tools."""


@dataclass
class Say:
    """Text. `usage` is (input, output) tokens; None counts nothing, as some compatible servers do."""

    text: str
    usage: tuple[int, int] | None = (100, 20)
    finish: str | None = "stop"


@dataclass
class Call:
    """Calls of tools: (name, arguments). Arguments given as a string are sent as they are, JSON or not."""

    calls: list[tuple[str, dict[str, Any] | str]]
    text: str = ""
    usage: tuple[int, int] | None = (100, 20)


@dataclass
class Fail:
    """An error status in the vendor's shape."""

    status: int
    message: str = "scripted failure"
    headers: dict[str, str] = field(default_factory=dict)
    code: str | None = None


@dataclass
class Cut:
    """The connection breaks after this text."""

    text: str


@dataclass
class Garbage:
    """A body of status 200 that is not what it should be."""

    body: str = "<html>gateway</html>"
    content_type: str = "application/json"


@dataclass
class Slow:
    """Nothing for so many seconds, then text."""

    seconds: float
    text: str = "late"


Behaviour = Say | Call | Fail | Cut | Garbage | Slow
Script = list[Behaviour | Callable[[dict[str, Any]], Behaviour]]


class LlmStandIn:
    """`requests` holds every JSON body received, in order; `rejected` what was refused as invalid, and why."""

    def __init__(self, port: int = 0) -> None:
        self.reset()
        routes = [
            Route("/v1/chat/completions", self._openai, methods=["POST"]),
            Route("/api/chat", self._ollama, methods=["POST"]),
            Route("/v1/embeddings", self._openai_embeddings, methods=["POST"]),
            Route("/api/embed", self._ollama_embed, methods=["POST"]),
            Route("/api/tags", self._tags),
            Route("/api/show", self._show, methods=["POST"]),
            Route("/api/pull", self._pull, methods=["POST"]),
        ]
        self._thread = ServerThread(Starlette(routes=routes), port=port)
        self.ollama_url = self._thread.url
        self.openai_url = f"{self._thread.url}/v1"

    def reset(self) -> None:
        """As new; for tests that share one server."""
        self.script: Script = []
        self.requests: list[dict[str, Any]] = []
        self.rejected: list[str] = []
        self.embedded: list[list[str]] = []

    def __enter__(self) -> LlmStandIn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.stop()

    async def _openai(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return llm_openai.error(401, "Incorrect API key provided: sk-stan****ghij.", "invalid_api_key")
        try:
            body = await self._body(request)
            llm_openai.check(body, OPENAI_MODEL)
        except Rejected as problem:
            self.rejected.append(str(problem))
            return llm_openai.error(problem.status, str(problem), problem.code)
        behaviour = self._next(body)
        if isinstance(behaviour, Fail):
            return llm_openai.error(behaviour.status, behaviour.message, behaviour.code, behaviour.headers)
        if isinstance(behaviour, Slow):
            await asyncio.sleep(behaviour.seconds)
            behaviour = Say(behaviour.text)
        if isinstance(behaviour, Garbage):
            return Response(behaviour.body, media_type=behaviour.content_type)
        if body.get("stream"):
            usage = bool((body.get("stream_options") or {}).get("include_usage"))
            return _stream(llm_openai.events(behaviour, usage), "text/event-stream")
        if isinstance(behaviour, Cut):
            return _stream(_cut(json.dumps(llm_openai.completion(Say(behaviour.text)))[:-20]), "application/json")
        return JSONResponse(llm_openai.completion(behaviour))

    async def _ollama(self, request: Request) -> Response:
        try:
            body = await self._body(request)
            llm_ollama.check(body, OLLAMA_MODELS)
        except Rejected as problem:
            self.rejected.append(str(problem))
            return JSONResponse({"error": str(problem)}, problem.status)
        behaviour = self._next(body)
        if isinstance(behaviour, Fail):
            return JSONResponse({"error": behaviour.message}, behaviour.status, headers=behaviour.headers)
        if isinstance(behaviour, Slow):
            await asyncio.sleep(behaviour.seconds)
            behaviour = Say(behaviour.text)
        if isinstance(behaviour, Garbage):
            return Response(behaviour.body, media_type="application/x-ndjson")
        return _stream(llm_ollama.events(behaviour, body["model"]), "application/x-ndjson")

    async def _openai_embeddings(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return llm_openai.error(401, "Incorrect API key provided: sk-stan****ghij.", "invalid_api_key")
        try:
            body = await self._body(request)
            llm_openai.check_embeddings(body, EMBEDDING_MODEL)
        except Rejected as problem:
            self.rejected.append(str(problem))
            return llm_openai.error(problem.status, str(problem), problem.code)
        if (trouble := await self._trouble(body)) is not None:
            return trouble
        return JSONResponse(llm_openai.embeddings([_vector(text) for text in body["input"]], len(body["input"])))

    async def _ollama_embed(self, request: Request) -> Response:
        try:
            body = await self._body(request)
            llm_ollama.check_embed(body, EMBEDDING_MODEL)
        except Rejected as problem:
            self.rejected.append(str(problem))
            return JSONResponse({"error": str(problem)}, problem.status)
        if (trouble := await self._trouble(body)) is not None:
            return trouble
        vectors = [_vector(text) for text in body["input"]]
        return JSONResponse({"model": EMBEDDING_MODEL, "embeddings": vectors, "prompt_eval_count": len(vectors)})

    async def _trouble(self, body: dict[str, Any]) -> Response | None:
        """What the script has for a request of vectors, when that is no vectors."""
        self.embedded.append(body["input"])
        behaviour = self._next(body) if self.script else None
        if isinstance(behaviour, Fail):
            return JSONResponse({"error": behaviour.message}, behaviour.status, headers=behaviour.headers)
        if isinstance(behaviour, Garbage):
            return Response(behaviour.body, media_type=behaviour.content_type)
        if isinstance(behaviour, Slow):
            await asyncio.sleep(behaviour.seconds)
        return None

    async def _tags(self, _: Request) -> Response:
        return JSONResponse({"models": [llm_ollama.tag(name) for name in OLLAMA_MODELS]})

    async def _show(self, request: Request) -> Response:
        name = (await request.json()).get("model")
        if name not in OLLAMA_MODELS:
            return JSONResponse({"error": f"model '{name}' not found"}, 404)
        tools = ["tools"] if OLLAMA_MODELS[name] else []
        return JSONResponse({"details": {"family": "scripted"}, "capabilities": ["completion", *tools]})

    async def _pull(self, request: Request) -> Response:
        name = (await request.json()).get("model")

        async def lines() -> AsyncIterator[str]:
            for event in llm_ollama.pull_events(name):
                yield json.dumps(event) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def _body(self, request: Request) -> dict[str, Any]:
        try:
            body = await request.json()
        except ValueError:
            raise Rejected("We could not parse the JSON body of your request.") from None
        if not isinstance(body, dict):
            raise Rejected("the body must be an object")
        self.requests.append(body)
        return body

    def _next(self, body: dict[str, Any]) -> Behaviour:
        item = self.script.pop(0) if self.script else Say("ready")
        return item(body) if callable(item) else item


def _vector(text: str) -> list[float]:
    """A direction for each subject that a text speaks of: enough to be alike in meaning without a shared word."""
    subjects = (("memory", "oom", "heap", "内存"), ("disk", "storage", "磁盘"), ("network", "dns", "网络"))
    found = [float(sum(word in text.lower() for word in words)) for words in subjects]
    return [*found, 0.1]


async def _cut(text: str) -> AsyncIterator[str]:
    yield text
    raise ConnectionResetError("scripted cut")


def _stream(lines: AsyncIterator[str], media_type: str) -> Response:
    async def body(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-type", media_type.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async for line in lines:
                await send({"type": "http.response.body", "body": line.encode(), "more_body": True})
        except ConnectionResetError:
            return  # without the last chunk: the server closes the connection, and the client sees it broken
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return body  # type: ignore[return-value]  # an ASGI application is what a Starlette endpoint may return
