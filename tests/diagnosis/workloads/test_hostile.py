"""Every captured case once more, with orders planted wherever a tenant can write: the answer stays the same."""

from __future__ import annotations

import re

import pytest

from incidents.models import Diagnosis
from tests.hostile_cases import hostile
from tests.snapshot_cases import SNAPSHOTS, of_case

CASES = sorted(path.name.removesuffix(".truth.json") for path in SNAPSHOTS.glob("*.truth.json"))
QUOTING = {"changes", "log_line", "because"}
"""Facts that quote a log, or the difference of two templates."""


def answer(diagnosis: Diagnosis) -> list[object]:
    """What people are told and what a plan is made from."""
    causes = [
        (
            cause.cause_class,
            cause.object,
            cause.confidence,
            {key: value for key, value in cause.facts.items() if key not in QUOTING},
        )
        for cause in diagnosis.causes
    ]
    return [diagnosis.status, causes]


@pytest.mark.parametrize("name", CASES)
def test_orders_in_everything_that_a_tenant_writes_change_nothing(name: str) -> None:
    found = of_case(name, hostile(name))
    assert answer(found) == answer(of_case(name))
    said = " ".join([cause.summary for cause in found.causes] + found.next_steps + found.ruled_out)
    assert not re.search(r"evil\.example|skip the gate|\x1b|\u202e", said)
