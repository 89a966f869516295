"""Systems made for the benchmark of rankings: without a fault, and with one of six kinds. And the simple rivals.

The faults were made after all thresholds had been chosen: they are the check beside the one real day.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from diagnosis.metrics.analyze import analyze
from diagnosis.metrics.edges import Edge
from diagnosis.metrics.series import MetricSeries
from diagnosis.metrics.subject import subject_of
from incidents.metric_report import MetricStatus

CALLS = (("web", "cart"), ("web", "catalog"), ("web", "orders"), ("cart", "store"), ("orders", "payment"),
         ("orders", "mail"), ("orders", "store"), ("catalog", "search"))  # fmt: skip
SERVICES = tuple(dict.fromkeys(name for pair in CALLS for name in pair))
CALLING = tuple(dict.fromkeys(caller for caller, _ in CALLS if caller != SERVICES[0]))
KINDS = ("cpu", "memory", "slow", "network", "errors", "skips")


def robust_shift(series: Sequence[MetricSeries], onset: float) -> list[str]:
    """The peer: (median after - median before) / max(MAD, 5 % of the median), the best series of each workload, with
    the true onset given."""
    best: dict[str, float] = {}
    for one in series:
        before, after = one.values[one.times < onset], one.values[one.times >= onset]
        if not np.isfinite(before).any() or not np.isfinite(after).any():
            continue
        middle = np.nanmedian(before)
        scale = max(1.4826 * np.nanmedian(np.abs(before - middle)), 0.05 * abs(middle), 1e-9)
        entity = subject_of(one.labels).entity
        best[entity] = max(best.get(entity, 0.0), float(abs(np.nanmedian(after) - middle) / scale))
    return sorted(best, key=lambda entity: (-best[entity], entity))


def z_score(series: Sequence[MetricSeries], onset: float) -> list[str]:
    """N-Sigma: the largest deviation after the true onset, in standard deviations before it."""
    best: dict[str, float] = {}
    for one in series:
        before, after = one.values[one.times < onset], one.values[one.times >= onset]
        if np.isfinite(before).sum() < 2 or not np.isfinite(after).any():
            continue
        score = np.nanmax(np.abs(after - np.nanmean(before))) / (np.nanstd(before) or 1e-9)
        entity = subject_of(one.labels).entity
        best[entity] = max(best.get(entity, 0.0), float(score))
    return sorted(best, key=lambda entity: (-best[entity], entity))


def at_best(ranks: Sequence[int]) -> tuple[float, float]:
    """(AC@1, Avg@5); rank 0 is not ranked."""
    first = float(np.mean([rank == 1 for rank in ranks]))
    five = float(np.mean([np.mean([0 < rank <= k for k in range(1, 6)]) for rank in ranks]))
    return round(first, 3), round(five, 3)


def made_quiet() -> tuple[int, int]:
    """(false root causes, cases) of made systems of 8 workloads where nothing happens but noise of five bad kinds."""
    false = cases = 0
    length, step = 240, 15.0
    times = np.asarray(1.7e9 + np.arange(length) * step, dtype=np.float64)
    for kind in ("tails", "memory", "walk", "bursts", "steps"):
        for seed in range(10):
            dice = np.random.default_rng(seed)
            series = []
            for number in range(48):
                name = ("cpu_usage", "memory_bytes", "request_latency_seconds", "network_receive", "queue", "errors")[
                    number % 6
                ]
                noise = dice.standard_normal(length)
                if kind == "tails":
                    noise = dice.standard_t(2.5, length)
                elif kind == "memory":
                    for place in range(1, length):
                        noise[place] += 0.9 * noise[place - 1]
                elif kind == "walk":
                    noise = 0.3 * np.cumsum(noise)
                elif kind == "bursts":
                    noise += (dice.random(length) < 0.01) * dice.exponential(20, length)
                else:
                    noise += np.repeat(dice.integers(0, 4, length // 20), 20) * 2
                values = np.maximum(10 + 1.5 * noise, 0.0, dtype=np.float64)
                if name == "errors":
                    values = np.asarray(dice.random(length) < 0.02, dtype=np.float64)
                series.append(MetricSeries.of(name, {"pod": f"svc{number // 6}-0"}, times, values))
            report = analyze(series, window=(_time(times[160]), _time(times[-1])))
            false += report.status is MetricStatus.FOUND
            cases += 1
    return false, cases


def made_faults() -> Iterator[tuple[str, tuple[float, float], tuple[float, float]]]:
    """(what is measured, ours, the robust shift's) as AC@1 and Avg@5, of a shop of eight services. A fault of the
    network shows at none of its own pods, only where it is called; code that returns early only in what it calls no
    more."""
    declared = [Edge(*pair) for pair in CALLS]
    ranks: dict[str, tuple[list[int], list[int]]] = {"pods": ([], []), "pods, and who has whose address": ([], []),
                                                     "with calls": ([], [])}  # fmt: skip
    for kind in KINDS:
        for seed in range(8):
            dice = np.random.default_rng([seed, KINDS.index(kind)])
            may = CALLING if kind == "skips" else SERVICES[1:]
            culprit = may[int(dice.integers(0, len(may)))]
            pods, calls, fault = _shop(kind, culprit, dice)
            for label, series, edges in zip(ranks, (pods, pods, [*pods, *calls]), ([], declared, []), strict=True):
                report = analyze(series, window=(_time(fault - 120), _time(fault + 600)), edges=edges)
                listed = [each.entity for each in report.workloads or report.considered]
                ranks[label][0].append(listed.index(culprit) + 1 if culprit in listed else 0)
                ranks[label][1].append(robust_shift(series, fault).index(culprit) + 1)
    for label, (own, rival) in ranks.items():
        yield label, at_best(own), at_best(rival)


def _shop(kind: str, culprit: str, dice: np.random.Generator) -> tuple[list[MetricSeries], list[MetricSeries], float]:
    """(series of pods, latencies of calls as callers measure them, when the fault began)."""
    length, step, onset = 200, 15.0, 160
    times = np.asarray(1.7e9 + np.arange(length) * step, dtype=np.float64)
    on = np.arange(length) >= onset
    above = {culprit}
    for _ in SERVICES:
        above |= {caller for caller, callee in CALLS if callee in above}
    size = float(dice.uniform(0.5, 4.0))

    def noisy(usual: float, spread: float) -> npt.NDArray[np.float64]:
        noise = dice.standard_normal(length)
        for place in range(1, length):
            noise[place] += 0.5 * noise[place - 1]
        return usual * np.maximum(0.05, 1 + spread * noise)

    slows = kind in ("cpu", "slow", "network")
    pods, calls = [], []
    for name in SERVICES:
        labels = {"pod": f"{name}-0"}
        cpu, memory = noisy(0.3, 0.15), noisy(2e8, 0.01)
        latency, requests = noisy(0.05, 0.15), noisy(40.0, 0.1)
        errors = (dice.random(length) < 0.02) * 0.5
        if name == culprit and kind == "cpu":
            cpu *= 1 + on * size
        if name == culprit and kind == "memory":
            memory *= 1 + on * 0.02 * size * np.maximum(0, np.arange(length) - onset)
        if kind == "skips" and any(name == callee for caller, callee in CALLS if caller == culprit):
            lost = (1 - 1 / (1 + size)) / sum(name == callee for _, callee in CALLS)  # others ask as before
            cpu *= 1 - on * lost
            requests *= 1 - on * lost
        if slows and name in above and not (kind == "network" and name == culprit):
            latency *= 1 + on * size
        if slows and name in above:
            requests *= 1 - 0.2 * on
        if kind == "errors" and name in above:
            errors = errors + on * size * noisy(2.0, 0.2)
        for metric, values in (("cpu_usage", cpu), ("memory_bytes", memory), ("request_latency_seconds", latency),
                               ("requests_per_second", requests), ("errors_per_second", errors)):  # fmt: skip
            pods.append(MetricSeries.of(metric, labels, times, np.asarray(values, dtype=np.float64)))
    for caller, callee in CALLS:
        values = np.asarray(noisy(0.05, 0.15) * (1 + on * size * (slows and callee in above)), dtype=np.float64)
        calls.append(
            MetricSeries.of("latency", {"source_workload": caller, "destination_workload": callee}, times, values)
        )
    return pods, calls, float(times[onset])


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
