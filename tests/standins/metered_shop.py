"""Three real services that call each other, traffic through them, and a real Prometheus that scrapes them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx

from tests.standins import metered_service
from tests.standins.prometheus_server import free_port, program, running

SCRAPE = 0.1
CHAIN = ("web", "cart", "db")
"""Each calls the next."""


@dataclass
class Shop:
    """`urls` of the services by name, and of Prometheus."""

    prometheus: str
    urls: dict[str, str]
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def break_it(self, name: str, kind: str) -> datetime:
        """Break a service for real; the time when it was done."""
        at = datetime.now(UTC)
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            (await client.get(f"{self.urls[name]}/fault/{kind}")).raise_for_status()
        return at

    async def roll_out(self, name: str, fault: str = "") -> datetime:
        """Put a new process in the place of a service's; one with a fault is a bad rollout."""
        if name in self.processes:
            await _stopped(self.processes[name])
        at = datetime.now(UTC)
        position = CHAIN.index(name) + 1
        callee = CHAIN[position] if position < len(CHAIN) else ""
        command = [sys.executable, "-I", metered_service.__file__, name, self.urls[name].rpartition(":")[2]]
        self.processes[name] = await asyncio.create_subprocess_exec(
            *command, *([self.urls[callee]] if callee else []), env={"CALLEE": callee, "FAULT": fault}
        )
        return at


@asynccontextmanager
async def open_shop(folder: Path, scrape: float = SCRAPE) -> AsyncIterator[Shop]:
    """`scrape` is seconds between scrapes."""
    server, port = program("prometheus"), free_port()
    urls = {name: f"http://127.0.0.1:{free_port()}" for name in CHAIN}
    every = f"{int(scrape * 1000)}ms"
    jobs = [
        {
            "job_name": name,
            "scrape_interval": every,
            "scrape_timeout": every,
            "static_configs": [
                {
                    "targets": [url.removeprefix("http://")],
                    "labels": {"namespace": "shop", "pod": f"{name}-5d5f8c7b9c-x2x4z"},
                }
            ],
        }
        for name, url in urls.items()
    ]
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": jobs}))
    shop = Shop(f"http://127.0.0.1:{port}", urls)
    try:
        for name in CHAIN:
            await shop.roll_out(name)
        command = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
        async with running(shop.prometheus, server, *command):
            traffic = asyncio.create_task(_traffic(urls["web"]))
            yield shop
            traffic.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await traffic
    finally:
        for process in shop.processes.values():
            await _stopped(process)


async def _stopped(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


async def _traffic(url: str) -> None:
    """Thirty requests a second or fewer, one after the other from two callers."""

    async def caller(client: httpx.AsyncClient) -> None:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                await client.get(f"{url}/work")
            await asyncio.sleep(0.06)

    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        await asyncio.gather(caller(client), caller(client))
