"""Defensive reading of raw Kubernetes JSON: any field may be null, absent or of the wrong type.

Crash evidence must not be lost to a model of the API, so nothing here validates; what is not of the wanted type reads
as absent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

Object = dict[str, Any]
"""One Kubernetes object (or a part of one) as JSON."""


def pick(value: object, *path: str | int) -> Any:
    """The value at `path` below `value`, or None as soon as a step is missing or of another type."""
    for step in path:  # JSON has no subclasses of dict and list: the exact type is the quick question
        if type(value) is dict:
            value = value.get(step)
        elif type(value) is list and isinstance(step, int) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
    return value


def text(value: object, *path: str | int) -> str:
    """The string at `path`, or the empty string."""
    for step in path:
        if type(value) is dict:
            value = value.get(step)
        elif value is None:
            return ""
        else:
            value = pick(value, step)
    return value if isinstance(value, str) else ""


def number(value: object, *path: str | int) -> int | None:
    """The integer at `path`; a boolean or a string is none."""
    found = pick(value, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def mapping(value: object, *path: str | int) -> Object:
    found = pick(value, *path)
    return found if isinstance(found, dict) else {}


def objects(value: object, *path: str | int) -> list[Object]:
    """The members of the list at `path` that are objects."""
    for step in path:
        if type(value) is dict:
            value = value.get(step)
        elif value is None:
            return []
        else:
            value = pick(value, step)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def strings(value: object, *path: str | int) -> list[str]:
    found = pick(value, *path)
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []


def when(value: object, *path: str | int) -> datetime | None:
    """The RFC 3339 time at `path` as aware UTC, or None."""
    found = text(value, *path)
    return _time(found) if found else None


def written(value: object) -> datetime | None:
    """The RFC 3339 time that a value is, as aware UTC, or None."""
    return _time(value) if isinstance(value, str) and value else None


@lru_cache(maxsize=1 << 14)  # the same seconds stand in many fields of many objects
def _time(written: str) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(written)
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # OverflowError: year 1 or 9999 that UTC has no date for
        return None


def decimal(value: str | None) -> int | None:
    """A string of at most 18 decimal digits as a number: Python refuses to convert very long ones."""
    return int(value) if value is not None and len(value) <= 18 and value.isdecimal() else None


def condition(item: object, kind: str) -> Object:
    """The status condition of a type, or an empty object."""
    return next((c for c in objects(item, "status", "conditions") if c.get("type") == kind), {})


def newest(times: Iterable[datetime | None]) -> datetime | None:
    return max((time for time in times if time is not None), default=None)


# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([KMGTPE]i|[mkMGTPE]?)|[eE]([+-]?[0-9]{1,2}))$")
_SCALE = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_SCALE |= {f"{unit}i": 1024.0**power for power, unit in enumerate("KMGTPE", start=1)}


def quantity(value: object) -> float | None:
    """A Kubernetes quantity ("512Mi", "500m", 2) as a number of its base unit (bytes, cores), or None."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None
    match = _QUANTITY.match(value) if isinstance(value, str) else None
    if match is None:
        return None
    value = float(match[1]) * (10.0 ** int(match[3]) if match[3] else _SCALE[match[2] or ""])
    return value if math.isfinite(value) else None
