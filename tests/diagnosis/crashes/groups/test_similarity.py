"""CASR's measure, against its definition computed the long way."""

from __future__ import annotations

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnosis.crashes.groups.similarity import similarity
from diagnosis.crashes.groups.stack import DEPTH

NAMES = st.lists(st.sampled_from("abcdefgh"), max_size=DEPTH)


def by_definition(first: list[str], second: list[str]) -> float:
    """libcasr, stacktrace.rs: the whole table."""
    if not first or not second:
        return 0.0
    table = [[0.0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i in range(1, len(first) + 1):
        for j in range(1, len(second) + 1):
            cost = exp(-(min(i, j) * 0.04 + abs(i - j) * 0.13)) if first[i - 1] == second[j - 1] else 0.0
            table[i][j] = max(table[i - 1][j], table[i][j - 1], table[i - 1][j - 1] + cost)
    return table[-1][-1] / sum(exp(-0.04 * i) for i in range(1, min(len(first), len(second)) + 1))


@given(NAMES, NAMES)
def test_it_is_the_published_measure(first: list[str], second: list[str]) -> None:
    assert similarity(first, second) == pytest.approx(min(by_definition(first, second), 1.0))


@given(NAMES, NAMES)
def test_it_is_symmetric_and_bounded(first: list[str], second: list[str]) -> None:
    assert similarity(first, second) == pytest.approx(similarity(second, first))
    assert 0.0 <= similarity(first, second) <= 1.0
    assert not first or similarity(first, first) == pytest.approx(1.0)
