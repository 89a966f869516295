"""A core of 2 GB with 200 threads for the benchmarks, made once and kept: `python -m benchmarks.big_core` prints it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.standins import crashing

THREADS, HEAP_MB = 200, 600
FOLDER = Path(tempfile.gettempdir()) / "paramedic-big-core"


def big_core() -> tuple[Path, Path]:
    """The core and its executable. Takes 3 GB of memory and 700 MB of disk when it is made."""
    executable, where = FOLDER / "store", FOLDER / "run"
    core = FOLDER / "core"
    if not core.exists():
        FOLDER.mkdir(exist_ok=True)
        source = Path(__file__).with_suffix(".cpp")
        command = ["g++", "-std=c++17", "-g", "-O2", "-Wl,--build-id", "-o", str(executable), str(source), "-pthread"]
        subprocess.run(command, check=True, timeout=120)
        crashing.crash(executable, [str(THREADS), str(HEAP_MB)], where).rename(core)
    return core, executable


if __name__ == "__main__":
    core, executable = big_core()
    status = core.stat()
    print(f"{core} --exe {executable}: {status.st_size} bytes, {status.st_blocks * 512} allocated", file=sys.stdout)
