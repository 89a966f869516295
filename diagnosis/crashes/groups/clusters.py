"""Groups of crashes that grow as crashes arrive, with ids that never change.

CASR clusters a finished set by complete linkage (hierarchical, maximal dissimilarity 0.3). Here crashes come one by
one, so: a crash joins the group to whose kept members it is similar enough, all of them (complete linkage over at most
eight different ones, so that a group cannot drift), and whose crash frame it shares, as CASR's crash lines demand;
else it founds a group, whose id is the hash of its own top frames. What was once decided about a stack holds for all
its repetitions, in any order and after a restart.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from heapq import nlargest
from typing import NamedTuple

from diagnosis.crashes.groups.similarity import THRESHOLD, Positions, positions, similarity
from diagnosis.crashes.groups.stack import NormalStack

MAX_GROUPS = 100_000
MAX_KNOWN = 500_000
"""Stacks that are remembered. Past these limits crashes are still named, by their own top frames, but not kept."""
_MEMBERS = 8
_POSTINGS = 512
"""Groups looked at for one name; a name in more of them (`main`, an event loop) tells little."""
_CANDIDATES = 24


class Match(NamedTuple):
    """`similarity` is that to the crash that founded the group; `founded`: it is this one."""

    group_id: str
    similarity: float
    founded: bool


class Known(NamedTuple):
    """What the record holds of a group, to go on from after a restart."""

    group_id: str
    members: list[NormalStack]
    aliases: list[str]


@dataclass
class _Group:
    id: str
    members: list[NormalStack] = field(default_factory=list)


class Clusters:
    """The groups so far, for one thread. Memory grows with the different stacks, up to the limits above."""

    def __init__(self) -> None:
        self._groups: list[_Group] = []
        self._ids: dict[str, int] = {}
        self._known: dict[str, int] = {}
        self._postings: dict[str, dict[str, list[int]]] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def assign(self, stack: NormalStack, address_sig: str | None = None) -> Match:
        """The group of a crash, founded if there is none.

        `address_sig` names the same crash without symbols: where one crash had symbols and another had none, it joins
        the two.
        """
        number = self._known.get(stack.key)
        if number is None and address_sig is not None:
            number = self._known.get(address_sig)
        if number is None:
            number = self._nearest(stack)
        if number is None:
            number = self._ids.get(stack.key)
        if number is None:
            if len(self._groups) >= MAX_GROUPS:
                return Match(stack.key, 1.0, True)
            self._found(stack.key, [stack])
            self._remember(len(self._groups) - 1, stack.key, address_sig)
            return Match(stack.key, 1.0, True)
        group = self._groups[number]
        if self._known.get(stack.key) is None and len(group.members) < _MEMBERS:
            self._keep(number, stack)
        self._remember(number, stack.key, address_sig)
        return Match(group.id, round(similarity(stack.names, group.members[0].names), 4), False)

    def members(self, group_id: str) -> list[NormalStack]:
        """The stacks that stand for a group, the one that founded it first; empty for one that is not kept."""
        number = self._ids.get(group_id)
        return list(self._groups[number].members) if number is not None else []

    def restore(self, known: Known) -> None:
        """Take up a group from the record. Its first member is the one that founded it."""
        if known.members and known.group_id not in self._ids and len(self._groups) < MAX_GROUPS:
            self._found(known.group_id, known.members[:_MEMBERS])
            number = len(self._groups) - 1
            self._remember(number, *(member.key for member in known.members), *known.aliases)

    def _found(self, group_id: str, members: list[NormalStack]) -> None:
        self._ids[group_id] = len(self._groups)
        self._groups.append(_Group(group_id))
        for member in members:
            self._keep(len(self._groups) - 1, member)

    def _keep(self, number: int, stack: NormalStack) -> None:
        members = self._groups[number].members
        postings = self._postings.setdefault(stack.kind, {})
        for name in set(stack.near).difference(*(member.near for member in members if member.kind == stack.kind)):
            postings.setdefault(name, []).append(number)
        members.append(stack)

    def _remember(self, number: int, *keys: str | None) -> None:
        for key in keys:
            if key is not None and len(self._known) < MAX_KNOWN:
                self._known.setdefault(key, number)

    def _nearest(self, stack: NormalStack) -> int | None:
        """The group that the stack is most similar to, if it is similar enough; of equals, the first by id."""
        best: tuple[float, str] | None = None
        nearest = None
        where = positions(stack.names)
        for number in self._candidates(stack):
            group = self._groups[number]
            alike = _linked(stack, where, group)
            if alike is not None and (best is None or (-alike, group.id) < best):
                best, nearest = (-alike, group.id), number
        return nearest

    def _candidates(self, stack: NormalStack) -> list[int]:
        """Groups that share names near the crash frame, those that share most of them first."""
        postings = self._postings.get(stack.kind, {})
        lists = [posting for name in dict.fromkeys(stack.near) if (posting := postings.get(name))]
        short = [posting for posting in lists if len(posting) <= _POSTINGS]
        if not short and lists:
            short = [min(lists, key=len)[:_POSTINGS]]
        shared: Counter[int] = Counter()
        for posting in short:
            shared.update(posting)
        return nlargest(_CANDIDATES, shared, key=lambda number: (shared[number], -number))


def _linked(stack: NormalStack, where: Positions, group: _Group) -> float | None:
    """The similarity to the founder, when the stack is similar to every kept member; else None."""
    to_founder = None
    shares_frame = False
    for member in group.members:
        if not stack.may_be(member):
            return None
        alike = similarity(member.names, stack.names, where)
        if alike <= THRESHOLD:
            return None
        to_founder = alike if to_founder is None else to_founder
        shares_frame = shares_frame or stack.crash_frame in member.near or member.crash_frame in stack.near
    return to_founder if shares_frame else None
