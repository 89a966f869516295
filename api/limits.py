"""A bound on request bodies, enforced before and while they are read."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem

UPLOADS = "/api/v1/uploads"


LINGER_BYTES = 32 << 20
LINGER_SECONDS = 2.0
"""How much of a refused body is thrown away before the connection is cut. Cutting at once would lose the answer: a
client that is still writing then sees a reset, not what was wrong."""


class BodyLimit:
    """ASGI middleware: 413 for a body over the limit, by its declared length or by what really arrives."""

    def __init__(self, app: ASGIApp, max_body_bytes: int, max_upload_bytes: int) -> None:
        self.app = app
        self._limit = max_body_bytes
        self._upload_limit = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self._upload_limit if scope["path"] == UPLOADS else self._limit
        body = _Body(limit, receive, send)
        if _declared(scope) > limit:
            body.over = True
            answer = problem(413, "Content Too Large", body.detail, scope["path"], headers={"Connection": "close"})
            await answer(scope, receive, body.send)
        else:
            await self.app(scope, body.receive, body.send)


class _Body:
    """One request's body, counted while it is read."""

    def __init__(self, limit: int, receive: Receive, send: Send) -> None:
        self.detail = f"the body may have at most {limit} bytes"
        self.over = False
        self._limit = limit
        self._seen = 0
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if self._seen > self._limit:
                self.over = True
                # an HTTPException is the one error that the framework does not rewrite while it reads a body
                raise HTTPException(413, self.detail, headers={"Connection": "close"})
        return message

    async def send(self, message: Message) -> None:
        ends = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not (ends and self.over):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await self._linger()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _linger(self) -> None:
        thrown = 0
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while thrown < LINGER_BYTES:
                    message = await self._receive()
                    thrown += len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
        except TimeoutError:
            return


def _declared(scope: Scope) -> int:
    value = Headers(scope=scope).get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else 0
