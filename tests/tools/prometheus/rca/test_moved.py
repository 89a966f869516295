"""Series at the times that they tell of."""

from __future__ import annotations

import numpy as np

from tools.prometheus.rca.gather import moved


def test_what_is_measured_up_to_the_end_does_not_end_before_it() -> None:
    """A rate over a minute tells of half a minute ago: moved there, it must not look as if it had ended."""
    times, values = np.arange(0.0, 101.0, 10.0), np.arange(11.0)
    at, still = moved(times, values, 26.0, 10.0, 100.0)
    assert (at[0], at[10], at[-1], len(at), len(still)) == (-26.0, 74.0, 94.0, 13, 13)
    assert still[-3:].tolist() == [10.0, 10.0, 10.0]
    at, ended = moved(times[:8], values[:8], 26.0, 10.0, 100.0)  # its last sample is of 70 s
    assert (at[-1], len(ended)) == (44.0, 8)
    at, nothing = moved(times[:0], values[:0], 26.0, 10.0, 100.0)
    assert len(at) == len(nothing) == 0
