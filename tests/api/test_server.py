"""The service as it really runs: real services, a real process, real signals."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import httpx
import pytest

from api.server import run
from errors import InvalidInput
from graph.services import open_services
from settings import Settings
from tests.standins.parts import served

PROGRAM = (
    "import asyncio; from settings import load_settings; from api.server import run; asyncio.run(run(load_settings()))"
)


async def test_an_unusable_core_ends_with_a_clear_word_through_the_real_graph(tmp_path: Path):
    settings = Settings(data_dir=tmp_path, kubernetes={"enabled": False})
    async with open_services(settings) as services:
        await services.runner.start()
        async with served(services) as service:
            raw = {"Content-Type": "application/octet-stream"}
            stored = await service.client.post("/api/v1/uploads", content=b"this is no core\n" * 100, headers=raw)
            crash = {"core": {"upload": stored.json()["id"]}, "event": "it crashed"}
            answer = await service.client.post("/api/v1/autofix?wait=20", json=crash)
            assert answer.status_code == 200, answer.text
            found = answer.json()
            assert found["incident"]["status"] in ("failed", "unknown")
            said = await service.client.post(
                "/diagnose",
                json={"message": "status?", "incident_id": found["incident"]["id"]},
                headers={"Accept": "application/json"},
            )
            assert found["incident"]["status"] in said.json()["text"]
            assert (await service.client.get("/metrics")).status_code == 200


@pytest.mark.system
async def test_sigterm_drains_then_ends_with_success(tmp_path: Path):
    environment = {
        "PARAMEDIC_DATA_DIR": str(tmp_path),
        "PARAMEDIC_KUBERNETES__ENABLED": "false",
        "PARAMEDIC_API__PORT": "0",
        "PARAMEDIC_CONFIG": str(tmp_path / "none.toml"),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        url = line.split()[-1]
        async with httpx.AsyncClient(base_url=url, verify=False, trust_env=False, timeout=60) as client:
            assert (await client.get("/readyz")).status_code == 200
            process.send_signal(signal.SIGTERM)
            codes = []
            for _ in range(100):
                codes.append((await client.get("/readyz")).status_code)
                if codes[-1] == 503:
                    break
                await asyncio.sleep(0.01)
            assert codes[-1] == 503
            assert (await client.get("/livez")).status_code == 200
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_port_in_use_is_one_clear_sentence(tmp_path: Path):
    blocker = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = blocker.sockets[0].getsockname()[1]
    settings = Settings(data_dir=tmp_path, api={"port": port}, kubernetes={"enabled": False})
    with pytest.raises(InvalidInput, match=f"cannot listen on 127.0.0.1:{port}"):
        await run(settings)
    blocker.close()
    await blocker.wait_closed()
