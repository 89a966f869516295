"""Whether enough was measured before an onset to say what is usual.

A pod that begins among others that were there before is an event. A whole system that begins, as under a Prometheus
that was just started, is none: then nothing is known of what was usual, and no change is evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from diagnosis.metrics.grid import Grid

ENOUGH = 10
"""Samples before the onset that tell what is usual."""
_SETTLED_SECONDS, _SETTLED_SAMPLES = 300.0, 60
"""A program's first minutes are unlike its later ones: caches fill, code is compiled, pools grow."""
_PART = 0.25
"""Of the range asked about: so long has to be known before the onset where nothing is known before the range."""


def measured_workloads(grid: Grid, entities: Sequence[str], usual_end: int) -> tuple[int, int]:
    """(workloads with `ENOUGH` samples of one series in the first `usual_end` bins, workloads)."""
    known = grid.known[:, :usual_end].sum(axis=1)
    most: dict[str, int] = {}
    for entity, count in zip(entities, known.tolist(), strict=True):
        most[entity] = max(most.get(entity, 0), count)
    most.pop("", None)
    return sum(count >= ENOUGH for count in most.values()), len(most)


def lacking(grid: Grid, entities: Sequence[str], onset: int, usual_end: int, window: tuple[float, float] | None) -> str:
    """What is missing, as a sentence; empty where enough is known. `window` is the range that was asked about, in
    seconds. Bins before `usual_end` are what is usual; `onset` may be the end of all."""
    at = f"{datetime.fromtimestamp(grid.time_of(onset), UTC):%Y-%m-%dT%H:%M:%SZ}"
    past, workloads = measured_workloads(grid, entities, usual_end)
    if 2 * past < workloads or not past:
        return f"not enough history: {past} of {workloads} workloads have {ENOUGH} samples or more before {at}"
    since = measured_since(grid, entities)
    if window is None or since <= window[0]:
        return ""
    needed = max(min(_SETTLED_SECONDS, _SETTLED_SAMPLES * grid.step), _PART * (window[1] - window[0]))
    before = max(0.0, grid.time_of(onset) - since)
    if before >= needed:
        return ""
    return (
        f"not enough history: {began_late(since)}, and only {before:.0f} s before {at}, where {needed:.0f} s are needed"
    )


def began_late(since: float) -> str:
    """Of a measuring that began after the start of the range that was asked about."""
    return f"measuring began at {datetime.fromtimestamp(since, UTC):%Y-%m-%dT%H:%M:%SZ}, within the range asked about"


def measured_since(grid: Grid, entities: Sequence[str]) -> float:
    """When the middle one of the workloads was first measured, in seconds: neither one old series nor one new workload
    speaks for all."""
    known = grid.known
    first = np.where(known.any(axis=1), known.argmax(axis=1), grid.bins)
    earliest: dict[str, int] = {}
    for entity, place in zip(entities, first.tolist(), strict=True):
        earliest[entity] = min(earliest.get(entity, grid.bins), place)
    places = sorted(place for entity, place in earliest.items() if entity)
    return grid.time_of(places[len(places) // 2]) if places else grid.start
