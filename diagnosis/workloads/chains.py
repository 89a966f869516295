"""The way from a symptom to its cause, a sentence a step: from what was asked about (or the outermost that suffers)
through what each thing rests on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from diagnosis.workloads.contract import Claim
from incidents.models import ObjectRef

_LONGEST = 8
_WIDEST = 200
_OUTERMOST = ("Ingress", "HTTPRoute", "Service", "HorizontalPodAutoscaler", "CronJob")


class Chains:
    """Who suffers from whom. `links` are (what suffers, what it suffers from); `said` is what is wrong with an object,
    as a claim with its evidence."""

    def __init__(self, links: Iterable[tuple[ObjectRef, ObjectRef]], said: Mapping[ObjectRef, Claim]) -> None:
        self._suffering: dict[ObjectRef, list[ObjectRef]] = defaultdict(list)
        for victim, culprit in dict.fromkeys(links):
            if victim != culprit:
                self._suffering[culprit].append(victim)
        self._said = said

    def of(self, cause: ObjectRef, starts: Sequence[ObjectRef]) -> list[ObjectRef]:
        """The objects from a symptom to `cause`, which is the last.

        The symptom is the first of `starts` that suffers from the cause; without one, the outermost that does.
        """
        before: dict[ObjectRef, ObjectRef | None] = {cause: None}
        queue = [(cause, 1)]
        for ref, length in queue:
            for victim in self._suffering.get(ref, []) if length < _LONGEST else []:
                if victim not in before and len(before) < _WIDEST:
                    before[victim] = ref
                    queue.append((victim, length + 1))
        start = next((ref for ref in starts if ref in before), None) or max(
            before, key=lambda ref: (_outer(ref), ref != cause)
        )
        path: list[ObjectRef] = []
        step: ObjectRef | None = start
        while step is not None:
            path.append(step)
            step = before[step]
        return path

    def claims(self, cause: ObjectRef, starts: Sequence[ObjectRef]) -> list[tuple[ObjectRef, Claim]]:
        """What is wrong with each object on the way, where something was observed of it."""
        return [(ref, self._said[ref]) for ref in self.of(cause, starts) if ref in self._said]


def _outer(ref: ObjectRef) -> int:
    return len(_OUTERMOST) - _OUTERMOST.index(ref.kind) if ref.kind in _OUTERMOST else 0
