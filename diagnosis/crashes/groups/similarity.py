"""How alike two stacks are: CASR's position-dependent measure.

Source: libcasr, stacktrace.rs `similarity` (after "ReBucket", ICSE 2012): the best alignment of equal frames, each
weighted exp(-(0.04 * min(i, j) + 0.13 * |i - j|)) for its 1-based positions i and j, divided by the sum of
exp(-0.04 * i) over the shorter stack. Dissimilarity is 1 minus that; 0.3 and more are different crashes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp

from diagnosis.crashes.groups.stack import DEPTH

POSITION = 0.04
SHIFT = 0.13
THRESHOLD = 0.7
"""Similarity above which two stacks are of one group (CASR: dissimilarity below 0.3)."""

_PLACES = range(1, DEPTH + 1)
_WEIGHT = [[exp(-(POSITION * min(i, j) + SHIFT * abs(i - j))) for j in _PLACES] for i in _PLACES]
_TOTAL = [0.0]
for _place in _PLACES:
    _TOTAL.append(_TOTAL[-1] + exp(-POSITION * _place))

Positions = Mapping[str, Sequence[int]]


def positions(names: Sequence[str]) -> dict[str, list[int]]:
    """Indices of each name, highest first: what `similarity` needs of its second stack."""
    found: dict[str, list[int]] = {}
    for index in range(min(len(names), DEPTH) - 1, -1, -1):
        found.setdefault(names[index], []).append(index)
    return found


def similarity(first: Sequence[str], second: Sequence[str], second_positions: Positions | None = None) -> float:
    """From 0 (nothing in common) to 1 (equal). Only the first DEPTH names of each count.

    Frames that differ cost nothing, so the best alignment is the heaviest common subsequence: one row of prefix maxima
    is enough, and only equal pairs are looked at.
    """
    length = min(len(first), len(second), DEPTH)
    if length == 0:
        return 0.0
    where = second_positions if second_positions is not None else positions(second)
    width = min(len(second), DEPTH)
    best = [0.0] * (width + 1)  # best[j]: heaviest alignment with the first j names of `second`
    for i, name in enumerate(first[:DEPTH]):
        weights = _WEIGHT[i]
        for j in where.get(name, ()):  # highest first: a row must not build on itself
            value = best[j] + weights[j]
            at = j + 1
            while at <= width and best[at] < value:
                best[at] = value
                at += 1
    return min(best[width] / _TOTAL[length], 1.0)
