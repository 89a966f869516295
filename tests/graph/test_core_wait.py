"""An incident whose core is in a store that cannot be reached: it stays open, tells what it knows, and goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from graph.core_wait import CoreWait
from incidents.database import utcnow
from incidents.models import CoreRef, Diagnosis, DiagnosisStatus, Incident, IncidentStatus
from settings import StoreSettings
from tests.graph.conftest import Service
from tools.objectstore.failures import StoreDenied, StoreUnreachable

CORE = CoreRef(url="store:paramedic/shop-3c/cart/2026-11-21/0.core.zst")


def place(service: Service, text: bytes) -> None:
    assert CORE.url is not None
    file = service.folder / "store" / CORE.url.removeprefix("store:")
    file.parent.mkdir(parents=True)
    file.write_bytes(text)


async def test_what_is_known_is_told_first_and_the_core_is_read_when_the_store_is_back(service: Service) -> None:
    service.patience = 20.0
    await service.restart()
    incident = await service.report(core=CORE)
    async with asyncio.timeout(20):
        while not any(step.text == "waits for the core dump" for step in await service.incidents.steps(incident.id)):
            await asyncio.sleep(0.02)
    steps = [step.data.get("to") for step in await service.incidents.steps(incident.id)]
    assert "notifier" in steps and service.researcher.asked == 1
    now = await service.incidents.get(incident.id)
    assert now.status is IncidentStatus.ANALYSING, "it stays open, so that the next crash joins it"
    found = await service.incidents.diagnosis(incident.id)
    assert found is not None and "is tried again until" in found.unseen[-1] and found.causes

    await service.restart()  # also a new process waits for it
    place(service, b"this is no core")
    approval = await service.asked(incident)
    found = await service.incidents.diagnosis(incident.id)
    assert found is not None and not any("tried again" in text for text in found.unseen)
    assert any("core" in text for text in found.unseen), "it was opened: it is none"
    assert approval.incident_id == incident.id and service.researcher.asked == 1


async def test_without_patience_the_fix_is_looked_for_without_the_core(service: Service) -> None:
    incident = await service.report(core=CORE)
    await service.asked(incident)
    found = await service.incidents.diagnosis(incident.id)
    assert found is not None and "ask again with force" in found.unseen[-1]
    told = [step for step in await service.incidents.steps(incident.id) if step.data.get("to") == "notifier"]
    assert len(told) == 2, "the diagnosis once, and the request"


@pytest.fixture
async def hanging() -> AsyncIterator[tuple[str, list[str]]]:
    """An S3 server that takes every question and answers none."""
    asked: list[str] = []

    async def never(request: web.Request) -> web.Response:
        asked.append(request.path)
        await asyncio.sleep(60)
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", never)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    await runner.cleanup()


async def test_a_store_that_hangs_is_asked_by_one_for_all(
    hanging: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graph.core_wait._ANSWER", 0.3)
    url, asked = hanging
    store = StoreSettings(url="s3://cores", endpoint=url, access_key="a", secret_key="b")
    wait = CoreWait(store, 600.0)
    found = await asyncio.gather(*(wait.check(CORE) for _ in range(20)), return_exceptions=True)
    assert [type(one) for one in found] == [StoreUnreachable] * 20 and "did not answer" in str(found[0])
    assert len(asked) == 1
    await wait.check(CoreRef(url="https://elsewhere/core")), "another server's cores are not held up"


async def test_a_refusal_of_one_core_holds_up_no_other(tmp_path: Path) -> None:
    """S3 answers 403 for an object that is gone, where listing is not allowed."""
    refused = CoreRef(url="store:paramedic/gone")

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("gone"):
            return web.Response(status=403)
        return web.Response(
            headers={"Content-Length": "0", "ETag": '"e"', "Last-Modified": "Sat, 21 Nov 2026 00:00:00 GMT"}
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        wait = CoreWait(StoreSettings(url="s3://cores", endpoint=url, access_key="a", secret_key="b"), 600.0)
        with pytest.raises(StoreDenied):
            await wait.check(refused)
        await wait.check(CORE)
        with pytest.raises(StoreDenied):
            await wait.check(refused)
    finally:
        await runner.cleanup()


async def test_an_incident_that_waited_long_is_tried_once_more(tmp_path: Path) -> None:
    wait = CoreWait(StoreSettings(url=(tmp_path / "away").as_uri()), 0.2)
    tried = 0

    async def read() -> Diagnosis:
        nonlocal tried
        tried += 1
        return Diagnosis(status=DiagnosisStatus.UNKNOWN)

    old = Incident.model_construct(core=CORE, created_at=utcnow() - timedelta(days=1))
    assert isinstance(await wait.read(old, read, wait=True), StoreUnreachable) and tried == 0
    (tmp_path / "away").mkdir()
    await asyncio.sleep(0.15)  # the answer is believed for a while
    found = await wait.read(old, read, wait=True)
    assert isinstance(found, Diagnosis) and tried == 1
