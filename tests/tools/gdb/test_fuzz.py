"""A short run of the benchmark of damaged input; the long one is `python -m benchmarks.fuzz`."""

from __future__ import annotations

import pytest

from benchmarks.fuzz import fuzz
from tests.standins import crashing


@pytest.mark.gdb
@pytest.mark.parametrize("kind", ["cores", "programs"])
@pytest.mark.parametrize("count", [18, pytest.param(90, marks=pytest.mark.generated)])
def test_damaged_input_gives_a_report_or_one_clear_error(kind: str, count: int) -> None:
    crashing.require_tools()
    if not crashing.kernel_writes_cores():
        pytest.skip("the mutations know the layout of a core that the kernel wrote")
    row, failures = fuzz(kind, count, 50, seed=4)
    assert not failures, failures[0]
    assert row["reports"]
    assert row["clear_errors"]
