"""What a complete crash report costs: its CPU as a multiple of gdb's own on the same core, and its memory.

    python -m benchmarks.report [--plain]

The big core (2 GB, 200 threads) against `gdb -ex 'thread apply all bt'`, the walk alone against the same, and a
core whose 8 MB stack overflowed (`--plain` adds gdb's unlimited `bt` on it, which takes some twenty seconds). CPU is
that of the processes with all their children; runs alternate and the least of each counts. `report` has no gdb index of
glibc's debug information, as on a machine's first core; `later` has what an earlier report left (gdb.index_cache).
Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.big_core import big_core
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.unwind.walk import walk
from tests.standins import crashing

ROUNDS = 5
_GDB = ["gdb", "-batch", "-nx", "-iex", "set debuginfod enabled off", "-ex"]
_REPORT = [sys.executable, "-c", "from cli import main; main()", "diagnose", "core"]


def process(command: list[str], **environment: str) -> tuple[float, int]:
    """CPU seconds and the peak of memory in MB of any one process of it. wait4 tells this command from others."""
    with tempfile.TemporaryFile() as sink:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env={**os.environ, **environment}
        )
        _, _, used = os.wait4(child.pid, 0)
        child.returncode = 0
    return used.ru_utime + used.ru_stime, used.ru_maxrss // 1024


def walking(core: Path) -> float:
    """CPU seconds from an unopened file to every thread's program counters."""
    started = time.process_time()
    with CoreFile(core) as opened:
        found = walk(opened, Modules(opened))
    assert found is not None
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plain", action="store_true", help="also gdb's unlimited backtrace of the overflowed stack")
    arguments = parser.parse_args()
    big, store = big_core()
    deep, program = crashing.core("overflow"), crashing.program()
    report = [*_REPORT, str(big), "--exe", str(store), "--json"]
    none = {"PARAMEDIC_GDB__INDEX_CACHE_BYTES": "0"}
    with tempfile.TemporaryDirectory() as indexes:
        kept = {"PARAMEDIC_GDB__INDEX_CACHE": indexes}
        process(report, **kept)
        runs = [
            (
                process([*_GDB, "thread apply all bt", str(store), str(big)]),
                process(report, **none),
                process([*_REPORT, str(deep), "--exe", str(program), "--json"], **none),
                process(report, **kept),
            )
            for _ in range(ROUNDS)
        ]
    gdb, ours, overflow, later = (min(run[column] for run in runs) for column in range(4))
    walked = min(walking(big) for _ in range(ROUNDS))
    result = {
        "gdb_all_stacks_cpu_seconds": round(gdb[0], 2),
        "gdb_all_stacks_mb": gdb[1],
        "report_cpu_seconds": round(ours[0], 2),
        "report_mb": ours[1],
        "report_multiple": round(ours[0] / gdb[0], 2),
        "later_report_cpu_seconds": round(later[0], 2),
        "later_report_multiple": round(later[0] / gdb[0], 2),
        "walk_cpu_seconds": round(walked, 3),
        "walk_multiple": round(walked / gdb[0], 3),
        "overflow_cpu_seconds": round(overflow[0], 2),
        "overflow_mb": overflow[1],
    }
    if arguments.plain:
        plain = process([*_GDB, "bt", str(program), str(deep)])
        result |= {"overflow_gdb_cpu_seconds": round(plain[0], 2), "overflow_gdb_mb": plain[1]}
    for name, value in result.items():
        print(f"{name:<28} {value}")
    print(json.dumps({"benchmark": "report", "rounds": ROUNDS, **result}))


if __name__ == "__main__":
    main()
