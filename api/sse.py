"""Server-sent events: encoding, heartbeats, and an end when the service drains.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi.sse import EventSourceResponse, format_sse_event

from errors import InvalidInput

HEARTBEAT_SECONDS = 15.0
HEARTBEAT = b": still here\n\n"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclass(frozen=True)
class Event:
    """`data` is sent as one line of JSON, so outside text cannot forge another event."""

    name: str
    data: Any
    id: str | None = None

    def encode(self) -> bytes:
        text = json.dumps(self.data, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace").decode()
        return format_sse_event(event=self.name, data_str=text, id=self.id)


def event_stream(events: AsyncIterator[Event], draining: asyncio.Event) -> EventSourceResponse:
    """Answer with `events`, a comment whenever there were none for a while, and an end when `draining` is set."""
    return EventSourceResponse(_encode(events, draining), headers=HEADERS)


async def _encode(events: AsyncIterator[Event], draining: asyncio.Event) -> AsyncIterator[bytes]:
    yield b"retry: 2000\n\n"
    stop = asyncio.create_task(draining.wait())
    pending: asyncio.Future[Event] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(events))
            waiting: set[asyncio.Future[Any]] = {pending, stop}
            await asyncio.wait(waiting, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if pending.done():
                try:
                    event = pending.result()
                except StopAsyncIteration:
                    return
                pending = None
                yield event.encode()
            elif stop.done():
                return  # the client comes back with Last-Event-ID
            else:
                yield HEARTBEAT
    finally:
        # the client is gone, or the stream has ended: nobody waits for the source any more
        for task in (stop, pending):
            if task is not None and not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration):
                    await task
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()


def last_event_id(header: str | None) -> int:
    """The `Last-Event-ID` of a reconnecting client, 0 without one. Raises InvalidInput for what was never sent."""
    if not header:
        return 0
    if not (header.isascii() and header.isdigit() and len(header) <= 9):
        raise InvalidInput("Last-Event-ID must be the id of an event of this stream, a whole number")
    return int(header)
