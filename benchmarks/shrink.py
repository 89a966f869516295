"""The minimal core of a 2 GB core with 200 threads: its size, whether gdb shows the same, and what it costs.

    python -m benchmarks.shrink [CORE --exe EXE]

The cost is CPU time (user and system) as a multiple of reading the core once: of the work itself (reading: all
allocated bytes, in the same process), of the whole `paramedic core shrink` process (reading: a process that does
nothing else), and of the same from a stream, where holes come as zeros too (reading: a process that discards the
stream). Runs alternate and the least of each counts. Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.big_core import big_core
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.modules import Modules
from tools.cores.shrink import shrink
from tools.cores.sparse import Limits

ROUNDS = 5
SHRINK = [sys.executable, "-c", "from cli import main; main()", "core", "shrink"]
DISCARD = "import os\nwhile os.read(0, 1 << 20): pass"


def read(core: str) -> None:
    """Every allocated byte once; holes are skipped."""
    file = os.open(core, os.O_RDONLY)
    at, size = 0, os.fstat(file).st_size
    while at < size:
        try:
            at = os.lseek(file, at, os.SEEK_DATA)
        except OSError:
            break
        end = os.lseek(file, at, os.SEEK_HOLE)
        while at < end:
            at += len(os.pread(file, min(1 << 20, end - at), at))
    os.close(file)


def own(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def process(command: list[str], *arguments: Path | str, given: Path | None = None) -> float:
    def children() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = children()
    with (given or Path(os.devnull)).open("rb") as stdin:
        subprocess.run([*command, *map(str, arguments)], stdin=stdin, check=True, capture_output=True, timeout=300)
    return children() - before


def backtraces(executable: Path, core: Path) -> list[str]:
    command = ["gdb", "-batch", "-nx", "-iex", "set debuginfod enabled off", "-ex", "thread apply all bt"]
    done = subprocess.run([*command, str(executable), str(core)], check=False, capture_output=True, timeout=600)
    return done.stdout.decode(errors="replace").splitlines()


def build_ids(core: Path) -> dict[str, str | None]:
    with CoreFile(core) as opened:
        return {module.path: module.build_id for module in Modules(opened).all}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("core", type=Path, nargs="?")
    parser.add_argument("--exe", type=Path)
    arguments = parser.parse_args()
    core, executable = (arguments.core, arguments.exe) if arguments.core else big_core()
    with tempfile.TemporaryDirectory() as name:
        small, packed = Path(name) / "small", Path(name) / "small.zst"
        reader = [sys.executable, "-I", "-c", f"import os, sys\n{inspect.getsource(read)}\nread(sys.argv[1])"]
        discard = [sys.executable, "-I", "-c", DISCARD]
        times = [
            (
                own(lambda: read(str(core))),
                own(lambda: shrink(core, packed, Limits(), lambda text: None)),
                process(reader, core),
                process(SHRINK, core, packed),
                process(discard, given=core),
                process(SHRINK, "-", packed, given=core),
            )
            for _ in range(ROUNDS)
        ]
        done = shrink(core, small, Limits(), lambda text: None)
        before, after = backtraces(executable, core), backtraces(executable, small)
        differ = sum(a != b for a, b in zip(before, after, strict=False)) + abs(len(before) - len(after))
        ids = build_ids(core)
        result = {
            "size": done.size,
            "allocated": done.allocated,
            "reduced": done.reduced_size,
            "compressed": packed.stat().st_size,
            "lines": len(before),
            "lines_that_differ": differ,
            "build_ids": len(ids),
            "build_ids_kept": sum(build_ids(small).get(path) == found for path, found in ids.items()),
        }
    reading, work, read_process, whole, discarding, piped = (min(column) for column in zip(*times, strict=True))
    result |= {
        "read_cpu_seconds": round(reading, 3),
        "shrink_cpu_seconds": round(work, 3),
        "multiple": round(work / reading, 2),
        "process_multiple": round(whole / read_process, 2),
        "stream_multiple": round(piped / discarding, 2),
    }
    for name, value in result.items():
        print(f"{name:<20} {value}")
    print(json.dumps({"benchmark": "shrink", "rounds": ROUNDS, **result}))


if __name__ == "__main__":
    main()
