"""From a load to a number of instances: never fewer than the present load needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Branch = Literal["reactive", "forecast", "minimum", "maximum"]


@dataclass(frozen=True)
class Sizing:
    """`instances` within the bounds, and which branch decided: the present load (`reactive`), the load to come
    (`forecast`), or a bound. `reactive` and `forecast` are what each asks for by itself; None: unknown."""

    instances: int
    branch: Branch
    reactive: int | None
    forecast: int | None


def needed(load: float, per_instance: float) -> int:
    """Instances that bear `load`, each `per_instance` of the same unit."""
    return math.ceil(load / per_instance - 1e-9)


def size(current: float | None, upper: float | None, *, per_instance: float, least: int, most: int) -> Sizing:
    """max(need of the current load, need of the upper quantile at the provisioning lead time), within the bounds."""
    reactive = needed(current, per_instance) if current is not None else None
    coming = needed(upper, per_instance) if upper is not None else None
    wanted = max(reactive or 0, coming or 0)
    branch: Branch = "forecast" if coming is not None and (reactive is None or coming > reactive) else "reactive"
    if wanted < least:
        return Sizing(least, "minimum", reactive, coming)
    if wanted > most:
        return Sizing(most, "maximum", reactive, coming)
    return Sizing(wanted, branch, reactive, coming)
