"""Servers that are gone, slow, closed, or answer something else: one sentence each, and never a failure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import ValidationError

from errors import InvalidInput, ToolFailed, ToolMissing, ToolTimeout
from settings import AlertmanagerSettings, PrometheusSettings
from tools.prometheus.client import Prometheus
from tools.prometheus.measure import monitoring
from tools.prometheus.selectors import selector

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def answering(body: object, status: int = 200) -> Handler:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(text=body if isinstance(body, str) else json.dumps(body), status=status)

    return handle


async def slow(_: web.Request) -> web.Response:
    await asyncio.sleep(5)
    return web.Response(text="{}")


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(64):
        await response.write(b" " * 65536)
    return response


async def elsewhere(_: web.Request) -> web.Response:
    raise web.HTTPFound("http://127.0.0.1:1/")


ERROR = {"status": "error", "errorType": "bad_data", "error": "no such thing: password=hunter2hunter2"}
TROUBLE: list[tuple[Handler, type[ToolFailed], str]] = [
    (slow, ToolTimeout, "did not answer within 0.3 s"),
    (endless, ToolFailed, "more than 100000 bytes"),
    (elsewhere, ToolFailed, "answered 302"),
    (answering("<html>"), ToolFailed, "is its URL right"),
    (answering("[" * 100_000), ToolFailed, "is its URL right"),
    (answering([]), ToolFailed, "no reason given"),
    (answering({"status": "success"}), ToolFailed, "no result of a query"),
    (answering({"status": "success", "data": {"resultType": "vector", "result": None}}), ToolFailed, "no result"),
    (answering(ERROR, 400), ToolFailed, "no such thing"),
    (answering(ERROR, 401), ToolFailed, "refused the credentials"),
    (answering("gone", 503), ToolFailed, r"did not answer with JSON \(503\)"),
    (answering("", 404), ToolFailed, "answered 404"),
]


@pytest.mark.parametrize(("handler", "error", "words"), TROUBLE)
async def test_trouble_is_one_error_and_costs_a_capture_nothing(
    handler: Handler, error: type[ToolFailed], words: str
) -> None:
    async with serving(handler) as url:
        prometheus = PrometheusSettings(url=url, timeout=0.3, max_bytes=100_000)
        async with Prometheus(prometheus) as server:
            with pytest.raises(error, match=words) as raised:
                await server.instant("up")
        assert "hunter2" not in str(raised.value)
        both = monitoring(prometheus, AlertmanagerSettings(url=url, timeout=0.3, max_bytes=100_000))
        async with both as servers:
            found = await servers.measure("shop", [])
    assert (found.series, found.alerts) == ([], [])
    assert found.unseen[0].startswith("measurements could not be read: Prometheus")
    assert len(found.unseen) <= 2


async def test_a_server_that_is_gone() -> None:
    async with serving(slow) as url:
        pass
    async with monitoring(PrometheusSettings(url=url), AlertmanagerSettings(url=url)) as servers:
        found = await servers.measure("shop", [])
    assert [line.split(":")[0] for line in found.unseen] == [
        "measurements could not be read",
        "alerts could not be read",
    ]


async def test_one_refused_metric_leaves_the_others() -> None:
    async def handle(request: web.Request) -> web.Response:
        form = await request.post()
        query = str(form.get("query", ""))
        result: dict[str, object] = {"resultType": "matrix", "result": []}
        if "cfs_periods" in query:
            return web.json_response(ERROR, status=422)
        if "working_set" in query:
            values = [[1, "1"], ["x", "2"], [2, "NaN"], None]
            result = {"resultType": "matrix", "result": [{"metric": {"pod": "p"}, "values": values}, "nonsense"]}
        if request.path.endswith("alerts"):
            return web.json_response({"status": "success", "data": {"alerts": [1, {"labels": []}]}})
        return web.json_response({"status": "success", "data": result})

    async with serving(handle) as url, monitoring(PrometheusSettings(url=url), AlertmanagerSettings()) as servers:
        found = await servers.measure("shop", ["n1"], NOW)
    assert [(series.name, len(series.points)) for series in found.series] == [("container_memory_working_set_bytes", 1)]
    assert len(found.unseen) == 1
    assert "container_cpu_cfs_periods_total could not be read" in found.unseen[0]


async def test_the_token_is_read_anew_and_sent_to_its_server_only(tmp_path: Path) -> None:
    seen: list[str | None] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": []}})

    file = tmp_path / "token"
    async with serving(handle) as url, Prometheus(PrometheusSettings(url=url, bearer_token_file=file)) as server:
        with pytest.raises(ToolMissing, match="could not be read"):
            await server.instant("up")
        file.write_text("bad\ntoken")
        with pytest.raises(ToolMissing, match="holds no token"):
            await server.instant("up")
        for token in ("one-token", "two-token"):
            file.write_text(f"{token}\n")
            await server.instant("up")
    assert seen == ["Bearer one-token", "Bearer two-token"]


def test_what_cannot_be_used_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"prometheus\.url"):
        Prometheus(PrometheusSettings())
    (tmp_path / "ca").write_text("no certificate")
    with pytest.raises(InvalidInput, match="certificates"):
        Prometheus(PrometheusSettings(url="https://p.example.com", ca=tmp_path / "ca"))
    for url in ("p.example.com", "ftp://p", "http://user:pw@p", "http://p/?a=b"):
        with pytest.raises(ValidationError):
            PrometheusSettings(url=url)
    for metric, label in (("a{}", "b"), ("a", "b=c"), ("", "b")):
        with pytest.raises(InvalidInput):
            selector(metric, (label, "=", '"x"'))
    with pytest.raises(InvalidInput):
        selector("a", ("b", "=", "unquoted"))


async def test_a_range_is_bounded_before_it_is_asked() -> None:
    async with Prometheus(PrometheusSettings(url="http://127.0.0.1:1")) as server:
        with pytest.raises(InvalidInput, match="more than 11000 points"):
            await server.range("up", NOW, NOW + timedelta(days=10), timedelta(seconds=1))
