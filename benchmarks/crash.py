"""Time from a core to its diagnosis, as a multiple of one plain `gdb -batch -ex bt` on the same core.

    python -m benchmarks.crash [CORE --exe EXE]

Without a core it builds and crashes the test program: one thread, and one with six idle threads. Runs alternate, and
the best of each counts: a busy machine then slows both alike. Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import time
from pathlib import Path

from settings import GdbSettings
from tools.gdb.analysis import analyze_core

ROUNDS = 5


def plain(core: Path, executable: Path) -> float:
    command = ["gdb", "-batch", "-nx", "-iex", "set debuginfod enabled off", "-ex", "bt", str(executable), str(core)]
    start = time.perf_counter()
    subprocess.run(command, check=False, capture_output=True, timeout=300)
    return time.perf_counter() - start


def ours(core: Path, executable: Path) -> float:
    start = time.perf_counter()
    asyncio.run(analyze_core(core, executable=executable, settings=GdbSettings()))
    return time.perf_counter() - start


def measure(name: str, core: Path, executable: Path) -> dict[str, float | str]:
    ours(core, executable)  # imports, page cache
    times = [(plain(core, executable), ours(core, executable)) for _ in range(ROUNDS)]
    gdb, paramedic = (min(column) for column in zip(*times, strict=True))
    return {
        "case": name,
        "gdb_bt_seconds": round(gdb, 3),
        "paramedic_seconds": round(paramedic, 3),
        "multiple": round(paramedic / gdb, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("core", type=Path, nargs="?")
    parser.add_argument("--exe", type=Path)
    arguments = parser.parse_args()
    if arguments.core:
        cases = [(arguments.core.name, arguments.core, arguments.exe)]
    else:
        from tests.standins import crashing

        modes = ("null", "thread", "exception", "overflow")
        cases = [(mode, crashing.core(mode), crashing.program()) for mode in modes]
    results = [measure(*case) for case in cases]
    print(f"{'case':<12} {'gdb bt':>8} {'ours':>8} {'multiple':>9}")
    for row in results:
        print(f"{row['case']:<12} {row['gdb_bt_seconds']:>7}s {row['paramedic_seconds']:>7}s {row['multiple']:>8}x")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"benchmark": "crash", "rounds": ROUNDS, "own_peak_mb": memory, "results": results}))


if __name__ == "__main__":
    main()
