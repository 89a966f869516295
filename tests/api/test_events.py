"""Cores that other systems tell of: our agent over real HTTP, CoreDog as documented and as it is, and no events."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from aiohttp import web

from collector.service import run as collect
from graph.services import Services, open_services
from settings import ApiKey, CollectorSettings, KubernetesSettings, Settings, ShippingSettings, StoreSettings
from tests.standins import crashing
from tests.standins.parts import Served, served

pytestmark = pytest.mark.gdb
KEY = "agent-key-0123456789"
UID = "0f0e0d0c-1111-4222-8333-0123456789ab"


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[str]:
    """A store of another system: files behind links that carry a signature."""
    crashing.require_tools()

    async def get(request: web.Request) -> web.StreamResponse:
        if request.query.get("sign") != "s3cr3t":
            raise web.HTTPForbidden
        return web.FileResponse(crashing.core("null"))

    app = web.Application()
    app.router.add_get("/bucket/{name}", get)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def service(migrated: Path, tmp_path: Path, files: str) -> AsyncIterator[tuple[Services, Served]]:
    (tmp_path / "store").mkdir()
    (tmp_path / "service").mkdir()
    shutil.copy(migrated, tmp_path / "service" / "paramedic.db")
    settings = Settings(
        data_dir=tmp_path / "service",
        kubernetes={"enabled": False},
        store=StoreSettings(url=(tmp_path / "store").as_uri()),
        core={
            "patience_seconds": 10,
            "url_hosts": [files],
            "url_schemes": ["http"],
            "executable_dirs": [str(crashing.program().parent)],
        },
        api={"port": 0, "keys": [agent_key()]},
    )
    async with open_services(settings) as services, served(services) as running:
        await services.runner.start()
        working = asyncio.create_task(services.core_events.run())
        running.client.headers["Authorization"] = f"Bearer {KEY}"
        try:
            yield services, running
        finally:
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working


def agent_key() -> ApiKey:
    return ApiKey(name="node-agents", sha256=hashlib.sha256(KEY.encode()).hexdigest(), scopes=["read", "autofix"])


async def finished(running: Served, job_id: str) -> dict[str, Any]:
    async with asyncio.timeout(90):
        while True:
            job = (await running.client.get(f"/api/v1/jobs/{job_id}")).json()
            if job["phase"] in ("Completed", "Failed", "Noted"):
                return dict(job)
            await asyncio.sleep(0.05)


async def post(running: Served, event: Any, kind: str = "application/cloudevents+json", **headers: str) -> Any:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    return await running.client.post("/api/v1/events", content=body, headers={"Content-Type": kind, **headers})


def coredog(files: str, **changes: Any) -> dict[str, Any]:
    data = {
        "file_url": f"http://{files}/bucket/core.shop.1?sign=s3cr3t",
        "file_name": "core.shop.1",
        "executable_path": "/usr/bin/shop",
        "file_size": crashing.core("null").stat().st_size,
        "md5": hashlib.md5(crashing.core("null").read_bytes()).hexdigest(),
        "image": "docker.io/team/shop:1",
        "timestamp": 1795000000,
        "pod_name": "shop-7d9f-x2x",
        "pod_namespace": "team",
        "node_ip": "10.0.0.7",
        **changes,
    }
    return {
        "specversion": "1.0",
        "id": "coredog-1795000000-1",
        "source": "coredog-agent",
        "type": "coredog.coredump.uploaded",
        "time": "2026-11-20T10:00:00Z",
        "datacontenttype": "application/json",
        "token": "t0ken-in-the-body",
        "data": data,
    }


def collected(number: int, key: str) -> dict[str, Any]:
    """Our agent's event of the same crash each time, whose core is stored as `key`."""
    owner = {"kind": "Deployment", "namespace": "team", "name": "shop"}
    data = {
        "id": f"core_{number:016x}",
        "completeness": "complete",
        "collected_at": "2026-11-20T10:00:00Z",
        "node": "node1",
        "origin": {"namespace": "team", "pod": "shop-1", "pod_uid": UID, "container": "app", "owner": owner},
        "identity": "ab" * 20,
        "stored": [{"kind": "minimal", "key": key, "size": 9, "sha256": "0" * 64}],
    }
    kind = {"type": "io.paramedic.core.collected", "source": "/node1", "id": data["id"], "specversion": "1.0"}
    return kind | {"data": data}


async def test_a_core_on_a_node_becomes_an_incident_with_its_report(
    tmp_path: Path, service: tuple[Services, Served]
) -> None:
    services, running = service
    cores = tmp_path / "cores" / "team" / f"shop-1_{UID}" / "app"
    cores.mkdir(parents=True)
    for number in range(2):
        shutil.copy(crashing.core("null", number), cores / f"core.{number}")
    settings = Settings(
        data_dir=tmp_path / "agent",
        kubernetes=KubernetesSettings(enabled=False),
        store=services.settings.store,
        shipping=ShippingSettings(disk_reserve_bytes=0),
        collector=CollectorSettings(
            roots=[tmp_path / "cores"],
            node_name="node1",
            poll_seconds=0.1,
            node_processes=False,
            image_layers=[],
            service_url=f"{running.url}/api/v1/events",
            service_key=KEY,
        ),
    )
    stop = asyncio.Event()
    collecting = asyncio.create_task(collect(settings, stop))
    async with asyncio.timeout(90):
        while any(cores.iterdir()):
            await asyncio.sleep(0.05)
        while await services.core_jobs.queued():
            await asyncio.sleep(0.05)
    stop.set()
    await collecting
    incidents = await services.incidents.recent()
    assert len(incidents) == 1, "a storm of one crash is one incident"
    (incident,) = incidents
    assert incident.count == 2 and incident.target.name == "shop-1" and incident.requested_by == "api:node-agents"
    jobs = await services.core_jobs.of_incident(incident.id)
    assert len(jobs) == 2
    job = await finished(running, jobs[-1].id)
    assert job["phase"] == "Completed" and job["core"]["origin"]["container"] == "app"
    answer = (await running.client.get(f"/api/v1/incidents/{incident.id}")).json()
    crash = answer["diagnosis"]["crash"]
    assert crash["crash_info"]["si_signo"] == 11 and crash["core"]["minimised"]
    assert answer["diagnosis"]["causes"][0]["class"] == "null_dereference"


async def test_a_storm_is_one_incident_while_no_core_can_be_fetched(service: tuple[Services, Served]) -> None:
    services, running = service
    told = [collected(number, f"paramedic/gone/{number}.core.zst") for number in range(3)]
    assert (await post(running, told[:2], "application/cloudevents-batch+json")).status_code == 202
    async with asyncio.timeout(60):
        while await services.core_jobs.queued():
            await asyncio.sleep(0.05)
    (incident,) = await services.incidents.recent()
    assert incident.count == 2
    async with asyncio.timeout(60):
        while not (await services.incidents.get(incident.id)).status.ended:
            await asyncio.sleep(0.05)
    assert (await post(running, told[2])).status_code == 202
    async with asyncio.timeout(60):
        while await services.core_jobs.queued():
            await asyncio.sleep(0.05)
    assert len(await services.incidents.recent()) == 2, "none could be read yet: the next one is tried"


async def test_a_storm_whose_store_is_away_is_one_incident_that_is_analysed_when_it_is_back(
    tmp_path: Path, service: tuple[Services, Served]
) -> None:
    services, running = service
    key = "paramedic/team/shop/2026-11-20/0.core.zst"
    stored = tmp_path / "store" / key
    stored.parent.mkdir(parents=True)
    stored.write_bytes(zstandard.compress(crashing.core("null").read_bytes()))
    (tmp_path / "store").rename(tmp_path / "away")
    for number in range(3):
        assert (await post(running, collected(number, key))).status_code == 202
        async with asyncio.timeout(60):
            while await services.core_jobs.queued():
                await asyncio.sleep(0.05)
    (incident,) = await services.incidents.recent()
    assert incident.count == 3 and not incident.status.ended
    assert incident.summary and "waits for the store" in incident.summary
    (tmp_path / "away").rename(tmp_path / "store")
    async with asyncio.timeout(60):
        while not (await services.incidents.get(incident.id)).status.ended:
            await asyncio.sleep(0.05)
    found = await services.incidents.diagnosis(incident.id)
    assert found is not None and found.causes[0].cause_class == "null_dereference"


async def test_coredogs_event_in_every_form_and_its_link_and_token_nowhere(
    service: tuple[Services, Served], files: str, tmp_path: Path
) -> None:
    """Four cores of one crash: the first is analysed, the others are known by it."""
    services, running = service
    for form in ("actual", "documented", "binary", "batch"):
        event = coredog(files, file_url=f"http://{files}/bucket/core.{form}?sign=s3cr3t")
        event["id"] = form
        if form == "documented":
            data = {"coredump_id": 0, **event["data"], "node_name": "node1"}
            event["data"] = {key: value for key, value in data.items() if key not in ("file_name", "node_ip")}
        if form == "binary":
            headers = {f"ce-{name}": event[name] for name in ("specversion", "id", "source", "type")}
            answer = await post(running, event["data"], "application/json", **headers)
        elif form == "batch":
            answer = await post(running, [event, event], "application/cloudevents-batch+json")
            assert [item["duplicate"] for item in answer.json()["events"]] == [False, True]
        else:
            answer = await post(running, event)
        assert answer.status_code == 202, answer.text
        assert not answer.json()["events"][0]["duplicate"]
        job = await finished(running, answer.json()["events"][0]["job"]["id"])
        assert job["phase"] == "Completed" and job["summary"], form
        incident = (await running.client.get(job["links"]["incident"])).text
        row = (await services.core_jobs.get(job["id"])).model_dump_json()
        assert "t0ken" not in answer.text + incident + json.dumps(job) + row
        assert "s3cr3t" not in incident + json.dumps(job) + row
        again = await post(running, {**event, "id": f"{form}-2"})
        assert again.json()["events"][0]["duplicate"]
    assert [incident.count for incident in await services.incidents.recent()] == [4]
    data = b"".join(path.read_bytes() for path in (tmp_path / "service").glob("*.db*"))
    assert b"t0ken-in-the-body" not in data


UNAVAILABLE: list[tuple[dict[str, str], str]] = [
    ({"md5": "0" * 32}, "not the one that was announced"),
    ({"file_url": "http://10.9.9.9/core"}, "core.url_hosts"),
    ({"file_url": "cfs://mount/core"}, "core.url_schemes"),
    ({"file_url": "file:///etc/passwd"}, "core.url_schemes"),
]


async def test_a_core_that_cannot_be_had_fails_its_job_with_the_reason(
    service: tuple[Services, Served], files: str
) -> None:
    services, running = service
    for number, (change, said) in enumerate(UNAVAILABLE):
        event = coredog(files, **{"file_url": f"http://{files}/bucket/core.{number}?sign=s3cr3t", **change})
        answer = await post(running, {**event, "id": f"{number}"})
        assert answer.status_code == 202
        job = await finished(running, answer.json()["events"][0]["job"]["id"])
        assert job["phase"] == "Failed" and said in job["error"]
        assert await services.incidents.recent() == []
        assert not list(services.uploads.iterdir())


NO_EVENTS: list[tuple[Any, str, str]] = [
    (b"", "application/cloudevents+json", "no JSON"),
    (b"{", "application/cloudevents+json", "no JSON"),
    (b"[" * 60_000, "application/cloudevents+json", "no JSON"),
    (b"[]", "application/cloudevents+json", "JSON object"),
    (b"{}", "application/cloudevents-batch+json", "JSON list"),
    (b"{}", "application/json", "no CloudEvent"),
    (b"x=1", "application/x-www-form-urlencoded", "no CloudEvent"),
    ({"specversion": "0.3", "id": "1", "source": "s", "type": "t"}, "application/cloudevents+json", "specversion"),
    ({"specversion": "1.0", "id": "", "source": "s", "type": "t"}, "application/cloudevents+json", "id"),
    ({"specversion": "1.0", "id": "1", "source": "s", "type": "other"}, "application/cloudevents+json", "other"),
    (
        {"specversion": "1.0", "id": "1", "source": "s", "type": "coredog.coredump.uploaded", "data": {}},
        "application/cloudevents+json",
        "file_url",
    ),
    (
        {"specversion": "1.0", "id": "1", "source": "s", "type": "io.paramedic.core.collected", "data": [1]},
        "application/cloudevents+json",
        "data",
    ),
    (
        [{"specversion": "1.0", "id": str(number), "source": "s", "type": "t"} for number in range(101)],
        "application/cloudevents-batch+json",
        "at most 100",
    ),
    (
        {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data_base64": "!"},
        "application/cloudevents+json",
        "base64",
    ),
]


async def test_what_is_no_event_gets_one_clear_problem(service: tuple[Services, Served]) -> None:
    services, running = service
    for body, kind, said in NO_EVENTS:
        answer = await post(running, body, kind)
        assert answer.status_code in (400, 422) and said in answer.json()["detail"], said
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        assert await services.core_jobs.queued() == []


async def test_of_a_batch_all_are_taken_or_none(service: tuple[Services, Served], files: str) -> None:
    services, running = service
    wrong = coredog(files, file_size=-1)
    answer = await post(running, [coredog(files), wrong], "application/cloudevents-batch+json")
    assert answer.status_code in (400, 422)
    assert await services.core_jobs.queued() == []


async def test_data_in_base64_is_read(service: tuple[Services, Served], files: str) -> None:
    _, running = service
    event = coredog(files)
    event["data_base64"] = base64.b64encode(json.dumps(event.pop("data")).encode()).decode()
    assert (await post(running, event)).status_code == 202


async def test_only_a_key_with_the_scope_may_tell(service: tuple[Services, Served], files: str) -> None:
    _, running = service
    running.client.headers["Authorization"] = "Bearer wrong"
    assert (await post(running, coredog(files))).status_code == 401
    assert (await running.client.get("/api/v1/jobs/job_1")).status_code == 401


async def test_a_job_that_nobody_knows_is_not_found(service: tuple[Services, Served]) -> None:
    _, running = service
    assert (await running.client.get("/api/v1/jobs/job_1")).status_code == 404
