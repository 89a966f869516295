"""The checker over captured cases, with scripted models: what is true stays, and every lie that can be seen is gone."""

from __future__ import annotations

import pytest

from benchmarks.closure import LIES, pretended
from incidents.database import Database

CASES = ["oom_killed", "bad_rollout", "address_wrong_port"]
UNSEEN = "true quote, wrong conclusion"
"""No check of quotes, names and numbers can tell: a person has to read what is cited."""


async def test_a_careful_model_loses_nothing(database: Database) -> None:
    found = await pretended(database, "careful", CASES)
    assert (found["true_dropped"], found["closure_kept"], found["closure_recorded"]) == (0, 1.0, 1.0)


@pytest.mark.parametrize("kind", ["careless", "lying"])
async def test_lies_do_not_stay(database: Database, kind: str) -> None:
    found = await pretended(database, kind, CASES)
    seen = {lie: kept for lie, kept in found["lies_kept"].items() if lie != UNSEEN}
    assert len(found["lies_kept"]) > len(LIES) // 2
    assert all(kept.startswith("0 of") for kept in seen.values()), seen
    assert found["closure_recorded"] < 1.0
