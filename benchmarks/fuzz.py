"""Mutated cores and mutated executables: each must give an honest report or one clear error, in bounded memory.

    python -m benchmarks.fuzz [--cores 1000] [--programs 1000] [--with-gdb 20] [--seed 1]

Every case runs in a forked process with limits on memory, processor time and time. Most run what reads the files
without gdb, and reduce the core too; every 20th goes through `analyze_core` as a user's would, with gdb and its
sandbox. Prints a table, the first failures, and one JSON line; exits with 1 when a case failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import select
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from errors import ParamedicError
from incidents.crash_report import CrashReport
from settings import GdbSettings
from tests.standins import crashing
from tests.standins.core_mutations import mutate, mutate_program
from tools.cores.shrink import shrink
from tools.cores.sparse import Limits
from tools.gdb.analysis import analyze_core, examine_core

MODES = ("null", "exception", "double_free")
SECONDS = 100
MEMORY = 4 << 30
RESIDENT_KB = 600 << 10
SETTINGS = GdbSettings(deadline=60)


@dataclass(frozen=True)
class Outcome:
    """`kind` is report, error, or what failed: crash, hang, memory. Processor seconds, resident kilobytes."""

    kind: str
    detail: str
    seconds: float
    resident: int

    @property
    def failed(self) -> bool:
        return self.kind not in ("report", "error")


def examine(core: Path, executable: Path | None, folder: Path) -> CrashReport:
    """All that is done without gdb, and the reduced core."""
    found = asyncio.run(
        examine_core(
            core,
            executable=executable,
            settings=SETTINGS,
            sysroot=None,
            debug_dirs=(),
            executable_dirs=(),
            fetched=None,
            effort="notes",
            soft_errors=(),
            progress=lambda text: None,
        )
    )
    if executable is None:
        shrink(core, folder / "small", Limits(disk_reserve=0), lambda text: None, folder)
    return found.report


def analyze(core: Path, executable: Path | None) -> CrashReport:
    return asyncio.run(analyze_core(core, executable=executable, settings=SETTINGS)).report


def contained(work: Callable[[], CrashReport]) -> Outcome:
    """Run `work` in a process of its own. Its memory is what it takes beyond the pages that it is born with."""
    born_with = int(Path("/proc/self/statm").read_text().split()[1]) * (resource.getpagesize() >> 10)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _run(work, writing)
    os.close(writing)
    said = b""
    until = time.monotonic() + SECONDS
    while (left := until - time.monotonic()) > 0 and select.select([reading], [], [], left)[0]:
        part = os.read(reading, 1 << 16)
        if not part:
            break
        said += part
    else:
        os.kill(child, 9)
        said = b'["hang", "no answer"]'
    os.close(reading)
    _, status, used = os.wait4(child, 0)
    kind, detail = json.loads(said) if said else ("crash", f"status {status}")
    resident = max(0, used.ru_maxrss - born_with)
    if kind == "report" and resident > RESIDENT_KB:
        kind, detail = "memory", f"{resident} KB"
    return Outcome(kind, detail, used.ru_utime + used.ru_stime, resident)


def _run(work: Callable[[], CrashReport], writing: int) -> None:
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            report = work()
            CrashReport.model_validate_json(report.model_dump_json(by_alias=True))
            answer = ["report", report.status] if report.threads else ["crash", "a report without threads"]
        except ParamedicError as error:
            text = str(error)
            clear = text and "\n" not in text and text.isprintable() and "analysis failed" not in text
            answer = ["error" if clear else "crash", f"{type(error).__name__}: {text}"]
        except MemoryError:
            answer = ["memory", "the limit"]
        except BaseException as error:
            steps = "".join(traceback.format_tb(error.__traceback__)[-3:])
            answer = ["crash", f"{type(error).__name__}: {error}\n{steps}"]
        os.write(writing, json.dumps(answer).encode()[:60_000])
    finally:
        os._exit(0)


def fuzz(kind: str, count: int, with_gdb: int, seed: int) -> tuple[dict[str, object], list[str]]:
    """`count` cases of `cores` or `programs`; counts of outcomes, and the failures in words."""
    outcomes: list[Outcome] = []
    failures = []
    for number in range(count):
        dice = random.Random(f"{kind} {seed} {number}")
        core, executable = crashing.core(MODES[number % len(MODES)]), None
        with tempfile.TemporaryDirectory(prefix="paramedic-fuzz-") as name:
            folder = Path(name)
            source = core if kind == "cores" else crashing.program()
            data = bytearray(source.read_bytes())
            (mutate if kind == "cores" else mutate_program)(data, dice)
            (folder / "mutated").write_bytes(data)
            if kind == "cores":
                core = folder / "mutated"
            else:
                executable = folder / "mutated"
            full = with_gdb > 0 and number % with_gdb == 0
            outcome = contained(
                lambda: analyze(core, executable) if full else examine(core, executable, folder)  # noqa: B023
            )
        outcomes.append(outcome)
        if outcome.failed:
            failures.append(f"{kind} {number}{' with gdb' if full else ''}: {outcome.kind}: {outcome.detail}")
    counts = Counter(outcome.kind for outcome in outcomes)
    row: dict[str, object] = {
        "cases": count,
        "with_gdb": len(range(0, count, with_gdb)) if with_gdb else 0,
        "reports": counts["report"],
        "clear_errors": counts["error"],
        "failures": len(failures),
        "most_seconds": round(max(outcome.seconds for outcome in outcomes), 2),
        "most_resident_mb": max(outcome.resident for outcome in outcomes) >> 10,
    }
    return row, failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", type=int, default=1000)
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--with-gdb", type=int, default=20, help="every so many cases through gdb; 0: none")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    results, failures = {}, []
    for kind, count in (("cores", arguments.cores), ("programs", arguments.programs)):
        if count:
            results[kind], failed = fuzz(kind, count, arguments.with_gdb, arguments.seed)
            failures += failed
            print(kind, *(f"{name}={value}" for name, value in results[kind].items()))
    for failure in failures[:10]:
        print(failure)
    print(json.dumps({"benchmark": "fuzz", "seed": arguments.seed, **results}))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
