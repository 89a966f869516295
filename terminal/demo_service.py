"""A service of one's own for the demo and the benchmarks: started on a free port, stopped at the end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from errors import ToolFailed, ToolTimeout

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0


@contextmanager
def running_service(folder: Path, **settings: str) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """Run `paramedic serve` with its data in `folder` and nothing but `settings` (`CORE__ROOTS=…`) configured.

    Yields a client of it and its process once `/readyz` says so. Raises ToolFailed with the end of its log.
    """
    port = _free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith("PARAMEDIC_")}
    env |= {f"PARAMEDIC_{name}": value for name, value in settings.items()}
    env |= {"PARAMEDIC_CONFIG": str(folder / "none.toml"), "PARAMEDIC_DATA_DIR": str(folder / "data")}
    log = folder / "service.log"
    command = [sys.executable, "-m", "cli", "serve", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        service = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        # no proxy of the environment stands between a machine and itself
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            _wait_ready(client, service, log)
            yield client, service
    finally:
        service.send_signal(signal.SIGINT)  # as Ctrl-C does: at once; SIGTERM would drain first
        try:
            service.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            service.kill()
            service.wait()


def follow(client: httpx.Client, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a server-sent stream as (name, data), until it ends. Raises ToolFailed when it breaks."""
    name = "message"
    try:
        with client.stream("GET", path, headers={"Accept": "text/event-stream"}) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                if line.startswith("event:"):
                    name = line.removeprefix("event:").strip()
                elif line.startswith("data:"):
                    yield name, json.loads(line.removeprefix("data:"))
    except (httpx.HTTPError, ValueError) as error:
        raise ToolFailed(f"the event stream broke: {error}") from None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_ready(client: httpx.Client, service: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if service.poll() is not None:
            tail = " ".join(log.read_text("utf-8", "replace").split())[-800:]
            raise ToolFailed(f"the service ended by itself (exit code {service.returncode}): {tail}")
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(0.05)
    raise ToolTimeout(f"the service was not ready within {_START_SECONDS:.0f} s; its log is {log}")
