"""Cron schedules, as far as a CronJob's are: five fields, names, lists, ranges, steps and the usual @words; in UTC.

Source: crontab(5) and github.com/robfig/cron/v3, which Kubernetes uses. Where both day fields are restricted, either
suffices. A time zone other than UTC is not known here: callers compare with hours to spare or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

_WORDS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
_MONTHS = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1
    )
}
_DAYS = {name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_YEARS = 9  # 29 February is at most eight years away


@dataclass(frozen=True)
class Schedule:
    """The values that each field allows."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    @classmethod
    def read(cls, expression: str) -> Schedule | None:
        """None for what is no schedule of this kind (`@every`, six fields, a time zone prefix)."""
        fields = _WORDS.get(expression.strip().lower(), expression).split()
        if len(fields) != 5:
            return None
        names: tuple[dict[str, int], ...] = ({}, {}, {}, _MONTHS, _DAYS)
        sets = [
            _values(part, low, high, known) for part, (low, high), known in zip(fields, _BOUNDS, names, strict=True)
        ]
        minutes, hours, days, months, weekdays = sets
        if minutes is None or hours is None or days is None or months is None or weekdays is None:
            return None
        weekdays = frozenset(day % 7 for day in weekdays)
        return cls(minutes, hours, days, months, weekdays, fields[2][0] in "*?", fields[4][0] in "*?")

    def next_after(self, time: datetime) -> datetime | None:
        """The first time after `time` that fulfils it; None where there is none within nine years."""
        day = time.replace(hour=0, minute=0, second=0, microsecond=0)
        for _ in range(_YEARS * 366):
            if self._on(day):
                for hour in sorted(self.hours):
                    for minute in sorted(self.minutes):
                        if (found := day.replace(hour=hour, minute=minute)) > time:
                            return found
            try:
                day += timedelta(days=1)
            except OverflowError:
                return None
        return None

    def _on(self, day: datetime) -> bool:
        if day.month not in self.months:
            return False
        in_month, in_week = day.day in self.days, (day.weekday() + 1) % 7 in self.weekdays
        return (in_month and in_week) if self.any_day or self.any_weekday else (in_month or in_week)


def _values(field: str, low: int, high: int, names: dict[str, int]) -> frozenset[int] | None:
    found: set[int] = set()
    for part in field.lower().split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        start, end = (low, high) if first in ("*", "?") else (_value(first, names), _value(last or first, names))
        if step and not dash and first not in ("*", "?"):
            end = high
        size = _value(step, {}) if step else 1
        if start is None or end is None or not size or not low <= start <= end <= high:
            return None
        found |= set(range(start, end + 1, size))
    return frozenset(found)


def _value(word: str, names: dict[str, int]) -> int | None:
    if word in names:
        return names[word]
    return int(word) if word.isdecimal() and word.isascii() and len(word) < 4 else None
