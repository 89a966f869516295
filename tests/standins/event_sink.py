"""A sink of CloudEvents over HTTP: strict about the format, and as unfriendly as the test asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tools.cloudevents.event import CloudEvent, read_events


@dataclass
class EventSinkServer:
    """`events` were taken; `raw` are all bodies and headers that came, as text."""

    status: int = 202
    key: str | None = None
    events: list[CloudEvent] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        told = {name: value for name, value in headers.items() if name != "authorization"}
        self.raw.append(f"{told}\n{body.decode()}")
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            return web.Response(status=401)
        [event] = read_events(headers, body)
        if self.status < 300:
            self.events.append(event)
        return web.Response(status=self.status)


@asynccontextmanager
async def event_sink(status: int = 202, key: str | None = None) -> AsyncIterator[EventSinkServer]:
    made = EventSinkServer(status, key)
    app = web.Application()
    app.router.add_post("/events", made.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/events"
    try:
        yield made
    finally:
        await runner.cleanup()
