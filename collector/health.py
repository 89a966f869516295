"""What a node agent shows of itself: `GET /metrics`, `/livez` and `/readyz`, in an HTTP server of a few lines.

Three small answers to a kubelet and a Prometheus do not need a framework in the memory of every node.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from collector.agent import Agent
from collector.measures import Measures, Queue
from collector.outbox import Outbox
from errors import InvalidInput, ParamedicError

Answer = Callable[[], Awaitable[tuple[int, bytes]]]
_MAX_HEAD = 8 << 10
_SECONDS = 5.0
_MOST = 16
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
_PROBE = bytes(4096)
_CHECK_SECONDS = 60.0


class Health:
    """Ready: the outbox is whole, its disk can be written to, and every folder was read not long ago."""

    def __init__(
        self,
        agent: Agent,
        outbox: Outbox,
        measures: Measures,
        folder: Path,
        *,
        scan_within: float,
        aliases: bool = False,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._agent, self._outbox, self._measures, self._folder = agent, outbox, measures, folder
        self._scan_within, self._aliases, self._wall, self._clock = scan_within, aliases, wall, clock
        self._check_at = float("-inf")
        self._damaged: str | None = None

    def answers(self) -> Mapping[str, Answer]:
        return {"/livez": self.alive, "/readyz": self.ready, "/metrics": self.metrics}

    async def alive(self) -> tuple[int, bytes]:
        return 200, b"ok\n"

    async def ready(self) -> tuple[int, bytes]:
        try:
            await asyncio.to_thread(self._writable)
        except (ParamedicError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            return 503, f"the outbox cannot be written: {reason}\n".encode()
        try:
            damage = await asyncio.to_thread(self._damage)
        except ParamedicError as error:
            damage = str(error)
        if damage is not None:
            return 503, f"the outbox is damaged: {damage}\n".encode()
        since = self._agent.seconds_since_look()
        if since is None:
            return 503, b"the folders of cores were not looked at yet\n"
        if since > self._scan_within:
            return 503, f"the folders of cores were last looked at {since:.0f} seconds ago\n".encode()
        for root, reason in self._agent.unreadable.items():
            return 503, f"the folder of cores {root} cannot be read: {reason}\n".encode()
        return 200, b"ok\n"

    async def metrics(self) -> tuple[int, bytes]:
        try:
            queue = await asyncio.to_thread(self._queue)
        except (ParamedicError, OSError) as error:
            return 503, f"the outbox cannot be read: {error}\n".encode()
        return 200, self._measures.render(queue, aliases=self._aliases)

    def _damage(self) -> str | None:
        """Looked for at most once a minute: it reads the whole file."""
        if self._clock() >= self._check_at:
            self._damaged = self._outbox.damage()
            self._check_at = self._clock() + _CHECK_SECONDS
        return self._damaged

    def _queue(self) -> Queue:
        disk = os.statvfs(self._folder)
        oldest = self._outbox.oldest()
        return Queue(
            self._outbox.counts(),
            max(0.0, self._wall() - oldest) if oldest is not None else 0.0,
            sum(1 for _ in (self._folder / "dead-letters").glob("*.json")),
            disk.f_bavail * disk.f_frsize,
        )

    def _writable(self) -> None:
        self._outbox.counts()
        probe = self._folder / "probe.part"
        probe.write_bytes(_PROBE)  # a full disk refuses this as it would the next core's record
        probe.unlink(missing_ok=True)  # another answer may be under way


@asynccontextmanager
async def listening(host: str, port: int, answers: Mapping[str, Answer]) -> AsyncIterator[int]:
    """Answer for as long as the context lasts; the port. Raises InvalidInput when it cannot be listened on."""
    busy = asyncio.Semaphore(_MOST)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS), busy:
                status, body = await _answer(reader, answers)
                head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Length: {len(body)}\r\n"
                kind = "text/plain; version=0.0.4; charset=utf-8"
                writer.write(f"{head}Content-Type: {kind}\r\nConnection: close\r\n\r\n".encode() + body)
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            pass  # whoever asked went away, or never finished asking
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(talk, host, port, limit=_MAX_HEAD)
    except OSError as error:
        raise InvalidInput(f"collector.metrics_port: cannot listen on {host}:{port}: {error.strerror}") from None
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _answer(reader: asyncio.StreamReader, answers: Mapping[str, Answer]) -> tuple[int, bytes]:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return 400, b"the request is too long\n"
    parts = head.split(b"\r\n", 1)[0].split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
        return 400, b"this is no HTTP request\n"
    answer = answers.get(parts[1].split(b"?", 1)[0].decode("ascii", "replace"))
    if answer is None:
        return 404, b"there are /metrics, /livez and /readyz\n"
    if parts[0] != b"GET":
        return 405, b"only GET\n"
    return await answer()
