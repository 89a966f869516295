"""Feishu's callback: presses of the buttons on approval cards.

It needs no key of ours: Feishu signs and encrypts what it sends, and who pressed is decided by the gate's allow-list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from api.dependencies import services_of
from api.problems import RESPONSES, problem
from incidents.seen_events import SeenEvents
from tools.feishu.callback import Rejected, callback_keys, handle_callback
from tools.feishu.texts import language_of

if TYPE_CHECKING:
    from graph.services import Services

MAX_BODY_BYTES = 64 * 1024
_SOURCE = "feishu"

router = APIRouter(prefix="/api/v1/feishu", tags=["feishu"], responses=RESPONSES)
log = structlog.get_logger(__name__)


@router.post(
    "/callback",
    responses={
        403: {"description": "Not a genuine, fresh push of our app; the same answer for every cause"},
        503: {"description": "Callbacks are not configured"},
    },
)
async def feishu_callback(request: Request) -> Response:
    """Answer a card button press or a URL verification of Feishu."""
    services = services_of(request)
    callback_keys(services.settings.feishu)
    try:
        body = await _limited_body(request)
        answer = await _handle(services, dict(request.headers), body)
    except Rejected as rejected:
        log.warning("callback rejected", why=rejected.why)
        # without `Connection: close` the server would read the rest of a body that nobody wants
        headers = {"Connection": "close"}
        return problem(rejected.status, rejected.title, str(rejected), request.url.path, headers=headers)
    return JSONResponse(answer)


async def _handle(services: Services, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    events = SeenEvents(services.database)
    settings = services.settings.feishu.model_copy(update={"language": language_of(services.settings)})

    async def seen(event_id: str) -> bool:
        return await events.seen(_SOURCE, event_id)

    return await handle_callback(
        headers, body, settings=settings, decide=services.runner.decide, seen=seen, lookup=services.approvals.get
    )


async def _limited_body(request: Request) -> bytes:
    """At most `MAX_BODY_BYTES`, counted while reading: a declared length may lie."""
    declared = request.headers.get("content-length", "0")
    if not declared.isascii() or not declared.isdigit() or len(declared) > 9 or int(declared) > MAX_BODY_BYTES:
        raise Rejected("too large")
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise Rejected("too large")
    except ClientDisconnect:
        raise Rejected("cut off") from None
    return bytes(body)
