"""From a posted crash to its diagnosis, as a multiple of one plain `gdb -batch -ex bt` on the same core.

    python benchmarks/end_to_end.py

The crash is the demo's program. The service runs by itself on loopback, without a cluster and without a model; the time
is from sending `POST /api/v1/autofix` to the event that ends the incident. Wall time in seconds; the two alternate and
the best of each counts, so that a busy machine slows both alike.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from terminal.demo_crash import MadeCrash, make_crash
from terminal.demo_service import follow, running_service

RUNS = 5


def plain_gdb(crash: MadeCrash) -> float:
    began = time.perf_counter()
    subprocess.run(
        ["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", "-ex", "bt", crash.program, crash.core],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=120,
    )
    return time.perf_counter() - began


def diagnosed(client: httpx.Client, crash: MadeCrash) -> float:
    body = {"event": "benchmark", "core": {"path": str(crash.core), "executable": str(crash.program)}, "force": True}
    began = time.perf_counter()
    incident = client.post("/api/v1/autofix", json=body).raise_for_status().json()
    last = [name for name, _ in follow(client, incident["links"]["events"])][-1]
    taken = time.perf_counter() - began
    ended = client.get(incident["links"]["self"]).raise_for_status().json()
    assert last == "end" and ended["incident"]["status"] == "diagnosed", ended["incident"]
    return taken


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        crash = make_crash(folder, lambda _: None)
        roots = json.dumps([str(folder)])
        with running_service(folder, CORE__ROOTS=roots, KUBERNETES__ENABLED="false") as (client, _):
            rounds = [(plain_gdb(crash), diagnosed(client, crash)) for _ in range(RUNS)]
        plain, whole = (min(taken) for taken in zip(*rounds, strict=True))
        size = crash.core.stat().st_size / 1e6
    table = Table("what", "best", "times", title=f"A core of {size:.0f} MB, {RUNS} rounds", title_justify="left")
    table.add_row("gdb -batch -ex bt", f"{plain:.3f} s", "1.0")
    table.add_row("posted crash to diagnosis", f"{whole:.3f} s", f"{whole / plain:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
