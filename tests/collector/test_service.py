"""The whole agent: real cores in, a folder as store, a real HTTP sink that is told; killed and started again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import zstandard
from aiohttp import web

from collector.service import run
from errors import Conflict, InvalidInput
from settings import CollectorSettings, KubernetesSettings, Settings, ShippingSettings
from tests.collector.conftest import UID
from tests.standins import crashing

KEY = "k-1f0e-secret"


@dataclass
class Receiver:
    """A sink of events: strict about the format, and as unfriendly as the test asks."""

    status: int = 202
    events: list[dict[str, object]] = field(default_factory=list)
    tries: int = 0
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        self.tries += 1
        assert request.headers["Content-Type"] == "application/cloudevents+json"
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        if self.status < 300:
            event = await request.json()
            assert event["specversion"] == "1.0" and event["id"] and event["source"] and event["type"]
            self.events.append(event)
        return web.Response(status=self.status)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_post("/events", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/events"
    yield made
    await runner.cleanup()


@pytest.fixture
def settings(tmp_path: Path, receiver: Receiver) -> Settings:
    crashing.require_tools()
    (tmp_path / "cores").mkdir()
    collector = CollectorSettings(
        roots=[tmp_path / "cores"],
        node_name="node1",
        poll_seconds=0.1,
        settle_seconds=1,
        node_processes=False,
        image_layers=[],
        service_url=receiver.url,
        service_key=KEY,
    )
    return Settings(
        data_dir=tmp_path / "data",
        kubernetes=KubernetesSettings(enabled=False),
        collector=collector,
        shipping=ShippingSettings(disk_reserve_bytes=0, retry_seconds=0.2),
    )


@asynccontextmanager
async def agent(settings: Settings) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(run(settings, stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(60):
            await running


async def until(done: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(90):
        while not done():
            await asyncio.sleep(0.05)


def place(settings: Settings) -> Path:
    folder = settings.collector.roots[0] / "team" / f"shop-1_{UID}" / "app"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def test_a_core_ends_in_the_store_is_told_once_and_is_gone_from_the_node(
    settings: Settings, receiver: Receiver
) -> None:
    shutil.copy(crashing.core("null"), place(settings) / "core.1")  # written before the agent started
    whole = hashlib.sha256(crashing.core("null").read_bytes()).hexdigest()
    async with agent(settings):
        await until(lambda: bool(receiver.events) and not (place(settings) / "core.1").exists())
    async with agent(settings):
        await asyncio.sleep(0.2)
    (event,) = receiver.events
    data = json.loads(json.dumps(event["data"]))
    assert event["type"] == "io.paramedic.core.collected" and event["subject"] == "team/shop-1/app"
    assert data["sha256"] == whole and data["completeness"] == "complete" and data["signal"] == 11
    stored = {one["kind"]: one for one in data["stored"]}
    assert set(stored) >= {"minimal", "full"}
    full = (settings.data_dir / "store" / stored["full"]["key"]).read_bytes()
    assert hashlib.sha256(full).hexdigest() == stored["full"]["sha256"]
    with zstandard.ZstdDecompressor().stream_reader(full, read_across_frames=True) as reader:
        assert hashlib.sha256(reader.read()).hexdigest() == whole


async def test_on_a_plain_host_the_program_is_stored_too(settings: Settings, receiver: Receiver) -> None:
    shutil.copy(crashing.core("null"), settings.collector.roots[0] / "core.1")
    async with agent(settings):
        await until(lambda: bool(receiver.events))
    stored = json.loads(json.dumps(receiver.events[0]["data"]))["stored"]
    programs = [one for one in stored if one["kind"] == "executable"]
    assert len(programs) == 1
    packed = (settings.data_dir / "store" / programs[0]["key"]).read_bytes()
    with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
        assert reader.read() == crashing.program().read_bytes()
    assert [one["kind"] for one in stored].count("library") >= 2


async def test_a_sink_that_is_away_is_told_later(settings: Settings, receiver: Receiver) -> None:
    receiver.status = 503
    shutil.copy(crashing.core("null"), place(settings) / "core.1")
    async with agent(settings):
        await until(lambda: receiver.tries >= 2)
        assert receiver.events == []
        receiver.status = 202
        await until(lambda: len(receiver.events) == 1)


async def test_an_event_that_is_refused_becomes_a_dead_letter(settings: Settings, receiver: Receiver) -> None:
    receiver.status = 422
    shutil.copy(crashing.core("null"), place(settings) / "core.1")
    letters = settings.data_dir / "collector/dead-letters"
    async with agent(settings):
        await until(lambda: len(list(letters.glob("*.json"))) == 1 and not (place(settings) / "core.1").exists())
    (letter,) = letters.glob("*.json")
    document = json.loads(letter.read_text())
    assert "422" in document["reason"] and document["event"]["data"]["signal"] == 11
    assert KEY not in letter.read_text()
    assert receiver.tries == 1


async def test_a_text_called_core_is_told_and_left_alone(settings: Settings, receiver: Receiver) -> None:
    path = place(settings) / "core"
    path.write_text("not a core")
    async with agent(settings):
        await until(lambda: bool(receiver.events))
    data = json.loads(json.dumps(receiver.events[0]["data"]))
    assert data["completeness"] == "not_a_core" and data["stored"] == []
    assert path.read_text() == "not a core"


async def test_a_core_that_was_emptied_is_no_second_crash(settings: Settings, receiver: Receiver) -> None:
    settings.shipping.local_file = "truncate"
    path, own = place(settings) / "core.1", place(settings).with_name("side") / "core.2"
    own.parent.mkdir()
    shutil.copy(crashing.core("null"), path)
    async with agent(settings):
        await until(lambda: bool(receiver.events) and path.stat().st_size == 0)
    async with agent(settings):
        own.touch()  # as empty, and not by us: when it is told, the other would have been
        await until(lambda: len(receiver.events) > 1)
    (settings.data_dir / "collector/ledger.db").unlink()
    own.unlink()
    async with agent(settings):  # and not because of what was noted alone
        (place(settings) / "core.3").write_text("no core")
        await until(lambda: len(receiver.events) > 2)
    told = [(event["subject"], json.loads(json.dumps(event["data"]))["completeness"]) for event in receiver.events]
    assert told == [
        ("team/shop-1/app", "complete"),
        ("team/shop-1/side", "truncated"),
        ("team/shop-1/app", "not_a_core"),
    ]
    assert path.exists()


async def test_two_agents_do_not_share_a_data_folder(settings: Settings) -> None:
    async with agent(settings):
        await asyncio.sleep(0.2)
        with pytest.raises(Conflict, match="another agent"):
            await run(settings, asyncio.Event())


async def test_without_a_folder_it_says_what_to_name(settings: Settings) -> None:
    settings.collector.roots = []
    with pytest.raises(InvalidInput, match=r"collector\.roots"):
        await run(settings, asyncio.Event())
