"""Work that falls because less is asked: the trouble is at who asks.

An exception or an early return in code shows in none of the measurements of its own pod, but in what is called no more:
the callees do less, and nothing is wrong with them. A callee that hangs does less as well; then its callers wait.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from diagnosis.metrics.calls import Calls
from diagnosis.metrics.scoring import Own
from diagnosis.metrics.signals import Signal

_PASSES_ON = 0.5
"""A workload whose own work fell by so much of what its callee's did passes on what it is asked itself."""
WAITS = {Signal.SERVED_LATENCY, Signal.CALL_LATENCY}


@dataclass
class Work:
    """Strengths: how much less each workload does, how much less each (caller, callee) is called where calls are
    counted, and how much longer a workload, or a caller for one callee, waits."""

    less: dict[str, float] = field(default_factory=dict)
    asked: dict[tuple[str, str], float] = field(default_factory=dict)
    waits: dict[str, float] = field(default_factory=dict)
    waits_for: dict[tuple[str, str], float] = field(default_factory=dict)

    def note_less(self, entity: str, value: float) -> None:
        """Of a workload's own series of a kind of `WORK` that fell."""
        if not entity.startswith("node/"):
            self.less[entity] = max(self.less.get(entity, 0.0), value)

    def note_wait(self, entity: str, value: float) -> None:
        """Of a workload's own series of a kind of `WAITS` that did not fall."""
        self.waits[entity] = max(self.waits.get(entity, 0.0), value)

    def note_call(self, caller: str, callee: str, signal: Signal, fell: bool, value: float) -> None:
        """Of a series of the calls of one workload to another."""
        call = (caller, callee)
        if signal is Signal.TRAFFIC:
            self.asked[call] = max(self.asked.get(call, 0.0), value if fell else 0.0)
            self.less[callee] = max(self.less.get(callee, 0.0), self.asked[call])
        elif not fell:
            self.waits_for[call] = max(self.waits_for.get(call, 0.0), value)

    def starved(self, calls: Calls) -> set[str]:
        """The workloads that do less while none of their callers waits for longer as clearly."""
        return {
            entity
            for entity, value in self.less.items()
            if (callers := calls.callers.get(entity))
            and all(
                max(self.waits.get(caller, 0.0), self.waits_for.get((caller, entity), 0.0)) < value
                for caller in callers
            )
        }

    def credit(self, owns: dict[str, Own], starved: Collection[str], calls: Calls) -> None:
        """Add to `owns` that callers ask less of the starved ones with whom nothing else is wrong. Several such callees
        bear each other out; where calls are not counted, several callers of one share what it tells."""
        doubts: dict[str, float] = defaultdict(lambda: 1.0)
        counted = {callee for _, callee in self.asked}
        for entity in starved:
            own, value = owns.get(entity), self.less[entity]
            if own is not None and value <= max(own.resources, own.serving):
                continue
            callers = calls.callers[entity]
            for caller in callers:
                told = self.asked.get((caller, entity), 0.0) if entity in counted else value / len(callers)
                if self.less.get(caller, 0.0) < _PASSES_ON * value:
                    doubts[caller] *= 1.0 - told
        for caller, doubt in doubts.items():
            owns.setdefault(caller, Own(caller)).note(Signal.ASKS_LESS, 1.0 - doubt)
