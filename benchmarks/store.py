"""From a core to stored bytes: what it costs against `zstd -1 | cp` of the same file.

    python -m benchmarks.store [CORE]

The 2 GB core of the other benchmarks into a folder, reduced and whole: compressed, hashed, written through to the
disk, read again and compared; beside it the same with encryption, and the reduced core alone, which is all that is
stored of a crash that is known. The other side compresses and copies, checks nothing and leaves the bytes in the page
cache. What is done once when the core is collected (its sha256, holes as zeros, and its seal) stands apart. CPU is user
and system time of all processes; runs alternate, so does who comes first, and the least of each counts. Prints a table
and one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.big_core import big_core
from collector.identify import fingerprint
from collector.local_file import LocalFile
from collector.reduce import Reducer
from incidents.collected import CollectedCore, Completeness
from settings import ShippingSettings, StoreSettings
from tools.objectstore.encryption import Keyring
from tools.objectstore.store import ObjectStore

ROUNDS = 4
LIMIT = 1.25


def zstd_cp(core: Path, folder: Path) -> int:
    target = folder / "copy.zst"
    with subprocess.Popen(["zstd", "-1", "-q", "-c", str(core)], stdout=subprocess.PIPE) as packing:
        subprocess.run(["cp", "/dev/stdin", str(target)], stdin=packing.stdout, check=True)
    return target.stat().st_size


def collected(core: Path) -> tuple[float, tuple[str, str]]:
    """What was done before anything is stored: CPU seconds, and hash and seal of the core."""
    began = _cpu()
    found = fingerprint(core)
    return _cpu() - began, found


def stored(core: Path, folder: Path, known: tuple[str, str], *, whole: bool = True, ring: Keyring | None = None) -> int:
    """As the agent does it: prepare, then put; bytes in the store."""
    sha256, seal = known
    store = ObjectStore(StoreSettings(url=folder.as_uri()))
    reducer = Reducer(ShippingSettings(disk_reserve_bytes=0), folder / "staging", "paramedic", ring)
    now = datetime.now(UTC)
    record = CollectedCore(id="core_1", sha256=sha256, completeness=Completeness.COMPLETE, collected_at=now, node="n")
    file = replace(LocalFile.at(core), seal=seal)

    async def run() -> int:
        staged, _ = await reducer.stage(record, file, whole=whole)
        return sum([(await store.put(one.path, one.key, sha256=one.sha256)).size for one in staged])

    return asyncio.run(run())


def measured(work: Callable[[Path, Path], int], core: Path) -> tuple[float, float, int]:
    """CPU and wall seconds, and bytes stored."""
    folder = Path(tempfile.mkdtemp(prefix="paramedic-store-", dir=core.parent))
    try:
        began, clock = _cpu(), time.monotonic()
        size = work(core, folder)
        return _cpu() - began, time.monotonic() - clock, size
    finally:
        shutil.rmtree(folder)


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("core", nargs="?", type=Path)
    core = parser.parse_args().core or big_core()[0]
    ring = Keyring({"benchmark": os.urandom(32)})
    hashing, known = min((collected(core) for _ in range(2)), key=lambda one: one[0])
    ways: dict[str, Callable[[Path, Path], int]] = {
        "zstd -1 | cp": zstd_cp,
        "stored": lambda core, folder: stored(core, folder, known),
        "stored, encrypted": lambda core, folder: stored(core, folder, known, ring=ring),
        "stored reduced only": lambda core, folder: stored(core, folder, known, whole=False),
    }
    runs: dict[str, list[tuple[float, float, int]]] = {name: [] for name in ways}
    order = list(ways)
    for _ in range(ROUNDS):
        for name in order:
            runs[name].append(measured(ways[name], core))
        order.append(order.pop(0))
    least = {name: (min(r[0] for r in found), min(r[1] for r in found), found[0][2]) for name, found in runs.items()}
    base = least["zstd -1 | cp"]
    print(f"{core.stat().st_size / 1e6:.0f} MB, {core.stat().st_blocks * 512 / 1e6:.0f} MB of it on the disk")
    for name, (cpu, wall, size) in least.items():
        ratio = f"{cpu / base[0]:5.2f} x CPU  {wall / base[1]:5.2f} x time"
        print(f"{name:<26} {cpu:6.2f} s CPU  {wall:6.2f} s  {size / 1e6:8.2f} MB  {ratio}")
    print(f"{'before: hashed and sealed':<26} {hashing:6.2f} s CPU   {hashing / base[0]:5.2f} x CPU, once a core")
    ratios = {name: round(cpu / base[0], 3) for name, (cpu, _, _) in least.items()}
    print(json.dumps({"benchmark": "store", "cpu_ratio": ratios, "limit": LIMIT, "rounds": ROUNDS}))


if __name__ == "__main__":
    main()
