"""Nothing secret gets out: agent and service as real processes, with every channel that they have, and canaries planted
wherever a secret can be. Afterwards no canary is in what they logged, told, stored or show.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from terminal.deliveries import _run as deliveries
from tests.standins import crashing, s3
from tests.standins.event_sink import EventSinkServer, event_sink
from tests.standins.feishu import FeishuStandIn
from tests.standins.llm import KEY as MODEL_KEY
from tests.standins.llm import OPENAI_MODEL, LlmStandIn
from tests.standins.notices import SLACK_PATH, NoticeServers
from tests.standins.programs import ROOT, environment, free_port, process, until

pytestmark = [pytest.mark.gdb, pytest.mark.system]
SERVICE_KEY = "pmk_canary-service-key-5f0c1d2e3b4a"
SINK_KEY = "canary-sink-key-77aa"
URL_TOKEN = "canary-url-token-77ab"
ENCRYPTION_KEY = base64.b64encode(b"canary-encryption-key-32-bytes!!").decode()
LINK = "canary-link-signature-00ff"
PASSWORD = "canary-env-pw-9d8c7b6a"
ARGUMENT = "canary-argv-pw-1122aabb"


@dataclass
class Running:
    """The two processes, everything they talk to, and what they wrote."""

    folder: Path
    feishu: FeishuStandIn
    model: LlmStandIn
    slack: NoticeServers
    sink: EventSinkServer
    deaf: EventSinkServer
    store: s3.S3Server
    urls: dict[str, str] = field(default_factory=dict)

    @property
    def canaries(self) -> dict[str, bytes]:
        found = {
            "key of the service": SERVICE_KEY,
            "key of a sink": SINK_KEY,
            "token in a sink's address": URL_TOKEN,
            "secret of the store": s3.SECRET,
            "encryption key": ENCRYPTION_KEY,
            "signature of a link": LINK,
            "key of the model": MODEL_KEY,
            "address of Slack": SLACK_PATH.rsplit("/", 1)[1],
            "environment of the crashed process": PASSWORD,
            "argument of the crashed process": ARGUMENT,
            **{f"Feishu {number}": secret for number, secret in enumerate(self.feishu.secrets)},
        }
        return {name: value.encode() for name, value in found.items()}

    def leaks(self, where: str, data: bytes | str) -> list[str]:
        text = data.encode("utf-8", "replace") if isinstance(data, str) else data
        return [f"{name} in {where}" for name, value in self.canaries.items() if value in text]


def leaking_core(folder: Path) -> Path:
    """A real core, of a real program on this machine, with secrets in it."""
    program = folder / "shop-login"
    source = ROOT / "tests/standins/leaking.c"
    subprocess.run(["gcc", "-g", "-O0", "-Wl,--build-id", "-o", program, source], check=True, timeout=60)
    return crashing.crash(program, ["--password", ARGUMENT], folder / "run")


@asynccontextmanager
async def serving(core: Path) -> AsyncIterator[str]:
    """The core behind a presigned link, as CoreDog's agent announces it."""

    async def give(request: web.Request) -> web.StreamResponse:
        assert request.query["X-Amz-Signature"] == LINK
        return web.FileResponse(core)

    app = web.Application()
    app.router.add_get("/bucket/core.shop.7", give)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/bucket/core.shop.7"
    finally:
        await runner.cleanup()


def settings_of(running: Running, slack_url: str, own_port: int, agent_port: int, core_host: str) -> dict[str, str]:
    """The environment of both processes: each setting where operators put it."""
    folder, store = running.folder, running.store.settings()
    (folder / "encryption").write_text(f"2026-11 {ENCRYPTION_KEY}\n")
    (folder / "service-key").write_text(SERVICE_KEY)
    (folder / "handler.sh").write_text('env > "$1"; cat /proc/self/environ >> "$1"; echo done\n')
    sinks = [
        {"name": "all", "url": f"{running.sink.url}?token={URL_TOKEN}", "key": SINK_KEY},
        {"name": "deaf", "url": f"{running.deaf.url}?token={URL_TOKEN}", "mode": "binary"},
    ]
    key = {"name": "agent", "sha256": hashlib.sha256(SERVICE_KEY.encode()).hexdigest(), "scopes": ["read", "autofix"]}
    given: dict[str, Any] = {
        "LOG_LEVEL": "debug",
        "KUBERNETES__ENABLED": "false",
        "API__PORT": own_port,
        "API__KEYS": json.dumps([key]),
        "STORE__URL": store.url,
        "STORE__ENDPOINT": store.endpoint,
        "STORE__ACCESS_KEY": s3.ACCESS,
        "STORE__SECRET_KEY": s3.SECRET,
        "STORE__ALLOW_HTTP": "true",
        "STORE__ENCRYPTION_KEY_FILE": folder / "encryption",
        "SHIPPING__DISK_RESERVE_BYTES": 0,
        "SHIPPING__FULL_CORE": "always",
        "COLLECTOR__ROOTS": json.dumps([str(folder / "cores")]),
        "COLLECTOR__NODE_NAME": "node1",
        "COLLECTOR__POLL_SECONDS": 0.1,
        "COLLECTOR__SETTLE_SECONDS": 1,
        "COLLECTOR__NODE_PROCESSES": "false",
        "COLLECTOR__IMAGE_LAYERS": "[]",
        "COLLECTOR__SERVICE_URL": f"http://127.0.0.1:{own_port}/api/v1/events",
        "COLLECTOR__SERVICE_KEY_FILE": folder / "service-key",
        "COLLECTOR__METRICS_PORT": agent_port,
        "COLLECTOR__HANDLER__COMMAND": json.dumps(["/bin/sh", str(folder / "handler.sh"), str(folder / "handled")]),
        "CORE__URL_HOSTS": json.dumps([core_host]),
        "CORE__URL_SCHEMES": '["http"]',
        "LLM__MODEL": f"openai:{OPENAI_MODEL}",
        "LLM__BASE_URL": running.model.openai_url,
        "LLM__API_KEY": MODEL_KEY,
        "FEISHU__WEBHOOK_URL": running.feishu.webhook_url,
        "FEISHU__WEBHOOK_SECRET": running.feishu.webhook_secret,
        "NOTIFY__CHANNELS": json.dumps([{"name": "ops", "kind": "slack", "webhook_url": slack_url + SLACK_PATH}]),
        "EVENTS__SINKS": json.dumps(sinks),
    }
    return environment(folder, given) | running.feishu.environment()


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    crashing.require_tools()
    if (reason := s3.missing()) is not None:
        pytest.skip(reason)
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    core = await asyncio.to_thread(leaking_core, tmp_path)
    (tmp_path / "cores").mkdir()
    slack = NoticeServers()
    async with AsyncExitStack() as stack:
        feishu = await stack.enter_async_context(FeishuStandIn())
        model = stack.enter_context(LlmStandIn())
        sink = await stack.enter_async_context(event_sink(key=SINK_KEY))
        deaf = await stack.enter_async_context(event_sink(status=410))
        link = await stack.enter_async_context(serving(core))
        runner = web.AppRunner(slack.app(), access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        store = s3.S3Server(tmp_path / "s3").start()
        stack.callback(store.kill)
        made = Running(tmp_path, feishu, model, slack, sink, deaf, store)
        service_port, agent_port = free_port(), free_port()
        slack_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        given = settings_of(made, slack_url, service_port, agent_port, link.split("/")[2])
        made.urls = {
            "service": f"http://127.0.0.1:{service_port}",
            "agent": f"http://127.0.0.1:{agent_port}",
            "link": link,
        }
        shutil.copy(core, tmp_path / "cores" / "core.7")
        await stack.enter_async_context(process("service", ["serve"], given, tmp_path))
        await stack.enter_async_context(process("agent", ["collect"], given, tmp_path))
        yield made


def stored_rows(folder: Path) -> Iterator[tuple[str, str]]:
    """Every row of every database of ours, as text."""
    for path in [*folder.rglob("*.db")]:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            for table in [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type='table'")]:
                for row in database.execute(f'SELECT * FROM "{table}"'):
                    texts = [value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in row]
                    yield f"{path.name}/{table}", " ".join(texts)


async def test_no_canary_gets_out(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    made = running
    headers = {"Authorization": f"Bearer {SERVICE_KEY}"}
    pages: dict[str, str] = {}
    async with httpx.AsyncClient(base_url=made.urls["service"], headers=headers, trust_env=False, timeout=60) as client:

        async def ended() -> list[str]:
            try:
                answer = await client.get("/api/v1/incidents")
            except httpx.HTTPError:
                return []
            items = answer.json()["incidents"] if answer.status_code == 200 else []
            return [one["id"] for one in items if one["status"] in ("diagnosed", "unknown", "failed")]

        [first] = await until(ended, "the agent's core")
        data = {"file_url": f"{made.urls['link']}?X-Amz-Signature={LINK}", "token": SERVICE_KEY}
        event: dict[str, Any] = {"specversion": "1.0", "id": "coredog-1-1", "source": "coredog-agent"}
        event |= {"type": "coredog.coredump.uploaded", "data": data}
        answer = await client.post(
            "/api/v1/events",
            content=json.dumps(event),
            headers={"Content-Type": "application/cloudevents+json"},
        )
        assert answer.status_code == 202, answer.text

        [taken] = answer.json()["events"]

        async def analysed() -> str | None:
            pages["job"] = (await client.get(f"/api/v1/jobs/{taken['job']['id']}")).text
            phase = json.loads(pages["job"])["phase"]
            return str(phase) if phase not in ("Pending", "Running") else None

        assert await until(analysed, "CoreDog's core") == "Completed", pages["job"]

        async def told() -> bool:
            kinds = [one.type for one in made.sink.events]
            return kinds.count("io.paramedic.incident.ended") >= 1 and bool(made.slack.slack) and bool(made.deaf.raw)

        await until(told, "notices and events")
        for address in (
            "/api/v1/incidents",
            f"/api/v1/incidents/{first}",
            f"/api/v1/incidents/{first}/report",
            "/metrics",
        ):
            page = await client.get(address)
            assert page.status_code == 200, (address, page.text)
            pages[address] = page.text
        async with httpx.AsyncClient(base_url=made.urls["agent"], trust_env=False, timeout=60) as agent:

            async def removed() -> bool:
                pages["agent"] = (await agent.get("/metrics")).text
                return 'paramedic_collector_queue{state="removed"} 1.0' in pages["agent"]

            await until(removed, "the agent is done")
    capsys.readouterr()
    await deliveries(f"sqlite+aiosqlite:///{made.folder / 'service' / 'paramedic.db'}", None, True)
    pages["dead letters"] = capsys.readouterr().out
    assert "events:deaf" in pages["dead letters"]

    leaks = [leak for where, text in pages.items() for leak in made.leaks(where, text)]
    leaks += [leak for where, text in stored_rows(made.folder) for leak in made.leaks(where, text)]
    told_outside = {
        "events": " ".join([*made.sink.raw, *made.deaf.raw]),
        "Slack": json.dumps(made.slack.slack),
        "Feishu": json.dumps([made.feishu.notices, [message.versions for message in made.feishu.messages.values()]]),
        "the model": json.dumps(made.model.requests),
        "the handler": (made.folder / "handled").read_text(errors="replace"),
    }
    assert made.slack.slack and (made.feishu.notices or made.feishu.messages) and made.model.requests
    leaks += [leak for where, text in told_outside.items() for leak in made.leaks(where, text)]
    given = {made.folder / name for name in ("encryption", "service-key", "shop-login")}
    for path in made.folder.rglob("*"):
        kept_for_analysis = path.parent.name == "uploads" or "run" in path.relative_to(made.folder).parts[:1]
        if path.is_file() and path not in given and not kept_for_analysis and path.suffix not in (".db", ".db-wal"):
            leaks += made.leaks(str(path.relative_to(made.folder)), path.read_bytes())
    assert leaks == []
    for name in re.findall(r"\bparamedic_[a-z_]+", (ROOT / "deploy/dashboards/paramedic.json").read_text()):
        exported = pages["agent"] if name.startswith("paramedic_collector_") else pages["/metrics"]
        shown_by_others = name.startswith("paramedic_webhook_")
        assert shown_by_others or re.search(rf"^{name}[ {{]", exported, re.MULTILINE), f"the dashboard asks for {name}"
    logs = (made.folder / "service.log").read_bytes() + (made.folder / "agent.log").read_bytes()
    assert b"core collected" in logs and b"the handler ended" in logs, "the log was not looked at"
