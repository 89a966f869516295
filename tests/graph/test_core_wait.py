"""An incident whose core is in a store that cannot be reached: it stays open, tells what it knows, and goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
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
    service.patience = 100.0
    await service.restart()
    incident = await service.report(core=CORE)
    async with asyncio.timeout(60):
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
    monkeypatch.setattr("graph.core_wait._ANSWER", 1.0)
    url, asked = hanging
    store = StoreSettings(url="s3://cores", endpoint=url, access_key="a", secret_key="b")
    wait = CoreWait(store, 600.0)
    found = await asyncio.gather(*(wait.check(CORE) for _ in range(20)), return_exceptions=True)
    assert [type(one) for one in found] == [StoreUnreachable] * 20 and "did not answer" in str(found[0])
    assert 1 <= len(asked) <= 8, "a few at once speak for all"
    await wait.check(CoreRef(url="https://elsewhere/core")), "another server's cores are not held up"


async def test_a_slow_store_is_asked_for_several_cores_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question is answered when four are open; asked in turn, they would all time out."""
    monkeypatch.setattr("graph.core_wait._ANSWER", 100.0)
    open_now = most = 0
    enough = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        if open_now == 4:
            enough.set()
        await enough.wait()
        open_now -= 1
        return web.Response(
            headers={"Content-Length": "0", "ETag": '"e"', "Last-Modified": "Sat, 21 Nov 2026 00:00:00 GMT"}
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        wait = CoreWait(StoreSettings(url="s3://cores", endpoint=url, access_key="a", secret_key="b"), 600.0)
        cores = [CoreRef(url=f"store:paramedic/{number}") for number in range(20)]
        async with asyncio.timeout(80):  # less than one question has
            await asyncio.gather(*(wait.check(core) for core in cores))
        assert 4 <= most <= 8
    finally:
        await runner.cleanup()


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


class Reading:
    """Counts how often it was asked, and whether for the last time."""

    def __init__(self, away: int = 0) -> None:
        self.away = away  # so many times a program of the core cannot be had
        self.last: list[bool] = []

    async def __call__(self, last: bool) -> Diagnosis:
        self.last.append(last)
        if len(self.last) <= self.away and not last:
            raise StoreUnreachable("a program of the core")
        return Diagnosis(status=DiagnosisStatus.UNKNOWN)


class Away:
    """A store in a folder that is not there, an incident whose core is in it, and a clock that can be set."""

    def __init__(self, folder: Path, patience: float) -> None:
        self.place = folder / "away"
        self.patience = patience
        self.incident = Incident.model_construct(id="inc_1", core=CORE, created_at=utcnow())
        self.ahead = timedelta()
        self.wait = self.restarted()

    def restarted(self) -> CoreWait:
        store = StoreSettings(url=self.place.as_uri())
        return CoreWait(store, self.patience, now=lambda: utcnow() + self.ahead)

    async def begin(self) -> datetime:
        assert isinstance(await self.wait.read(self.incident, Reading(), until=None), StoreUnreachable)
        return self.wait.begin(self.incident)


HOUR = timedelta(hours=1)


async def test_a_clock_that_jumps_ahead_does_not_end_the_wait(tmp_path: Path) -> None:
    away, reading = Away(tmp_path, 30.0), Reading()
    until = await away.begin()
    away.ahead = HOUR
    waiting = asyncio.create_task(away.wait.read(away.incident, reading, until=until))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    away.ahead = 2 * HOUR  # also while it sleeps
    away.place.mkdir()
    async with asyncio.timeout(60):
        assert isinstance(await waiting, Diagnosis)
    assert reading.last == [False]


@pytest.mark.parametrize("again", [False, True], ids=["the same process", "a new process"])
async def test_a_clock_that_is_put_back_makes_the_wait_no_longer(tmp_path: Path, again: bool) -> None:
    away, reading = Away(tmp_path, 0.3), Reading()
    until = await away.begin()
    away.ahead = -HOUR
    wait = away.restarted() if again else away.wait
    async with asyncio.timeout(60):
        assert isinstance(await wait.read(away.incident, reading, until=until), StoreUnreachable)
    assert reading.last == []


async def test_what_waited_long_before_a_restart_is_tried_once_more(tmp_path: Path) -> None:
    away = Away(tmp_path, 30.0)
    until = await away.begin()
    away.ahead = HOUR
    async with asyncio.timeout(60):
        found = await away.restarted().read(away.incident, Reading(), until=until)
        assert isinstance(found, StoreUnreachable)
        away.place.mkdir()
        assert isinstance(await away.restarted().read(away.incident, Reading(), until=until), Diagnosis)


async def test_programs_that_stay_away_are_waited_for_and_then_done_without(tmp_path: Path) -> None:
    away = Away(tmp_path, 2.0)
    until = await away.begin()
    away.place.mkdir()
    await asyncio.sleep(0.15)  # the answer is believed for a while
    reading = Reading(away=1000)
    async with asyncio.timeout(60):
        assert isinstance(await away.wait.read(away.incident, reading, until=until), Diagnosis)
    assert reading.last[-1] and reading.last.count(True) == 1 and len(reading.last) > 1
