"""What a node's measurements and those of what runs on it say together: whether the node slows what it runs.

A node that has too little slows most of what it runs, each by a part of its own; what one workload does slows that one
and those that call it by the same. And a node that its pods use up is theirs to explain: it shows on the node, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from diagnosis.metrics.calls import Calls
from diagnosis.metrics.scoring import Own, strengths
from diagnosis.metrics.series import FloatArray, MetricSeries
from diagnosis.metrics.signals import Signal

PREFIX = "node/"
_MOST = 0.6
"""Share of the workloads measured on a node that have to be slow."""
_OWN_PART = 0.1
"""Of the largest own part: who adds less to its callees' latency is slow because of them."""
_TELLS = float(strengths(np.array(3.0)))
"""Three times its own noise: of a node enough to be strained; of what runs there, when it is most, to be slow."""
_PODS_SHARE = 0.5
"""Of what a node's processors do more: where its pods do so much of it, it is one of them."""
_LEAST_CORES = 0.1
"""What pods do more, to count at all: a node that was full before does no more than it did."""
_LATENCIES = (Signal.SERVED_LATENCY, Signal.CALLED_LATENCY)


@dataclass
class Rises:
    """By entity and metric, in the metric's unit, how much more there was; of pods and containers together for what is
    measured in cores, the largest for latencies."""

    latencies: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    """Without those that were below what is noticed and stayed so: they tell nothing."""
    cores: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))

    @classmethod
    def of(
        cls,
        series: Sequence[MetricSeries],
        entities: Sequence[str],
        signals: Sequence[Signal],
        before: FloatArray,
        after: FloatArray,
    ) -> Rises:
        found = cls()
        rows = zip(series, entities, signals, (after - before).tolist(), after.tolist(), strict=True)
        for one, entity, signal, rise, now in rows:
            if rise != rise:  # it has no past, or nothing after
                continue
            if signal in _LATENCIES and (rise or now > one.least):
                known = found.latencies[entity]
                known[one.name] = max(known.get(one.name, 0.0), rise)
            elif signal is Signal.CPU and one.unit == "cores":
                known = found.cores[entity]
                known[one.name] = known.get(one.name, 0.0) + rise
        return found

    def more_cores(self, entity: str) -> float:
        """Several exporters measure the same."""
        return max(self.cores.get(entity, {}).values(), default=0.0)

    def own_part(self, entity: str, callees: set[str]) -> float:
        """How much slower than any of its callees became."""
        return max(
            (
                rise - max((self.latencies.get(callee, {}).get(name, 0.0) for callee in callees), default=0.0)
                for name, rise in self.latencies.get(entity, {}).items()
            ),
            default=0.0,
        )


def credit_nodes(owns: Mapping[str, Own], calls: Calls, rises: Rises) -> set[str]:
    """Add to a node's `owns` that it slows what it runs. Returned are the nodes that slow nothing: most of what is
    measured on them runs well, or what is slow is so because of one of them."""
    harmless = set()
    for node in [entity for entity in owns if entity.startswith(PREFIX)]:
        here = [entity for entity in calls.callers.get(node, ()) if entity in owns and entity in rises.latencies]
        if len(here) < 2:
            continue
        if sum(owns[entity].serving >= _TELLS for entity in here) < _MOST * len(here):
            harmless.add(node)
            continue
        slow = {entity for entity in here if _slower(owns[entity]) >= _TELLS}
        parts = {entity: rises.own_part(entity, calls.callees.get(entity, set()) & slow) for entity in slow}
        own = [entity for entity, part in parts.items() if part > 0.0 and part >= _OWN_PART * max(parts.values())]
        if len(slow) >= 2:
            hurt = len(own) >= max(2.0, _MOST * len(slow))
        else:
            hurt = len(_failing_by_themselves(here, owns, calls)) >= 2
        if not hurt:
            harmless.add(node)
        elif len(own) >= 2 and owns[node].resources >= _TELLS and not _of_its_pods(node, owns, calls, rises):
            owns[node].note(Signal.SLOWS, median(_slower(owns[entity]) for entity in own))
    return harmless


def _failing_by_themselves(here: Sequence[str], owns: Mapping[str, Own], calls: Calls) -> list[str]:
    """Who makes more errors while none of its callees does: the others pass them on."""
    failing = {entity for entity in here if owns[entity].strongest.get(Signal.ERRORS, 0.0) >= _TELLS}
    return [entity for entity in failing if not calls.callees.get(entity, set()) & failing]


def _slower(own: Own) -> float:
    return max(own.strongest.get(signal, 0.0) for signal in _LATENCIES)


def _of_its_pods(node: str, owns: Mapping[str, Own], calls: Calls, rises: Rises) -> bool:
    here = calls.callers.get(node, set())
    if node in rises.cores:
        more = sum(max(0.0, rises.more_cores(entity)) for entity in here)
        return more >= max(_PODS_SHARE * rises.more_cores(node), _LEAST_CORES)
    return max((owns[entity].resources for entity in here if entity in owns), default=0.0) >= owns[node].resources
