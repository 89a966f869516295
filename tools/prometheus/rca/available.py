"""What an analysis would look at by itself, as a list for people."""

from __future__ import annotations

from datetime import datetime

from incidents.models import Frozen
from tools.prometheus.client import Prometheus
from tools.prometheus.rca.catalogue import FIXED, of_program
from tools.prometheus.rca.discover import discover
from tools.prometheus.rca.gather import selectors
from tools.prometheus.rca.kinds import kinds_of


class Available(Frozen):
    """`series` counts those under `metric`, before they are joined."""

    name: str
    metric: str
    read_as: str
    unit: str | None
    series: int


async def available(server: Prometheus, namespace: str | None, at: datetime) -> list[Available]:
    """By name. Raises ToolFailed."""
    found = await discover(server, selectors(namespace), [at])
    have = set(found.metrics())
    kinds = await kinds_of(server, [metric for metric in have if of_program(metric, have)], at)
    wanted = [one for one in FIXED if one.metric in have]
    wanted += [one for metric in have for one in of_program(metric, have, kinds)]
    return sorted(
        (
            Available(
                name=one.name, metric=one.metric, read_as=one.form, unit=one.unit, series=found.series(one.metric)
            )
            for one in wanted
        ),
        key=lambda item: item.name,
    )
