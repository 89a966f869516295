"""Seconds from a core's last byte on its node to the stored core's incident, and to its diagnosis.

    python -m benchmarks.dump_to_incident

A real node agent watches a folder; a real service on loopback, without a cluster and without a model, and a folder as
store stand behind it. The crash is the demo's program, compiled and run anew for each round, so that none is known; its
core is laid down in one piece where a pod's would be. Wall time in seconds; the agent's default settings.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from terminal.demo_crash import MadeCrash, make_crash
from terminal.demo_service import running_service

ROUNDS, LIMIT = 4, 60.0
PARAMEDIC = Path(sys.executable).with_name("paramedic")


def agent(folder: Path, store: str, url: str, programs: Path) -> subprocess.Popen[bytes]:
    settings = {
        "DATA_DIR": str(folder / "agent"),
        "COLLECTOR__ROOTS": json.dumps([str(folder / "cores")]),
        "COLLECTOR__IMAGE_LAYERS": json.dumps([str(programs)]),
        "COLLECTOR__SERVICE_URL": f"{url}/api/v1/events",
        "STORE__URL": store,
        "SHIPPING__DISK_RESERVE_BYTES": "0",
        "KUBERNETES__ENABLED": "false",
        "CONFIG": str(folder / "none.toml"),
    }
    env = {key: value for key, value in os.environ.items() if not key.startswith("PARAMEDIC_")}
    env |= {f"PARAMEDIC_{name}": value for name, value in settings.items()}
    with (folder / "agent.log").open("wb") as log:
        return subprocess.Popen([str(PARAMEDIC), "collect"], env=env, stdout=log, stderr=log)


def collected(client: httpx.Client, folder: Path, crash: MadeCrash, number: int) -> tuple[float, float]:
    """Seconds to the incident of one more pod's core, and to its end."""
    pod = f"shop-{number}"
    place = folder / "cores" / "team" / f"{pod}_{uuid.uuid4()}" / "app"
    place.mkdir(parents=True)
    shutil.copy(crash.core, place / f"core.{number}")
    began, opened = time.monotonic(), None
    while time.monotonic() - began < LIMIT:
        found = client.get("/api/v1/incidents", params={"namespace": "team"}).raise_for_status().json()["incidents"]
        mine = next((item for item in found if item["target"]["name"] == pod), None)
        opened = opened or (time.monotonic() - began if mine else None)
        if mine and opened and mine["summary"]:
            return opened, time.monotonic() - began
        time.sleep(0.02)
    raise SystemExit(f"nothing within {LIMIT:g} s: {(folder / 'agent.log').read_text()[-2000:]}")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = (folder / "store").as_uri()
        for made in ("store", "cores", *map(str, range(1, ROUNDS + 1))):
            (folder / made).mkdir()
        crash = make_crash(folder / "1", lambda _: None)
        with running_service(folder, STORE__URL=store, KUBERNETES__ENABLED="false") as (client, _):
            running = agent(folder, store, str(client.base_url).rstrip("/"), crash.program.parent)
            try:
                while "collecting" not in (folder / "agent.log").read_text():
                    assert running.poll() is None, (folder / "agent.log").read_text()
                    time.sleep(0.1)
                rounds = [collected(client, folder, crash, 1)]
                for number in range(2, ROUNDS + 1):
                    again = make_crash(folder / str(number), lambda _: None)
                    rounds.append(collected(client, folder, again, number))
            finally:
                running.terminate()
                running.wait(30)
        size = crash.core.stat().st_size / 1e6
    title = f"Seconds after a core of {size:.0f} MB, {ROUNDS} rounds"
    table = Table("until", "best", "worst", title=title, title_justify="left")
    for until, taken in zip(("incident", "diagnosis"), zip(*rounds, strict=True), strict=True):
        table.add_row(until, f"{min(taken):.1f}", f"{max(taken):.1f}")
    Console().print(table)
    print(json.dumps({"incident_seconds": [one for one, _ in rounds], "diagnosis_seconds": [two for _, two in rounds]}))


if __name__ == "__main__":
    main()
