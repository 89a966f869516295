"""The chat, as a stream of events or as one answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any, cast

import structlog
from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, Field, StringConstraints
from starlette.responses import JSONResponse, Response

from api.auth import Caller, Reader
from api.dependencies import checked_id, services_of
from api.fields import Body, Plain
from api.problems import RESPONSES
from api.sse import Event, event_stream
from errors import ParamedicError

if TYPE_CHECKING:
    from graph.chat import Chat

router = APIRouter(tags=["chat"], responses=RESPONSES)
_log = structlog.get_logger(__name__)
_DOCUMENTED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `step`, `token`, `citation`, then `done` or `error`; or one JSON document on request",
        "content": {
            "text/event-stream": {},
            "application/json": {"schema": {"$ref": "#/components/schemas/ChatAnswer"}},
        },
    }
}


class ChatBody(Body):
    """A message, and where it belongs."""

    message: Annotated[str, StringConstraints(min_length=1, max_length=4000, strip_whitespace=True), Plain] = Field(
        examples=["what happened to shop/api?"]
    )
    conversation_id: Annotated[str, StringConstraints(max_length=80)] | None = Field(
        default=None, description="From `done` of an earlier answer; new without one"
    )
    incident_id: Annotated[str, StringConstraints(max_length=80)] | None = None


class ChatAnswer(BaseModel):
    """The answer as one document (`Accept: application/json`)."""

    conversation_id: str
    incident_id: str | None
    intent: str
    by: str = Field(description="`rules`, or the model that answered")
    text: str
    citations: list[dict[str, Any]]
    steps: list[dict[str, Any]]


@router.post("/api/v1/diagnose", response_model=ChatAnswer, responses=_DOCUMENTED)
async def diagnose(
    request: Request, caller: Reader, body: ChatBody, accept: Annotated[str, Header(include_in_schema=False)] = ""
) -> Response:
    """Ask about crashes. Answers come from the record, with citations; nothing is approved or executed here."""
    return await _answer(request, caller, body, accept)


@router.post("/diagnose", response_model=ChatAnswer, responses=_DOCUMENTED)
async def diagnose_short(
    request: Request, caller: Reader, body: ChatBody, accept: Annotated[str, Header(include_in_schema=False)] = ""
) -> Response:
    """The same as `/api/v1/diagnose`."""
    return await _answer(request, caller, body, accept)


async def _answer(request: Request, caller: Caller, body: ChatBody, accept: str) -> Response:
    chat: Chat = request.app.state.chat
    if body.incident_id is not None:
        await services_of(request).incidents.get(checked_id(body.incident_id, "incident"))
    # opened before the stream begins: another one's conversation is a 404, not an event
    conversation_id = await chat.conversations.open(body.conversation_id, caller.identity)
    events = _events(chat, caller, body, conversation_id)
    if "application/json" in accept and "text/event-stream" not in accept:
        return await _document(events)
    return event_stream(events, request.app.state.draining)


async def _events(chat: Chat, caller: Caller, body: ChatBody, conversation_id: str) -> AsyncIterator[Event]:
    try:
        async for event in chat.reply(
            body.message,
            caller=caller.identity,
            may_start="autofix" in caller.scopes,
            conversation_id=conversation_id,
            incident_id=body.incident_id,
        ):
            yield Event(event.type, event.data)
    except ParamedicError as error:  # headers are out: an error can only be an event
        yield Event("error", {"title": error.title, "status": error.status, "detail": str(error)})
    except Exception as error:
        _log.error("the chat failed", exc_info=error)
        yield Event("error", {"title": "Internal error", "status": 500, "detail": "the log of the service has it"})


async def _document(events: AsyncIterator[Event]) -> Response:
    collected: dict[str, list[dict[str, Any]]] = {}
    async for event in events:
        collected.setdefault(event.name, []).append(cast("dict[str, Any]", event.data))
    if "error" in collected:
        failure = collected["error"][0]
        raise _Failed(failure)
    answer = ChatAnswer(
        **collected["done"][0], citations=collected.get("citation", []), steps=collected.get("step", [])
    )
    return JSONResponse(answer.model_dump())


class _Failed(ParamedicError):
    """An error event, as the problem it would have been."""

    def __init__(self, failure: dict[str, Any]) -> None:
        super().__init__(failure["detail"])
        self.title = failure["title"]
        self.status = failure["status"]
