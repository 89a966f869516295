"""Debian's Prometheus and Alertmanager as processes on loopback; where one is missing, its tests are skipped."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@asynccontextmanager
async def running(url: str, *command: str) -> AsyncIterator[str]:
    """The server until the end; it is ready when `/-/ready` says so."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await until(lambda client: client.get(f"{url}/-/ready"), lambda answer: answer.status_code == 200)
        yield url
    finally:
        process.terminate()
        await process.wait()


async def until(ask: Callable[[httpx.AsyncClient], object], seen: Callable[[httpx.Response], bool]) -> None:
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        for _ in range(1800):
            try:
                answer = await ask(client)  # type: ignore[misc]
                if seen(answer):
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.05)
    raise AssertionError("the server did not come to it in 90 s")
