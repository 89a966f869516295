"""A bound on request bodies, enforced before and while they are read."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem

UPLOADS = "/api/v1/uploads"


class BodyLimit:
    """ASGI middleware: 413 for a body over the limit, by its declared length or by what really arrives.

    The answer closes the connection: the rest of the body is never read.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, max_upload_bytes: int) -> None:
        self.app = app
        self._limit = max_body_bytes
        self._upload_limit = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self._upload_limit if scope["path"] == UPLOADS else self._limit
        detail = f"the body may have at most {limit} bytes"
        if _declared(scope) > limit:
            answer = problem(413, "Content Too Large", detail, scope["path"], headers={"Connection": "close"})
            await answer(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > limit:
                    # an HTTPException is the one error that the framework does not rewrite while it reads a body
                    raise HTTPException(413, detail, headers={"Connection": "close"})
            return message

        await self.app(scope, counted, send)


def _declared(scope: Scope) -> int:
    value = Headers(scope=scope).get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else 0
