"""The service as a process: opens the services, serves, drains on SIGTERM, leaves everything resumable."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import structlog
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from errors import InvalidInput
from settings import Settings

_log = structlog.get_logger(__name__)
DRAIN_SECONDS = 2.0
"""How long the service still answers after SIGTERM, unready, so that nothing new is sent to it."""
GRACE_SECONDS = 10
"""What requests in progress get after that before they are cut."""
IDLE_SECONDS = 75
"""An idle connection is kept longer than load balancers keep theirs (60 s), so that none is closed under a request."""


class Server(uvicorn.Server):
    """uvicorn, but with our own way to stop: it would end the process with the signal before services are closed."""

    def __init__(self, app: FastAPI, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM drains; SIGINT (a person at the terminal) stops at once, and so does a second signal."""
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self._drain, signal.SIGINT: self._stop}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _drain(self) -> None:
        if self._app.state.draining.is_set():
            self._stop()
            return
        _log.info("draining")
        self._app.state.draining.set()
        asyncio.get_running_loop().call_later(DRAIN_SECONDS, self._stop)

    def _stop(self) -> None:
        self._app.state.draining.set()
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


def _say(url: str) -> None:
    print(f"Paramedic answers at {url}", flush=True)


async def run(settings: Settings, ready: Callable[[str], None] = _say) -> None:
    """Run the service until SIGTERM or SIGINT. `ready` is called with its URL once requests are answered.

    Raises InvalidInput when the address cannot be bound, and what `open_services` raises.
    """
    from graph.services import open_services  # heavy: `--help` must not pay for it

    # bound first: a port in use is told before incidents of the last run are taken up
    listener = _bind(settings.api.host, settings.api.port)
    with listener:
        async with open_services(settings) as services:
            app = create_app(services)
            config = uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # whoever set these headers is not believed: identities come from keys, or from the peer itself
                proxy_headers=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
                timeout_keep_alive=IDLE_SECONDS,
            )
            server = Server(app, config, lambda: ready(_url(listener)))
            stop = asyncio.Event()
            await services.runner.start()
            notifying = asyncio.create_task(services.notifier.run(stop), name="notifier")
            notifying.add_done_callback(_report)
            collecting = asyncio.create_task(services.core_events.run(), name="core events")
            collecting.add_done_callback(_report)
            forecasting = None
            if services.forecaster is not None:
                forecasting = asyncio.create_task(services.forecaster.run(), name="load prediction")
                forecasting.add_done_callback(_report)
            counting = None
            if services.storm_watch is not None:
                counting = asyncio.create_task(services.storm_watch.run(), name="counting of crashes")
                counting.add_done_callback(_report)
            try:
                await server.serve(sockets=[listener])
            finally:
                stop.set()
                collecting.cancel()
                for task in (counting, forecasting):
                    if task is not None:
                        task.cancel()
                await services.runner.drain()
                with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                    await asyncio.wait_for(notifying, GRACE_SECONDS)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error(f"the {task.get_name()} stopped; what is queued stays so until the next start", exc_info=error)


def _bind(host: str, port: int) -> socket.socket:
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise InvalidInput(
            f"cannot listen on {host}:{port}: {error.strerror or error}; set PARAMEDIC_API__PORT to a free one"
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{name}:{port}"
