"""From scores of series to scores of workloads, before the calls between them are looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from diagnosis.metrics.signals import TRAVELS, WEIGHTS, Signal

CAP = 200.0
_KNEE = 3.0
_FADES = 0.25


@dataclass
class Own:
    """What one workload shows by itself. `strongest` is each kind of signal's strength in [0, 1]."""

    entity: str
    strongest: dict[Signal, float] = field(default_factory=dict)

    def note(self, signal: Signal, score: float) -> None:
        self.strongest[signal] = max(self.strongest.get(signal, 0.0), strength(score))

    def total(self, left: float = 1.0) -> float:
        """The kinds together, 0 to 1: each next kind counts a quarter of the one before. `left` is the share
        of what travels along calls that no callee explains."""
        each = sorted(
            (
                WEIGHTS[signal] * value * (left if signal in TRAVELS else 1.0)
                for signal, value in self.strongest.items()
            ),
            reverse=True,
        )
        return (1 - _FADES) * sum(value * _FADES**place for place, value in enumerate(each))

    @property
    def resources(self) -> float:
        """The strongest of its own, which calls do not explain."""
        return max((value for signal, value in self.strongest.items() if signal not in TRAVELS), default=0.0)

    @property
    def serving(self) -> float:
        """How much slower or more erroneous it answers."""
        return max((value for signal, value in self.strongest.items() if signal in TRAVELS - _NOT_SERVED), default=0.0)


_NOT_SERVED = {Signal.CALL_LATENCY, Signal.TRAFFIC}


def strength(score: float) -> float:
    """A score on a scale from 0 to 1: logarithmic, so that twice as far is not twice as much. 3 is 0.16, 200 is 1."""
    return math.log1p(min(max(score, 0.0), CAP) / _KNEE) / math.log1p(CAP / _KNEE)


def gather(rows: Sequence[tuple[str, Signal, float]]) -> dict[str, Own]:
    """(entity, signal, score) of every series to what each workload shows."""
    found: dict[str, Own] = {}
    for entity, signal, score in rows:
        if entity and signal in WEIGHTS:
            found.setdefault(entity, Own(entity)).note(signal, score)
    return found
