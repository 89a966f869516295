"""Faults of real processes, scraped by a real Prometheus each second: the right workload, the onset, the event; and a
quiet time has no root cause. No cluster is needed; it takes a minute."""

from __future__ import annotations

import asyncio
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


async def test_each_fault_is_found_and_a_quiet_time_has_none(tmp_path: Path) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(service: str, kind: str) -> tuple[list[str], str]:
        folder = tmp_path / f"{service}-{kind}"
        folder.mkdir()
        async with gate, open_shop(folder, SCRAPE) as shop:
            return await _scenario(shop, service, kind)

    outcomes = await asyncio.gather(*(one(*fault) for fault in FAULTS))
    wrong = [line for lines, _ in outcomes for line in lines]
    alarms = [calm for _, calm in outcomes if calm]
    assert not wrong, "\n".join(wrong)
    # what else runs on the machine may really slow the services down for a while
    assert len(alarms) <= 1, "\n".join(alarms)


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
