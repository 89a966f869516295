"""Probes and metrics. Liveness depends on nothing outside; readiness on what an answer needs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import JSONResponse, Response

from api.auth import Reader
from api.dependencies import services_of
from api.metrics import render
from api.problems import RESPONSES
from errors import ParamedicError

if TYPE_CHECKING:
    from graph.services import Services

router = APIRouter(tags=["health"], responses=RESPONSES)
CACHE_SECONDS = 5.0
CHECK_SECONDS = 2.0


class Health(BaseModel):
    """`components` maps each dependency to `ok` or to what is wrong with it."""

    status: Literal["ok", "degraded", "draining"]
    components: dict[str, str] = Field(examples=[{"database": "ok", "cluster": "ok"}])


class HealthCheck:
    """Looks at the dependencies, at most once in five seconds however often it is asked."""

    def __init__(self) -> None:
        self._at = float("-inf")
        self._last: dict[str, str] = {}
        self._lock = asyncio.Lock()

    async def components(self, services: Services) -> dict[str, str]:
        async with self._lock:
            if time.monotonic() - self._at >= CACHE_SECONDS:
                self._last = await _look(services)
                self._at = time.monotonic()
            return self._last


async def _look(services: Services) -> dict[str, str]:
    found = {"database": await _database(services)}
    if services.cluster is not None:
        found["cluster"] = await _cluster(services)
    return found


async def _database(services: Services) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS), services.database.read() as session:
            await session.execute(text("SELECT 1"))
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        return f"failed: {type(error).__name__}"
    return "ok"


async def _cluster(services: Services) -> str:
    assert services.cluster is not None
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await services.cluster.request("GET", "/version")
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS:.0f} s"
    except ParamedicError as error:
        return f"failed: {error.title}"
    return "ok"


async def _health(request: Request) -> Health:
    check: HealthCheck = request.app.state.health
    components = await check.components(services_of(request))
    if request.app.state.draining.is_set():
        return Health(status="draining", components=components)
    fine = all(state == "ok" for state in components.values())
    return Health(status="ok" if fine else "degraded", components=components)


@router.get("/livez")
async def livez() -> dict[str, str]:
    """Whether the process answers at all."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"model": Health, "description": "Draining, or a dependency is missing"}})
async def readyz(request: Request) -> Response:
    """Whether requests should be sent here: the database and the configured cluster answer, no shutdown is on."""
    health = await _health(request)
    return JSONResponse(health.model_dump(), status_code=200 if health.status == "ok" else 503)


@router.get("/api/v1/health")
async def health(request: Request, _caller: Reader) -> Health:
    """The state of the service and of what it depends on; always 200."""
    return await _health(request)


@router.get("/api/v1/autofix/health")
async def autofix_health(request: Request, _caller: Reader) -> Health:
    """Whether crashes can be taken and fixed: adds the gate, the models and the kill switch to the dependencies."""
    services = services_of(request)
    base = await _health(request)
    killed = services.settings.gate.kill_switch
    extra = {
        "gate": "no cluster" if services.gate is None else "kill switch is on" if killed else "ok",
        "models": "none configured" if services.models is None else "ok",
    }
    return Health(status=base.status, components=base.components | extra)


@router.get("/metrics", responses={200: {"description": "Prometheus text", "content": {"text/plain": {}}}})
async def metrics(request: Request, _caller: Reader) -> Response:
    """Metrics in the Prometheus text format."""
    text_format = await render(request.app.state.metrics, services_of(request).database)
    return Response(text_format, media_type="text/plain; version=0.0.4; charset=utf-8")
