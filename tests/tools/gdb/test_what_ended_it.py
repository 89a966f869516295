"""What ended a program, where the innermost frames alone would mislead: handlers, terminate, raised signals."""

from __future__ import annotations

import pytest

from tests.standins import analysed, crashing

# mode: cause class, signature, what the sentence must say
ROWS = {
    "noexcept": (
        "uncaught_exception",
        "SIGABRT | Shop::query | Shop::promise_nothing | main",
        '"connection refused: 10.0.0.5:5432", thrown in Shop::query',
    ),
    "nested": ("uncaught_exception", "SIGABRT | Shop::query_twice | main", '"no other host", thrown in'),
    "pure": ("abort", "SIGABRT | Shop::Shape::draw | Shop::Shape::Shape", "a pure virtual function was called"),
    "watchdog": ("abort", "SIGABRT | Shop::on_alarm", "in a signal handler that interrupted"),
    "in_handler": ("null_dereference", "SIGSEGV | Shop::read_null | Shop::on_user_signal", "in a signal handler"),
    "raised_fpe": ("unknown", "SIGFPE | main", "sent the signal to itself"),
}


@pytest.mark.parametrize("mode", ROWS)
async def test_the_program_is_told_what_ended_it(mode: str) -> None:
    cause, signature, words = ROWS[mode]
    found = (await analysed.examined(crashing.core(mode), crashing.program())).report
    assert found.cause_class == cause
    assert (found.signature or "").startswith(signature)
    assert words in (found.mechanism or "")
    assert found.severity is not None
    if mode == "raised_fpe":
        assert found.severity.short_description == "UncategorizedSignal"
