"""`paramedic …` as processes, started as users start them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def environment(folder: Path, given: Mapping[str, Any]) -> dict[str, str]:
    """Nothing of the tests' own, and `given` as PARAMEDIC_…; a path or number as its text."""
    own = {f"PARAMEDIC_{name}": str(value) for name, value in {"CONFIG": folder / "none.toml", **given}.items()}
    return {"PATH": os.environ["PATH"], "HOME": str(folder), **own}


@asynccontextmanager
async def process(name: str, command: list[str], environment: dict[str, str], folder: Path) -> AsyncIterator[None]:
    """`paramedic …` with its data and its log in `folder`; it is asked to end, and must."""
    environment = environment | {"PARAMEDIC_DATA_DIR": str(folder / name)}
    with (folder / f"{name}.log").open("ab") as log:
        made = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", *command, cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        try:
            yield
        finally:
            if made.returncode is None:
                made.send_signal(signal.SIGTERM)
                await asyncio.wait_for(made.wait(), 60)


async def until(done: Callable[[], Awaitable[Any]], what: str) -> Any:
    async with asyncio.timeout(240):  # of a loaded machine
        while not (found := await done()):
            await asyncio.sleep(0.2)
    assert found, what
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
