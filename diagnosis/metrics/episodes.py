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
    places = np.flatnonzero(found)
    if not len(places):
        return []
    made = []
    middle = usual if math.isfinite(usual) else 0.0
    cuts = (np.flatnonzero(places[1:] - places[:-1] > _APART) + 1).tolist()
    for low, high in list(zip([0, *cuts], [*cuts, len(places)], strict=True))[-MOST:]:
        inside = values[places[low:high]]
        made.append(
            Episode(
                detector=detector,
                start=datetime.fromtimestamp(start + int(places[low]) * step, UTC),
                end=datetime.fromtimestamp(start + int(places[high - 1]) * step, UTC),
                points=high - low,
                peak=float(inside[np.abs(inside - middle).argmax()]),
            )
        )
    return made
