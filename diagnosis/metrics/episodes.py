"""Unusual points near each other are one episode: one alert, not a hundred."""

from __future__ import annotations

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
    cuts = np.flatnonzero(np.diff(places) > _APART) + 1
    grouped = np.split(places, cuts)[-MOST:]
    made = []
    for group in grouped:
        away = np.abs(values[group] - (usual if np.isfinite(usual) else 0.0))
        peak = float(values[group[int(np.argmax(away))]])
        made.append(
            Episode(
                detector=detector,
                start=datetime.fromtimestamp(start + float(group[0]) * step, UTC),
                end=datetime.fromtimestamp(start + float(group[-1]) * step, UTC),
                points=len(group),
                peak=peak,
            )
        )
    return made
