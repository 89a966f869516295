"""How long `paramedic --help` and the start of the service take, and what the service needs while nothing happens.

    python benchmarks/startup.py

Medians of wall time in seconds; memory is the resident set of the service process, two seconds after it was ready.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from terminal.demo_service import running_service

RUNS = 7
SERVICE_RUNS = 3
REST_SECONDS = 2.0


def seconds(work: Callable[[], object], runs: int) -> float:
    """Median wall time of `work`, after one run that warms the file cache."""
    work()
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)


def start_service() -> tuple[float, int]:
    """Seconds until `/readyz` answers 200 in a fresh data directory, and the bytes resident at rest."""
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        with running_service(Path(name), KUBERNETES__ENABLED="false") as (_, service):
            taken = time.perf_counter() - began
            time.sleep(REST_SECONDS)
            status = Path(f"/proc/{service.pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return taken, int(resident.split()[1]) * 1024


def main() -> None:
    paramedic = str(Path(sys.executable).with_name("paramedic"))
    bare = seconds(lambda: run(sys.executable, "-c", "pass"), RUNS)
    shown = seconds(lambda: run(paramedic, "--help"), RUNS)
    starts = [start_service() for _ in range(SERVICE_RUNS + 1)][1:]
    table = Table("what", "measured", "target", title="Start and rest", title_justify="left")
    table.add_row("python -c pass", f"{bare:.3f} s", "")
    table.add_row("paramedic --help", f"{shown:.3f} s ({shown / bare:.1f}x)", "< 0.5 s")
    table.add_row("service, start to /readyz", f"{statistics.median(item[0] for item in starts):.2f} s", "< 5 s")
    table.add_row("service at rest, resident", f"{statistics.median(item[1] for item in starts) / 1e6:.0f} MB", "")
    Console().print(table)


if __name__ == "__main__":
    main()
