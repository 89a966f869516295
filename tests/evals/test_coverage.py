"""docs/tried.md says how each cause is tried, and each is."""

from __future__ import annotations

from functools import cache

import pytest

from evals import coverage
from evals.coverage import PAGE, page
from incidents.models import CauseClass

tried = cache(coverage.tried)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m evals.coverage`"


@pytest.mark.parametrize("cause", CauseClass, ids=str)
def test_every_cause_is_tried(cause: CauseClass) -> None:
    assert any(tried()[cause])
