"""Faults of real processes, scraped by a real Prometheus each second: the right workload, the onset, the event; and a
quiet time has no root cause.

    python -m benchmarks.live_rca

It takes two minutes on a machine that does nothing else: what else runs there slows the services down, which is a fault
of its own, so this is a figure and no test. Exit status 1 when one of them is wrong.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from diagnosis.metrics.config import RcaConfig
from incidents.metric_report import MetricReport, MetricStatus
from settings import PrometheusSettings
from tests.standins.metered_shop import Shop, open_shop
from tools.prometheus.client import Prometheus
from tools.prometheus.rca.discover import vector
from tools.prometheus.rca.look import Question, look

SCRAPE, QUIET, BROKEN, BEFORE = 1.0, 45, 12, 6
FAULTS = (("cart", "cpu"), ("db", "memory"), ("db", "latency"), ("cart", "errors"), ("db", "rollout"))
_AT_ONCE = 3
_REALLY_BURNT = 0.4
"""Cores. A machine that is busy with other work gives less, and what it slows down meanwhile is a fault of its own."""


async def measure(folder: Path) -> bool:
    """Print a line for each fault; whether all were found, and no quiet time had a root cause."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(service: str, kind: str) -> tuple[list[str], str]:
        place = folder / f"{service}-{kind}"
        place.mkdir()
        async with gate, open_shop(place, SCRAPE) as shop:
            return await _scenario(shop, service, kind)

    outcomes = await asyncio.gather(*(one(*fault) for fault in FAULTS))
    for (service, kind), (wrong, alarm) in zip(FAULTS, outcomes, strict=True):
        print(f"{kind:8} of {service:5} {'; '.join(wrong) or 'found: workload, onset'}")
        if alarm:
            print(f"{'':17} {alarm}")
    return not any(wrong or alarm for wrong, alarm in outcomes)


async def _scenario(shop: Shop, service: str, kind: str) -> tuple[list[str], str]:
    """What was wrong, a sentence each; and the root cause that was found before there was one."""
    await asyncio.sleep(QUIET)
    quiet = datetime.now(UTC)
    if kind == "rollout":
        began = await shop.roll_out(service, "latency")
    else:
        began = await shop.break_it(service, kind)
    await asyncio.sleep(BROKEN)
    async with Prometheus(PrometheusSettings(url=shop.prometheus)) as server:

        async def ask(start: datetime, end: datetime) -> MetricReport:
            return (await look(server, Question(start, end, "shop"), config=RcaConfig())).report

        calm = await ask(quiet - timedelta(seconds=10), quiet)
        found = await ask(began - timedelta(seconds=BEFORE), datetime.now(UTC))
        burnt = vector(await server.instant(f'rate(process_cpu_seconds_total{{job="{service}"}}[{BROKEN - 4}s])'))
    if kind == "cpu" and burnt[0][1] < _REALLY_BURNT:
        print(f"not counted: the machine gave the burning process {burnt[0][1]:.2f} cores")
        return [], ""
    wrong = []
    case = f"{kind} of {service}"
    if found.status is not MetricStatus.FOUND or found.workloads[0].entity != f"shop/{service}":
        wrong.append(f"{case}: {found.status}: {found.summary}")
    elif found.onset is None or abs((found.onset - began).total_seconds()) > 2 * SCRAPE + 0.5:
        wrong.append(f"{case}: began {began}, the onset is {found.onset}")
    if kind == "rollout":
        texts = [event.moment.text for event in found.events if abs(event.seconds_before_onset) < 2 * SCRAPE + 1]
        if not any(f"The process of {service}" in text for text in texts):
            wrong.append(f"{case}: no event beside it: {texts}")
    return wrong, f"{case}: before it, {calm.summary}" if calm.status is MetricStatus.FOUND else ""


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="paramedic-live-rca-") as made:
        sys.exit(0 if asyncio.run(measure(Path(made))) else 1)
