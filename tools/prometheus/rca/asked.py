"""The metrics that a caller names: a metric's name, read as its kind wants it, or PromQL, read as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from diagnosis.metrics.series import Kind
from errors import InvalidInput
from tools.prometheus.client import Prometheus, RefusedQuery
from tools.prometheus.rca.catalogue import FIXED, PROGRAM, Wanted, histogram, of_program
from tools.prometheus.rca.discover import vector
from tools.prometheus.rca.kinds import kinds_of
from tools.prometheus.selectors import quoted, selector

MAX_ASKED = 50
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,199}")
_COUNTERS = ("_total", "_sum", "_count")


@dataclass(frozen=True)
class Given:
    """PromQL as it came."""

    expression: str

    @property
    def name(self) -> str:
        """How its series are called when they carry no name."""
        return self.expression if len(self.expression) <= 120 else f"{self.expression[:117]}..."


async def understood(
    server: Prometheus, metrics: list[str], namespace: str | None, at: datetime, limit: int
) -> tuple[list[Wanted], list[Given], list[str]]:
    """(by name, as PromQL, sentences about what has no series).

    Raises InvalidInput for a query that cannot be run, or that has more than `limit` series: nothing of it is fetched.
    """
    if len(metrics) > MAX_ASKED:
        raise InvalidInput(f"{len(metrics)} metrics are more than the {MAX_ASKED} that are read at most")
    by_name: list[Wanted] = []
    queries: list[Given] = []
    missing: list[str] = []
    for metric in dict.fromkeys(text.strip() for text in metrics):
        if not _NAME.fullmatch(metric):
            count = await _count(server, metric, at)
            if count > limit:
                raise InvalidInput(
                    f"the query {metric[:200]!r} has {count} series, and at most {limit} are read: "
                    "aggregate it, as in sum by (namespace, pod) (…)"
                )
            queries.append(Given(metric))
            if not count:
                missing.append(f"the query {metric[:200]!r} had no series at the end of the range")
            continue
        found = await _named(server, metric, namespace, at)
        if not found:
            where = f" in namespace {namespace}" if namespace else ""
            missing.append(f"the server has no metric {metric}{where}")
        by_name += found
    return by_name, queries, missing


async def _count(server: Prometheus, query: str, at: datetime) -> int:
    try:
        counted = vector(await server.instant(f"count({query}\n)", at))
    except RefusedQuery as error:
        if error.wrong:
            raise InvalidInput(f"{query[:200]!r} is no metric's name and no PromQL that can be run: {error}") from None
        raise
    return int(counted[0][1]) if counted else 0


async def _named(server: Prometheus, metric: str, namespace: str | None, at: datetime) -> list[Wanted]:
    known = [wanted for wanted in FIXED if metric in (wanted.name, wanted.metric)]
    if known:
        return known
    for name in (metric, f"{metric}_bucket"):
        if await _exists(server, name, at):
            break
    else:
        return []
    if name.endswith("_bucket"):
        return histogram(name)
    kind = (await kinds_of(server, [name], at)).get(name)
    inside = "namespace" if namespace and await _exists(server, name, at, namespace) else ""
    if kind is Kind.COUNTER or (kind is None and name.endswith(_COUNTERS)):
        return [wanted for wanted in of_program(name, set(), {name: Kind.COUNTER}) if wanted.inside == inside] or [
            Wanted(name, name, "rate", PROGRAM, "1/s", inside=inside)
        ]
    return [Wanted(name, name, "value", PROGRAM, inside=inside)]


async def _exists(server: Prometheus, metric: str, at: datetime, namespace: str | None = None) -> bool:
    scope = [("namespace", "=", quoted(namespace))] if namespace else []
    return bool(vector(await server.instant(f"count(last_over_time({selector(metric, *scope)}[1h]))", at)))
