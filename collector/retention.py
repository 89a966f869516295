"""Which stored cores go: a decision about records alone, with no store and no clock of its own.

The limits are taken one after the other: age, cores of one crash, bytes of a namespace, bytes in all. Within each the
least valuable go first, of equal ones the oldest. The last core of an open incident never goes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from incidents.collected import CollectedCore
from incidents.models import Incident
from settings import RetentionSettings
from tools.cores.stored import SCHEME


@dataclass(frozen=True)
class Kept:
    """One core with what the store has of it. `size` in bytes, as stored; `stored_at` by the store's clock."""

    key: str
    """Of its record."""
    id: str
    namespace: str
    workload: str
    signature: str | None
    value: float
    size: int
    stored_at: datetime
    objects: tuple[str, ...]
    """Keys; programs are not among them."""
    programs: frozenset[str]
    """Keys and build-ids of its programs."""
    pod: str | None = None

    @classmethod
    def of(cls, record: CollectedCore, key: str, stored_at: datetime) -> Kept:
        origin = record.origin
        own = [one for one in record.stored if one.build_id is None]
        programs = [one for one in record.stored if one.build_id is not None]
        return cls(
            key=key,
            id=record.id,
            namespace=origin.namespace if origin else "_host",
            workload=(origin.owner.name if origin.owner else origin.pod) if origin else record.node,
            signature=record.signature,
            value=record.value or 0.0,
            size=sum(one.size for one in own),
            stored_at=stored_at,
            objects=tuple(one.key for one in own),
            programs=frozenset([*(one.key for one in programs), *record.build_ids.values()]),
            pod=origin.pod if origin else None,
        )


@dataclass(frozen=True)
class Going:
    """A core that is to be deleted, and which limit says so."""

    kept: Kept
    reason: str


Examples = Callable[[Kept], Collection[str]]
"""Ids of the open incidents that a core is an example of."""


def examples_of(incidents: Iterable[Incident]) -> Examples:
    """By the core that an incident names, by its signature, and by the object that it is about."""
    by_key: dict[str, set[str]] = defaultdict(set)
    by_signature: dict[str, set[str]] = defaultdict(set)
    by_target: dict[tuple[str, str], set[str]] = defaultdict(set)
    for incident in incidents:
        if incident.core is not None and incident.core.url is not None:
            by_key[incident.core.url.removeprefix(SCHEME)].add(incident.id)
        if incident.signature:
            by_signature[incident.signature].add(incident.id)
        target = incident.target
        if target.namespace:
            by_target[target.namespace, target.name].add(incident.id)

    def examples(kept: Kept) -> set[str]:
        found = set(by_signature[kept.signature]) if kept.signature in by_signature else set()
        for key in kept.objects:
            found |= by_key.get(key, set())
        for name in (kept.workload, kept.pod):
            found |= by_target.get((kept.namespace, name), set()) if name else set()
        return found

    return examples


def choose(kept: Collection[Kept], settings: RetentionSettings, now: datetime, examples: Examples) -> list[Going]:
    """What goes, in the order in which it should."""
    return _Choice(kept, examples).made(settings, now)


class _Choice:
    def __init__(self, kept: Collection[Kept], examples: Examples) -> None:
        self._ordered = sorted(kept, key=lambda one: (one.value, one.stored_at, one.id))
        self._gone: set[str] = set()
        self._going: list[Going] = []
        self._examples = {one.key: frozenset(examples(one)) for one in kept}
        self._left_of: dict[str, int] = defaultdict(int)
        for incidents in self._examples.values():
            for incident in incidents:
                self._left_of[incident] += 1

    @property
    def _left(self) -> list[Kept]:
        return [one for one in self._ordered if one.key not in self._gone]

    def made(self, settings: RetentionSettings, now: datetime) -> list[Going]:
        if settings.max_age_days is not None:
            oldest = now - timedelta(days=settings.max_age_days)
            for one in self._left:
                if one.stored_at >= oldest:
                    continue
                self._drop(one, f"older than {settings.max_age_days:g} days")
        if settings.keep_per_signature is not None:
            for signature, group in self._grouped(lambda one: one.signature).items():
                excess = len(group) - settings.keep_per_signature
                for one in group if signature else []:
                    if excess <= 0:
                        break
                    excess -= self._drop(one, f"more than {settings.keep_per_signature} of the same crash")
        if settings.namespace_bytes is not None:
            for namespace, group in self._grouped(lambda one: one.namespace).items():
                self._fit(group, settings.namespace_bytes, f"namespace {namespace} has more bytes than it may")
        if settings.max_bytes is not None:
            self._fit(self._left, settings.max_bytes, "the store has more bytes than it may")
        return self._going

    def _grouped(self, by: Callable[[Kept], str | None]) -> dict[str | None, list[Kept]]:
        groups: dict[str | None, list[Kept]] = defaultdict(list)
        for one in self._left:
            groups[by(one)].append(one)
        return groups

    def _fit(self, group: list[Kept], limit: int, reason: str) -> None:
        size = sum(one.size for one in group)
        for one in group:
            if size <= limit:
                return
            if self._drop(one, reason):
                size -= one.size

    def _drop(self, one: Kept, reason: str) -> bool:
        """Whether it may go: not as the last example of an open incident."""
        incidents = self._examples[one.key]
        if any(self._left_of[incident] == 1 for incident in incidents):
            return False
        for incident in incidents:
            self._left_of[incident] -= 1
        self._gone.add(one.key)
        self._going.append(Going(one, reason))
        return True
