"""How Go's runtime ended a program, by its last words or by the goroutine's stack."""

from __future__ import annotations

import pytest

from diagnosis.crashes.causes.go import go_end
from incidents.crash_frames import Frame
from incidents.models import CauseClass


@pytest.mark.parametrize(
    ("functions", "fatal_text", "cause"),
    [
        (["runtime.throw", "main.store"], "fault", CauseClass.WILD_POINTER),
        (["runtime.raise", *["main.walk"] * 100], "stack overflow", CauseClass.STACK_OVERFLOW),
        (["runtime.raise", *["main.walk", "main.step"] * 50], None, CauseClass.STACK_OVERFLOW),
        (["runtime.throw", "main.store"], "concurrent map writes", CauseClass.ABORT),
        (["runtime.raise", "main.walk", "main.main"], None, None),
    ],
)
def test_the_way_it_ended(functions: list[str], fatal_text: str | None, cause: CauseClass | None) -> None:
    frames = [Frame(frame=index, function=function) for index, function in enumerate(functions)]
    end = go_end(frames, fatal_text)
    assert (end.cause if end else None) == cause
