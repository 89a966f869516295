"""The times of an analysis: what was asked about, what it is compared with, and the step of both.

One call fetches both parts. The grid ends where the question ends, so that the newest samples are in it and the same
question reads the same ones again. Fewer than four scrapes make a poor rate (https://prometheus.io/docs/prometheus/latest/querying/functions/#rate).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from errors import InvalidInput

TARGET_POINTS = 480
"""Of one series, baseline and incident together."""
MAX_RANGE = timedelta(days=31)
USUAL_INTERVAL = 30.0
"""Seconds between scrapes where no series tells."""
_SCRAPES_OF_A_RATE = 4
_LEAST_SCRAPES = 5
_LEAST_STEP = 0.1
_FACTORS = ((timedelta(hours=1), 3), (timedelta(hours=6), 2), (MAX_RANGE, 1))
"""Up to such a length of what was asked about, the baseline is so many times as long."""


@dataclass(frozen=True)
class Windows:
    """UTC. The baseline is from `first` to `start`. `step` is of whole milliseconds."""

    first: datetime
    start: datetime
    end: datetime
    step: timedelta

    @property
    def length(self) -> timedelta:
        """Of both together."""
        return self.end - self.first

    def rate(self, interval: float) -> float:
        """The range of a rate over what is scraped every `interval` seconds, in seconds."""
        return max(_SCRAPES_OF_A_RATE * interval, self.step.total_seconds())


def written(seconds: float) -> str:
    """A duration as PromQL writes it: whole seconds, below ten milliseconds."""
    return f"{math.ceil(seconds)}s" if seconds >= 10 else f"{math.ceil(round(seconds * 1000, 3))}ms"


def checked(start: datetime, end: datetime, now: datetime) -> tuple[datetime, datetime]:
    """The times in UTC, the end not after now. Raises InvalidInput for times that nothing can be found between."""
    for what, at in (("start", start), ("end", end)):
        if at.tzinfo is None:
            raise InvalidInput(
                f"the {what} {at.isoformat()} has no time zone: add Z or an offset, {at.isoformat()}Z or +02:00"
            )
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    if end <= start:
        raise InvalidInput(f"the end {end.isoformat()} is not after the start {start.isoformat()}")
    if start >= now:
        raise InvalidInput(f"the start {start.isoformat()} lies in the future")
    if end - start > MAX_RANGE:
        raise InvalidInput(f"a range of {end - start} is longer than the {MAX_RANGE.days} days that are read at most")
    return start, min(end, now)


def windows(start: datetime, end: datetime, interval: float) -> Windows:
    """The windows for a range that `checked` gave, of series that are scraped every `interval` seconds.

    Raises InvalidInput for a range of fewer than five scrapes.
    """
    asked = end - start
    if asked.total_seconds() < _LEAST_SCRAPES * interval:
        raise InvalidInput(
            f"a range of {asked.total_seconds():g} s is too short: what is scraped every {interval:g} s needs "
            f"{_LEAST_SCRAPES * interval:g} s at least"
        )
    factor = next(factor for longest, factor in _FACTORS if asked <= longest)
    step = max(interval, asked.total_seconds() * (1 + factor) / TARGET_POINTS)
    step = math.ceil(step - 0.05) if step > 1 else max(_LEAST_STEP, math.ceil(step * 10 - 0.5) / 10)
    last = datetime.fromtimestamp(math.floor(end.timestamp() * 1000) / 1000, UTC)
    width = timedelta(seconds=step)
    inside, before = math.ceil(asked / width - 1e-6), math.ceil(factor * asked / width - 1e-6)
    return Windows(last - (inside + before) * width, last - inside * width, last, width)
