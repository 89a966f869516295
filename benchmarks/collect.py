"""What the collection side costs when nothing crashes, and how many events the service takes.

    python -m benchmarks.collect

Two real node agents, one with an empty folder and one with a thousand files that it has dealt with, are watched for a
minute: CPU seconds of all their processes as a share of one core. With KUBECONFIG set they also look at the pods of the
node, as in a cluster. Then a real service takes events about cores through POST /api/v1/events on loopback, one by one
over eight connections and in batches of a hundred; beside it the same connections ask for /livez, which does nothing.
Prints a table and one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

FILES, SECONDS = 1000, 60
EVENTS, CONNECTIONS, BATCH = 1000, 8, 100
PARAMEDIC = Path(sys.executable).with_name("paramedic")
_TICK = os.sysconf("SC_CLK_TCK")


def process(folder: Path, text: str, *command: str) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    (folder / "paramedic.toml").write_text(f'data_dir = "{folder}/data"\n{text}')
    env = {key: value for key, value in os.environ.items() if not key.startswith("PARAMEDIC_")}
    env["PARAMEDIC_CONFIG"] = str(folder / "paramedic.toml")
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([str(PARAMEDIC), *command], env=env, stdout=log, stderr=log)


def cpu(pid: int) -> float:
    """CPU seconds of a process and of those it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICK


def agent(folder: Path, files: int) -> subprocess.Popen[bytes]:
    """An agent that has dealt with so many files, each of which stays where it is: texts called core."""
    root = folder / "cores"
    for number in range(files):
        place = root / "team" / f"shop-{number % 20}_{uuid.UUID(int=number % 20)}" / "app"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"core.{number}").write_text(f"no core {number}\n")
    root.mkdir(parents=True, exist_ok=True)
    return process(folder, f'[collector]\nroots = ["{root}"]\nsettle_seconds = 1\n', "collect")


def done(folder: Path) -> int:
    path = folder / "data" / "collector" / "outbox.db"
    if not path.exists():
        return -1
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT count(*) FROM items WHERE state='removed'").fetchone()[0])


def idle(folder: Path) -> dict[int, float]:
    """The share of one core, by the number of files."""
    agents = {count: (folder / str(count), agent(folder / str(count), count)) for count in (0, FILES)}
    try:
        for count, (place, _) in agents.items():
            while done(place) != count:
                time.sleep(0.2)
        time.sleep(5)
        before = {count: cpu(running.pid) for count, (_, running) in agents.items()}
        time.sleep(SECONDS)
        return {count: (cpu(running.pid) - before[count]) / SECONDS for count, (_, running) in agents.items()}
    finally:
        for _, running in agents.values():
            running.terminate()
            running.wait(30)


def event() -> dict[str, Any]:
    """About a file that is no core: noted, and nothing is analysed for it."""
    id = f"core_{uuid.uuid4().hex[:16]}"
    data = {"id": id, "completeness": "not_a_core", "collected_at": "2026-11-21T10:00:00Z", "node": "node1"}
    origin = {"namespace": "team", "pod": "shop-0", "container": "app"}
    return {
        "specversion": "1.0",
        "id": id,
        "source": "/paramedic/nodes/node1",
        "type": "io.paramedic.core.collected",
        "data": {**data, "origin": origin},
    }


async def rate(client: httpx.AsyncClient, requests: list[dict[str, Any]]) -> float:
    """Requests a second over all connections."""
    waiting = list(requests)

    async def connection() -> None:
        while waiting:
            answer = await client.request(**waiting.pop())
            answer.raise_for_status()

    began = time.monotonic()
    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    return len(requests) / (time.monotonic() - began)


async def events(folder: Path) -> dict[str, float]:
    """Events a second, or requests for /livez."""
    running = process(folder, "", "serve", "--port", "18473")
    one = {"Content-Type": "application/cloudevents+json"}
    many = {"Content-Type": "application/cloudevents-batch+json"}

    def post(body: object, headers: dict[str, str]) -> dict[str, Any]:
        return {"method": "POST", "url": "/api/v1/events", "content": json.dumps(body), "headers": headers}

    try:
        async with httpx.AsyncClient(base_url="http://127.0.0.1:18473", timeout=60, trust_env=False) as client:
            while True:
                try:
                    (await client.get("/readyz")).raise_for_status()
                    break
                except httpx.HTTPError:
                    assert running.poll() is None, (folder / "log").read_text()
                    await asyncio.sleep(0.2)
            looks = [{"method": "GET", "url": "/livez"}] * EVENTS
            await rate(client, looks[:100])
            return {
                "GET /livez": await rate(client, looks),
                "one by one": await rate(client, [post(event(), one) for _ in range(EVENTS)]),
                "in batches": BATCH
                * await rate(client, [post([event() for _ in range(BATCH)], many) for _ in range(EVENTS // BATCH)]),
            }
    finally:
        running.terminate()
        running.wait(30)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="paramedic-collect-"))
    try:
        shares = idle(folder)
        rates = asyncio.run(events(folder / "service"))
    finally:
        shutil.rmtree(folder)
    for count, share in shares.items():
        print(f"agent, idle, {count:>5} files   {share:8.2%} of one core")
    for name, found in rates.items():
        print(f"{name:<26} {found:8.0f} /s")
    print(
        json.dumps(
            {
                "benchmark": "collect",
                "idle_share": {str(count): round(share, 4) for count, share in shares.items()},
                "per_second": {name: round(found) for name, found in rates.items()},
                "cluster": "KUBECONFIG" in os.environ,
            }
        )
    )


if __name__ == "__main__":
    main()
