"""From scores of series to scores of workloads, before the calls between them are looked at."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from diagnosis.metrics.series import FloatArray
from diagnosis.metrics.signals import TRAVELS, WEIGHTS, Signal

CAP = 200.0
_KNEE = 3.0
_FADES = 0.25
_SERVED = tuple(sorted(TRAVELS - {Signal.CALL_LATENCY, Signal.TRAFFIC, Signal.LESS_WORK, Signal.ASKS_LESS}))


@dataclass
class Own:
    """What one workload shows by itself. `strongest` is each kind of signal's strength in [0, 1]."""

    entity: str
    strongest: dict[Signal, float] = field(default_factory=dict)

    def note(self, signal: Signal, value: float) -> None:
        if value > self.strongest.get(signal, -1.0):
            self.strongest[signal] = value

    def total(self, left: float = 1.0) -> float:
        """The kinds together, 0 to 1: each next kind counts a quarter of the one before. `left` is the share
        of what travels along calls that no callee explains."""
        each = [
            WEIGHTS[signal] * value * (left if signal in TRAVELS else 1.0) for signal, value in self.strongest.items()
        ]
        each.sort(reverse=True)
        total, share = 0.0, 1 - _FADES
        for value in each:
            total += share * value
            share *= _FADES
        return total

    @property
    def resources(self) -> float:
        """The strongest of its own, which calls do not explain."""
        return max([value for signal, value in self.strongest.items() if signal not in TRAVELS], default=0.0)

    @property
    def serving(self) -> float:
        """How much slower or more erroneous it answers."""
        return max([self.strongest.get(signal, 0.0) for signal in _SERVED])


def strengths(scores: FloatArray) -> FloatArray:
    """Scores on a scale from 0 to 1: logarithmic, so that twice as far is not twice as much. 3 is 0.16, 200 is 1."""
    found: FloatArray = np.log1p(np.minimum(np.maximum(scores, 0.0), CAP) / _KNEE) / math.log1p(CAP / _KNEE)
    return found


def gather(rows: Iterable[tuple[str, Signal, float]]) -> dict[str, Own]:
    """(entity, signal, strength) of every series to what each workload shows."""
    found: dict[str, Own] = {}
    for entity, signal, value in rows:
        if entity and signal in WEIGHTS:
            if entity not in found:
                found[entity] = Own(entity)
            found[entity].note(signal, value)
    return found
