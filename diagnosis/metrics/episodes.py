"""Unusual points near each other are one episode: one alert, not a hundred."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np

from diagnosis.metrics.series import BoolArray, FloatArray
from incidents.metric_report import Episode

_APART = 3
"""Bins without an unusual point that end an episode."""
MOST = 5


def episodes(
    detector: str, found: BoolArray, values: FloatArray, usual: float, start: float, step: float
) -> list[Episode]:
    """The episodes of one series, the last `MOST`. `usual` is what the peak is measured from; `start` is the middle of
    bin 0 in seconds since 1970."""
    groups: list[list[int]] = []
    for place in np.flatnonzero(found)[::-1].tolist():
        if groups and groups[-1][-1] - place <= _APART:
            groups[-1].append(place)
        elif len(groups) == MOST:
            break
        else:
            groups.append([place])
    made = []
    middle = usual if math.isfinite(usual) else 0.0
    for group in reversed(groups):
        peak = max(values[group[::-1]].tolist(), key=lambda value: abs(value - middle))
        made.append(
            Episode(
                detector=detector,
                start=datetime.fromtimestamp(start + group[-1] * step, UTC),
                end=datetime.fromtimestamp(start + group[0] * step, UTC),
                points=len(group),
                peak=peak,
            )
        )
    return made
