"""Aborts of programs without names: told apart by the reason that the program gave, grouped by it in every run."""

from __future__ import annotations

import pytest

from diagnosis.crashes.groups.reading import PlainFrame, read_crash
from diagnosis.crashes.groups.reason import is_nameless, reason_of
from diagnosis.crashes.groups.stack import normal_stack

ASSERTION = "shop: /src/a:b/crashing.cpp:56: void Shop::check(int): Assertion `quantity > 0' failed."


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("assertion", ASSERTION), "assert quantity > 0 in Shop::check"),
        (("uncaught_exception", None, "DbError"), "throw DbError"),
        (("panic", None, None, "/src/orders.rs:18:24"), "panic at orders.rs:18"),
        (("heap_corruption", "double free or corruption (out)\n"), "double free or corruption (out)"),
        (("stack_smashing", "*** stack smashing detected ***: terminated"), "stack smashing detected ***: terminated"),
        (("abort", "something"), None),
        (("null_dereference", None, "DbError"), None),
        (("panic", None, None, None), None),
        ((None, ASSERTION), None),
    ],
)
def test_the_reason_is_a_name(given: tuple[str | None, ...], expected: str | None) -> None:
    found = reason_of(*given)
    assert found == expected


def test_a_hostile_message_is_cut() -> None:
    found = reason_of("assertion", "x" * 100_000 + ": Assertion `" + "y" * 100_000 + "' failed.")
    assert found is None or len(found) <= 100


def stack(*own: str | None) -> list[PlainFrame]:
    return [
        PlainFrame(function=name, module="/bin/shop", module_offset=hex(0x1000 + 16 * at), in_app=True)
        for at, name in enumerate(own)
    ]


def test_only_nameless_programs_need_one() -> None:
    named, nameless = stack("handle", "main"), stack(None, None, None)
    assert not is_nameless(named)
    assert is_nameless(nameless)
    assert not is_nameless([])
    with_reason = normal_stack(nameless, signal="SIGABRT", reason="throw DbError")
    other = normal_stack(nameless, signal="SIGABRT", reason="throw IoError")
    plain = normal_stack(named, signal="SIGABRT", reason="throw DbError")
    assert with_reason is not None
    assert other is not None
    assert plain is not None
    assert with_reason.crash_frame == "throw DbError"
    assert with_reason.key != other.key
    assert plain.names == ("handle", "main")


def test_a_report_that_is_read_back_has_the_group_that_it_had() -> None:
    frames = [
        {
            "function": None,
            "module": "/bin/shop",
            "module_offset": hex(0x1000 + 16 * at),
            "in_app": True,
            "trust": "cfi",
        }
        for at in range(9)
    ]
    report = {
        "cause_class": "assertion",
        "crash_info": {"type": "SIGABRT / SI_TKILL", "abort_message": ASSERTION},
        "process": {"exe": "/bin/shop"},
        "threads": [{"frames": frames}],
    }
    read = read_crash(report)
    direct = normal_stack(
        stack(*[None] * 9), signal="SIGABRT", program="/bin/shop", reason="assert quantity > 0 in Shop::check"
    )
    assert read.stack is not None
    assert direct is not None
    assert read.stack.key == direct.key


def test_places_beyond_the_way_into_abort_tell_two_crashes_apart() -> None:
    way = [None] * 7
    first, second = stack(*way, None), stack(*way, None)
    second[7] = second[7]._replace(module_offset="0x9999")
    keys = {normal_stack(frames, signal="SIGABRT").key for frames in (first, second)}  # type: ignore[union-attr]
    assert len(keys) == 2
