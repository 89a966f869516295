"""Three real services that call each other, traffic through them, and a real Prometheus that scrapes them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from tests.standins import metered_service
from tests.standins.prometheus_server import free_port, program, running

SCRAPE = 0.2
CHAIN = ("web", "cart", "db")
"""Each calls the next."""


@dataclass
class Shop:
    """`urls` of the services by name, and of Prometheus."""

    prometheus: str
    urls: dict[str, str]

    async def break_it(self, name: str, kind: str) -> datetime:
        """Break a service for real; the time when it was done."""
        at = datetime.now(UTC)
        async with httpx.AsyncClient(trust_env=False) as client:
            (await client.get(f"{self.urls[name]}/fault/{kind}")).raise_for_status()
        return at


@asynccontextmanager
async def open_shop(folder: Path) -> AsyncIterator[Shop]:
    server, port = program("prometheus"), free_port()
    ports = {name: free_port() for name in CHAIN}
    urls = {name: f"http://127.0.0.1:{at}" for name, at in ports.items()}
    jobs = [
        {
            "job_name": name,
            "scrape_interval": f"{int(SCRAPE * 1000)}ms",
            "scrape_timeout": f"{int(SCRAPE * 1000)}ms",
            "static_configs": [
                {"targets": [f"127.0.0.1:{at}"], "labels": {"namespace": "shop", "pod": f"{name}-5d5f8c7b9c-x2x4z"}}
            ],
        }
        for name, at in ports.items()
    ]
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": jobs}))
    async with AsyncExitStack() as stack:
        for index, name in enumerate(CHAIN):
            callee = CHAIN[index + 1] if index + 1 < len(CHAIN) else ""
            command = [sys.executable, "-I", metered_service.__file__, name, str(ports[name])]
            process = await asyncio.create_subprocess_exec(
                *command, *([urls[callee]] if callee else []), env={"CALLEE": callee}
            )
            stack.push_async_callback(_stopped, process)
        command = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
        url = await stack.enter_async_context(running(f"http://127.0.0.1:{port}", server, *command))
        traffic = asyncio.create_task(_traffic(urls["web"]))
        yield Shop(url, urls)
        traffic.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await traffic


async def _stopped(process: asyncio.subprocess.Process) -> None:
    process.kill()
    await process.wait()


async def _traffic(url: str) -> None:
    """Thirty requests a second or fewer, one after the other from two callers."""

    async def caller(client: httpx.AsyncClient) -> None:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                await client.get(f"{url}/work")
            await asyncio.sleep(0.06)

    async with httpx.AsyncClient(trust_env=False) as client:
        await asyncio.gather(caller(client), caller(client))
