"""What the calls between workloads say: whose trouble is whose.

A call's latency as its caller measures it is credited to the callee, for the network and the callee's proxy are in it
and the callee's own measurement knows neither (the largest single gain on Nezha's Online Boutique). Unless most of the
caller's calls got slower at once: then it is the caller, or the network at its side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from diagnosis.metrics.edges import Edge
from diagnosis.metrics.scoring import Own
from diagnosis.metrics.signals import Signal

_GATEWAYS = ("gateway", "ingress", "loadgenerator", "load-generator", "envoy", "haproxy", "traefik", "nginx-ingress")
_PASSED_ON = 0.3
_OF_A_NODE = 0.6
"""What a pod does shows on its node too: the pod's workload comes first where both show it."""
_OF_NO_HARM = 0.2
_ALL = 0.6
"""Share of a caller's other calls that have to be slow before the caller is blamed for them."""
_LEFT = 0.3
"""Of what a caller shows, so much stays its own though a callee shows it too: there may be two troubles."""
_SLOW = 0.35  # a strength: some ten times its noise


@dataclass
class Calls:
    """Who leans on whom: calls it, has its address, or runs on it. Names are entities."""

    callees: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    callers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def of(cls, edges: Iterable[Edge], known: Iterable[str]) -> Calls:
        """Of edges between known entities; a bare name stands for the one entity that has it in any namespace."""
        by_name: dict[str, list[str]] = defaultdict(list)
        entities = set(known)
        for entity in entities:
            by_name[entity.rpartition("/")[2]].append(entity)
        found = cls()
        for edge in edges:
            caller, callee = (_resolved(name.lower(), entities, by_name) for name in (edge.caller, edge.callee))
            if caller and callee and caller != callee:
                found.callees[caller].add(callee)
                found.callers[callee].add(caller)
        return found

    def path(self, symptom: str, cause: str) -> list[str]:
        """The shortest way along calls from `symptom` to `cause`, both included; empty when there is none."""
        if not symptom:
            return []
        before: dict[str, str] = {symptom: ""}
        front = [symptom]
        while front and cause not in before:
            following = []
            for entity in front:
                for callee in sorted(self.callees.get(entity, ())):
                    if callee not in before:
                        before[callee] = entity
                        following.append(callee)
            front = following
        if cause not in before:
            return []
        way = [cause]
        while before[way[-1]]:
            way.append(before[way[-1]])
        return way[::-1]


def _resolved(name: str, entities: set[str], by_name: Mapping[str, list[str]]) -> str:
    if name in entities:
        return name
    space, _, bare = name.rpartition("/")
    if space:  # series without namespaces know the bare name alone
        return bare if space != "node" and bare in entities else ""
    found = by_name.get(name, [])
    return found[0] if len(found) == 1 else ""


@lru_cache(maxsize=4096)
def _passes_on(entity: str) -> bool:
    return any(word in entity for word in _GATEWAYS)


def credit(owns: dict[str, Own], slow: Mapping[tuple[str, str], float]) -> None:
    """Add to `owns` what the latencies of calls say. `slow` is the strength of (caller, callee)."""
    outgoing: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for (caller, callee), value in slow.items():
        outgoing[caller].append((callee, value))
    for caller, calls in outgoing.items():
        for callee, value in calls:
            others = [other for name, other in calls if name != callee]
            shared = sum(other >= _SLOW for other in others) / len(others) if others else 0.0
            blamed = caller if len(others) >= 2 and shared >= _ALL else callee
            own = owns.setdefault(blamed, Own(blamed))
            own.strongest[Signal.CALLED_LATENCY] = max(own.strongest.get(Signal.CALLED_LATENCY, 0.0), value)


def ranked(owns: Mapping[str, Own], calls: Calls, harmless: Collection[str] = ()) -> list[tuple[str, float]]:
    """Entities with their score, best first. What travels along calls counts for a caller only as far as no callee
    shows it as strongly, but for nodes that are `harmless`; latency, errors and traffic of gateways and load generators
    that nobody calls count little, for they only pass them on. Ties go by name."""
    serving = {entity: own.serving for entity, own in owns.items()}
    trouble = {entity: max(own.resources, serving[entity]) for entity, own in owns.items()}
    found = []
    for entity, own in owns.items():
        leant_on = (callee for callee in calls.callees.get(entity, ()) if callee not in harmless)
        explained = max((trouble.get(callee, 0.0) for callee in leant_on), default=0.0)
        needed = max(serving[entity], own.strongest.get(Signal.CALL_LATENCY, 0.0), 1e-9)
        left = max(_LEFT, 1.0 - explained / needed) if explained >= _SLOW / 2 else 1.0
        if _passes_on(entity) and not calls.callers.get(entity):
            left *= _PASSED_ON
        score = own.total(left)
        if entity.startswith("node/") and Signal.SLOWS not in own.strongest:
            score *= _OF_NO_HARM if entity in harmless else _OF_A_NODE
        found.append((entity, score))
    return sorted(found, key=lambda item: (-item[1], item[0]))
