"""The webhook as a process: HTTPS with a certificate that may be replaced while it runs."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from collector.webhook.measures import WebhookMeasures
from collector.webhook.nodes import Nodes
from collector.webhook.review import Reviewer
from errors import InvalidInput, ToolMissing
from settings import Settings
from tools.kubernetes.client import Cluster

_MAX_BODY = 8 << 20  # the API server's own limit of a request is 3 MiB; old and new object come together
_RELOAD_SECONDS = 10.0

log = structlog.get_logger(__name__)


def create_app(reviewer: Reviewer, measures: WebhookMeasures) -> Starlette:
    """`POST /mutate`, `GET /livez` and `/readyz` for the kubelet, and `GET /metrics`."""

    async def mutate(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY:
                measures.invalid()
                return _problem(413, f"a review is at most {_MAX_BODY} bytes")
        try:
            with measures.seconds.time():
                return JSONResponse(await reviewer.answer(bytes(body)))
        except InvalidInput as error:
            measures.invalid()
            return _problem(400, str(error))

    async def metrics(_: Request) -> Response:
        return Response(measures.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def alive(_: Request) -> Response:
        return PlainTextResponse("ok")

    return Starlette(
        routes=[
            Route("/mutate", mutate, methods=["POST"]),
            Route("/livez", alive),
            Route("/readyz", alive),
            Route("/metrics", metrics),
        ]
    )


async def run(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM. Raises InvalidInput when the certificate cannot be read or the address not be bound."""
    webhook = settings.webhook
    async with AsyncExitStack() as stack:
        try:
            cluster = await Cluster.connect(settings.kubernetes)
            stack.push_async_callback(cluster.close)
        except ToolMissing:
            cluster = None
            log.warning("no cluster: nothing is known of nodes and of pods that are there")
        nodes = Nodes(cluster, webhook.max_pods)
        measures = WebhookMeasures()
        app = create_app(Reviewer(webhook, nodes.warnings, nodes.full, nodes.forbids, measures.count), measures)
        config = uvicorn.Config(
            app,
            host=webhook.host,
            port=webhook.port,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ssl_certfile=str(webhook.certificate),
            ssl_keyfile=str(webhook.key),
            timeout_graceful_shutdown=5,
        )
        try:
            await asyncio.to_thread(config.load)
        except (OSError, ssl.SSLError) as error:
            reason = getattr(error, "strerror", None) or "they do not fit each other"
            raise InvalidInput(f"webhook.certificate and webhook.key cannot be used: {reason}") from None
        assert config.ssl is not None
        server = _Server(config, ready)
        reloading = asyncio.create_task(_reload(config.ssl, webhook.certificate, webhook.key))
        try:
            await server.serve()
        except asyncio.CancelledError:
            await server.shutdown()  # else its listener stays open
            raise
        except SystemExit:  # uvicorn's way to say that it cannot listen
            raise InvalidInput(f"cannot listen on {webhook.host}:{webhook.port}") from None
        finally:
            reloading.cancel()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.servers:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._ready(f"https://{host}:{port}")


async def _reload(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """New connections get the newest certificate: its files are a Secret that is renewed."""
    last = await asyncio.to_thread(_stamp, certificate, key)
    while True:
        await asyncio.sleep(_RELOAD_SECONDS)
        now = await asyncio.to_thread(_stamp, certificate, key)
        if now == last:
            continue
        try:
            await asyncio.to_thread(context.load_cert_chain, certificate, key)
        except (OSError, ssl.SSLError):  # in the middle of being replaced
            log.warning("the new certificate cannot be used yet")
            continue
        last = now
        log.info("certificate renewed")


def _stamp(*files: Path) -> list[tuple[int, int]]:
    found = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        found.append((status.st_mtime_ns, status.st_ino))
    return found


def _problem(status: int, detail: str) -> Response:
    body = json.dumps({"status": status, "detail": detail})
    return Response(body, status, media_type="application/problem+json")
