"""CPU of the second core of a known crash, as a share of the first one's.

    python -m benchmarks.known_crash

Two processes crash in the same way. The first core is read by gdb; the second is recognised by its build-ids, signal
and return addresses and named after the first. Counted is user and system time of this process and its children for
everything between a core and its stored diagnosis: reading, unwinding, gdb, grouping, the record. What confines the
reader is left out of both (a fork of some milliseconds). Prints a table and one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import resource
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Literal

from agents.known_crashes import KnownCrashes
from diagnosis.crashes.identity import identity_of
from incidents.database import Database
from incidents.drafts import Drafts
from incidents.models import Diagnosis, ObjectRef, Via
from incidents.store import IncidentStore
from settings import GdbSettings
from tests.standins import crashing
from tools.gdb.analysis import examine_core

ROUNDS = 4
MODES = ("null", "thread", "exception", "double_free", "overflow")


def cpu() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


async def examine(core: Path, effort: Literal["full", "identity"]) -> Diagnosis:
    found = await examine_core(
        core,
        executable=crashing.program(),
        settings=GdbSettings(sandbox="rlimits"),
        sysroot=None,
        debug_dirs=[],
        executable_dirs=[],
        fetched=None,
        effort=effort,
        soft_errors=[],
        progress=lambda text: None,
    )
    return found.diagnosis


class Service:
    """The analyst's steps on a record of its own."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.incidents = IncidentStore(database, folder)
        self.drafts = Drafts(database)
        self.known = KnownCrashes(database, self.incidents, 0)

    async def take(self, core: Path, *, recall: bool) -> Diagnosis:
        target = ObjectRef(kind="Process", name="shop")
        incident = await self.incidents.create(target, "benchmark", requested_by="local", via=Via.CLI)
        own = await examine(core, "identity")
        identity = identity_of(own.crash) if own.crash else None
        same = await self.known.recall(incident, own) if recall else None
        assert (same is not None) is recall, "the second core was not recognised"
        found = same or await examine(core, "full")
        found = await self.known.placed(incident, found, None, identity, analysed=same is None)
        await self.drafts.save(incident.id, "gdb_analyst", found)
        await self.incidents.save_evidence(incident.id, found.evidence)
        return found


async def spent(work: Awaitable[object]) -> float:
    before = cpu()
    await work
    return cpu() - before


async def measure(mode: str) -> dict[str, float | str]:
    first_core, second_core = crashing.core(mode, 0), crashing.core(mode, 1)
    first, second = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as name:
            database = await Database.open(f"sqlite+aiosqlite:///{name}/paramedic.db")
            service = Service(database, Path(name))
            first.append(await spent(service.take(first_core, recall=False)))
            second.append(await spent(service.take(second_core, recall=True)))
            await database.close()
    return {
        "case": mode,
        "first_cpu_seconds": round(min(first), 3),
        "second_cpu_seconds": round(min(second), 3),
        "ratio": round(min(second) / min(first), 3),
    }


def main() -> None:
    results = [asyncio.run(measure(mode)) for mode in MODES]
    print(f"{'case':<12} {'first':>8} {'second':>8} {'ratio':>7}")
    for row in results:
        print(f"{row['case']:<12} {row['first_cpu_seconds']:>7}s {row['second_cpu_seconds']:>7}s {row['ratio']:>7}")
    print(json.dumps({"benchmark": "known_crash", "rounds": ROUNDS, "results": results}))


if __name__ == "__main__":
    main()
