"""Groups that grow: ids that arrival order does not change, the same crash together, different ones apart."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from diagnosis.crashes.groups.clusters import Clusters, Known
from diagnosis.crashes.groups.reading import PlainFrame
from diagnosis.crashes.groups.stack import NormalStack, normal_stack

COMMON = ("Server::dispatch", "EventLoop::run", "main")


def stack(*names: str, **more: str) -> NormalStack:
    found = normal_stack([PlainFrame(function=name) for name in names], **more)  # type: ignore[arg-type]
    assert found is not None
    return found


def bug(number: int) -> NormalStack:
    return stack(f"step{number}", f"work{number}", f"handle{number % 3}", *COMMON)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_ids_are_the_same_in_any_order_of_arrival(arrivals: list[int], shuffled: random.Random) -> None:
    first, second = Clusters(), Clusters()
    ids = {number: first.assign(bug(number)).group_id for number in arrivals}
    again = list(arrivals)
    shuffled.shuffle(again)
    assert {number: second.assign(bug(number)).group_id for number in again} == ids
    assert len(set(ids.values())) == len(ids) == len(first)
    assert all(first.assign(bug(number)).group_id == group for number, group in ids.items())


def test_an_id_never_changes_once_given() -> None:
    """A later group that is nearer does not pull crashes over."""
    clusters = Clusters()
    founder = stack("a", "b", "c", "d", *COMMON)
    variant = stack("x", "a", "b", "c", "d", *COMMON)
    assert clusters.assign(founder).founded
    joined = clusters.assign(variant)
    assert not joined.founded
    assert 0.7 < joined.similarity < 1.0
    clusters.assign(stack("x", "y", "z", "a", "b"))
    assert clusters.assign(variant) == joined
    assert clusters.assign(founder).similarity == 1.0


def test_what_was_inlined_joins() -> None:
    clusters = Clusters()
    whole = clusters.assign(stack("leaf", "parse", "load", *COMMON))
    assert clusters.assign(stack("parse", "load", *COMMON)).group_id == whole.group_id
    assert clusters.assign(stack("leaf", "load", *COMMON)).group_id == whole.group_id
    assert clusters.assign(stack("memcpy", "leaf", "parse", "load", *COMMON)).group_id == whole.group_id


def test_different_crash_frames_stay_apart_however_alike_their_callers_are() -> None:
    deep = [f"layer{number}" for number in range(20)]
    clusters = Clusters()
    ids = {clusters.assign(stack(f"step{number}", *deep)).group_id for number in range(30)}
    assert len(ids) == 30


def test_one_library_routine_does_not_join_its_callers() -> None:
    clusters = Clusters()
    first = clusters.assign(stack("memcpy", "encode", "save", *COMMON))
    second = clusters.assign(stack("memcpy", "render", "draw", *COMMON))
    assert first.group_id != second.group_id


def test_programs_and_kinds_of_signal_are_apart() -> None:
    clusters = Clusters()
    ids = [
        clusters.assign(stack("handle", "main", program="/srv/a", signal="SIGSEGV")).group_id,
        clusters.assign(stack("handle", "main", program="/srv/b", signal="SIGSEGV")).group_id,
        clusters.assign(stack("handle", "main", program="/srv/a", signal="SIGABRT")).group_id,
    ]
    assert len(set(ids)) == 3
    moved = clusters.assign(stack("handle", "main", program="/opt/a-1.2.3 (deleted)", signal="SIGBUS"))
    assert moved.group_id == ids[0]
    inlined = clusters.assign(stack("leaf", "handle", "main", program="/srv/a", signal="SIGSEGV"))
    assert inlined.group_id == ids[0]


def test_a_crash_that_its_names_tell_may_change_its_programs_name() -> None:
    clusters = Clusters()
    first = clusters.assign(stack("parse", "load", "main", program="/srv/server"))
    assert clusters.assign(stack("parse", "load", "main", program="/srv/worker")).group_id == first.group_id


def test_addresses_join_a_crash_without_symbols_to_the_same_one_with_them() -> None:
    clusters = Clusters()
    named = clusters.assign(stack("parse", "load", "main"), "the same addresses")
    nameless = [PlainFrame(module="/srv/shop", module_offset=hex(offset)) for offset in (16, 32, 48)]
    found = normal_stack(nameless)
    assert found is not None
    assert clusters.assign(found, "the same addresses").group_id == named.group_id
    assert clusters.assign(found).group_id == named.group_id  # remembered
    other = Clusters()
    first = other.assign(found, "the same addresses")
    assert other.assign(stack("parse", "load", "main"), "the same addresses").group_id == first.group_id


def test_groups_go_on_after_a_restart() -> None:
    before = Clusters()
    ids = [before.assign(bug(number)).group_id for number in range(20)]
    variant = before.assign(stack("extra", "step3", "work3", "handle0", *COMMON))
    assert variant.group_id == ids[3]
    after = Clusters()
    for group in dict.fromkeys(ids):
        after.restore(Known(group, before.members(group), []))
    assert [after.assign(bug(number)).group_id for number in range(20)] == ids
    assert after.assign(stack("extra", "step3", "work3", "handle0", *COMMON)) == variant
    assert len(after) == 20


def test_groups_do_not_drift() -> None:
    """Each crash resembles the one before; the last does not resemble the first."""
    clusters = Clusters()
    names = [f"f{number}" for number in range(40)]
    ids = [clusters.assign(NormalStack(tuple(names[at : at + 10]), 3)).group_id for at in range(20)]
    assert len(set(ids)) >= 4
    for at in range(20):
        group = clusters.members(ids[at])[0]
        assert len(set(group.names) & set(names[at : at + 10])) >= 7
