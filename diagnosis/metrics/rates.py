"""Counters to rates: increases between samples, with restarts of the process seen as such.

The rules are those of Prometheus' `rate`: a value below the one before is a reset, and then the whole value is an
increase (https://prometheus.io/docs/prometheus/latest/querying/functions/#rate). Nothing is extrapolated.
"""

from __future__ import annotations

import numpy as np

from diagnosis.metrics.series import FloatArray

LEAST_SCRAPES = 4
"""Fewer samples of a counter are no rate: a window of a rate has to hold four scrapes, or one missed scrape is seen."""
MOST_FALLS = 10
"""A counter falls at most once in so many samples: its process does not begin again more often."""
_NEAR_ZERO = 0.1
"""Of the value before: a counter that fell farther began again."""
_REGULAR = 0.5
"""Spread of the distances between changes, relative to their median, below which a counter is one that is written in
intervals (cAdvisor's, each 10 to 15 seconds) and not one that counts rare events."""


def total_increase(values: FloatArray) -> FloatArray:
    """The sum of increases since the first value, as long as `values`, which has no NaN."""
    steps = np.diff(values, prepend=values[:1])
    return np.cumsum(np.where(steps < 0, values, steps))


def rates(times: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Times and rates per second of a counter, one for each sample but the first; nothing below four samples.

    A rate stands at the end of its interval. A gap of samples is one long interval: what was counted in it is not lost.
    A counter that is written less often than it was sampled has the rate of its own interval in all samples of it.
    """
    known = ~np.isnan(values)
    at, counted = times[known], values[known]
    if len(at) < LEAST_SCRAPES:
        return at[:0], counted[:0]
    total = total_increase(counted)
    changed = np.flatnonzero(np.diff(total) > 0) + 1
    if len(changed) >= LEAST_SCRAPES:
        apart = np.diff(changed)
        typical = float(np.median(apart))
        if typical >= 2 and float(np.percentile(apart, 75) - np.percentile(apart, 25)) <= _REGULAR * typical:
            anchors = np.concatenate(([0], changed, [] if changed[-1] == len(at) - 1 else [len(at) - 1])).astype(int)
            if anchors[-1] - changed[-1] < typical:  # the last interval is not over
                anchors = anchors[:-1] if anchors[-1] != changed[-1] else anchors
            total = np.interp(at[: anchors[-1] + 1], at[anchors], total[anchors])
            at = at[: anchors[-1] + 1]
    return at[1:], np.diff(total) / np.diff(at)


def wavers(values: FloatArray) -> bool:
    """Whether values fall as no counter does: twice or more, at each fifth change or oftener, and not to near zero,
    where a process that began again would stand."""
    known = values[~np.isnan(values)]
    steps = np.diff(known)
    fell = steps < 0
    partly = fell & (known[1:] > _NEAR_ZERO * known[:-1])
    return bool(partly.sum() >= 2 and 5 * partly.sum() >= (steps != 0).sum())


def looks_cumulative(values: FloatArray) -> bool:
    """Whether values without a type grow as a counter does: they never fall but to near zero, and mostly rise.

    A gauge that only ever grows passes too; its rate tells of a change as well as it does itself.
    """
    known = values[~np.isnan(values)]
    if len(known) < 2 * LEAST_SCRAPES or known[0] < 0:
        return False
    steps = np.diff(known)
    fell = steps < 0
    if fell.any() and not (known[1:][fell] <= _NEAR_ZERO * known[:-1][fell]).all():
        return False
    return bool(MOST_FALLS * fell.sum() <= len(steps) and (steps > 0).mean() > 0.5)
