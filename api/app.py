"""The application: middleware, routes and the console page around one set of services."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from api import problems
from api.auth import Authentication
from api.envelope import Envelope
from api.limits import BodyLimit
from api.metrics import HttpMetrics
from api.openapi import describe
from api.routes.health import HealthCheck
from graph.chat import Chat
from graph.subject import Resolver

if TYPE_CHECKING:
    from graph.services import Services

ROUTES = (
    "health",
    "autofix",
    "incidents",
    "approvals",
    "uploads",
    "events",
    "instances",
    "rca",
    "predict",
    "diagnose",
    "feishu",
    "console",
)


def create_app(services: Services) -> FastAPI:
    """The API over opened services. The app opens and closes nothing itself.

    `app.state.draining` is set by the server when it is about to stop: streams end, `/readyz` answers 503.
    """
    settings = services.settings.api
    app = FastAPI(
        title="Paramedic",
        version="1",
        generate_unique_id_function=_operation_id,
        docs_url=None,  # the framework's pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.draining = asyncio.Event()
    app.state.chat = Chat(services)
    app.state.resolver = Resolver(services)
    app.state.metrics = HttpMetrics()
    app.state.health = HealthCheck()
    app.state.rca_turn = asyncio.Semaphore(services.settings.max_concurrent_analyses)
    problems.install(app)
    app.router.routes.extend(_routes())
    # the last one added is the outermost
    app.add_middleware(BodyLimit, max_body_bytes=settings.max_body_bytes, max_upload_bytes=settings.max_upload_bytes)
    app.add_middleware(Authentication, keys=settings.keys)
    app.add_middleware(Envelope, metrics=app.state.metrics)
    describe(app)
    return app


@cache
def _routes() -> list[BaseRoute]:
    """Those of all rooms. What they ask and answer is read from their signatures once, not by each app."""
    router = APIRouter(generate_unique_id_function=_operation_id)
    for name in ROUTES:
        router.include_router(import_module(f"api.routes.{name}").router)
    return router.routes


def _operation_id(route: APIRoute) -> str:
    return route.name
