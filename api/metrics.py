"""Prometheus metrics. Labels are closed sets: never a namespace, a pod, a path as it was typed, or a caller."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import Scope

from incidents.database import Database
from incidents.models import IncidentStatus
from incidents.plan import ApprovalState
from incidents.tables import ApprovalRow, DeliveryRow, IncidentRow, ModelUsageRow

_CLOSURE_BUCKETS = (0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
_METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"})


class HttpMetrics:
    """Counts requests by route template. One registry an app, so that two apps in a process do not collide."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "code")
        self._requests = Counter("paramedic_http_requests", "HTTP requests", labels, registry=self.registry)
        self._seconds = Histogram(
            "paramedic_http_request_seconds", "Time to answer", ("route",), registry=self.registry
        )

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "unmatched"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)


class _Read:
    """Metric families made from one reading of the database."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


async def render(http: HttpMetrics, database: Database) -> bytes:
    """The text exposition: HTTP counters of this process, and the state of the record as of now."""
    record = CollectorRegistry(auto_describe=False)
    record.register(_Read(await _families(database)))
    return generate_latest(http.registry) + generate_latest(record)


async def _families(database: Database) -> list[Metric]:
    async with database.read() as session:
        incidents = await session.execute(select(IncidentRow.status, func.count()).group_by(IncidentRow.status))
        approvals = await session.execute(select(ApprovalRow.state, func.count()).group_by(ApprovalRow.state))
        channel = (DeliveryRow.channel, DeliveryRow.state)
        deliveries = await session.execute(select(*channel, func.count()).group_by(*channel))
        usage = await session.execute(
            select(
                ModelUsageRow.model,
                func.count(),
                func.sum(ModelUsageRow.input_tokens),
                func.sum(ModelUsageRow.output_tokens),
                func.sum(ModelUsageRow.usd),
            ).group_by(ModelUsageRow.model)
        )
        closures = await _closures(session)
        by_status = {str(status): int(count) for status, count in incidents}
        by_state = {str(state): int(count) for state, count in approvals}
        sent = [(str(name), str(state), int(count)) for name, state, count in deliveries]
        models = [(str(row[0]), [float(number or 0) for number in row[1:]]) for row in usage]

    gauge = GaugeMetricFamily("paramedic_incidents", "Incidents on record", labels=["status"])
    for status in IncidentStatus:
        gauge.add_metric([status.value], by_status.get(status.value, 0))
    requests = GaugeMetricFamily("paramedic_approvals", "Approvals on record", labels=["state"])
    for state in ApprovalState:
        requests.add_metric([state.value], by_state.get(state.value, 0))
    outbox = GaugeMetricFamily("paramedic_deliveries", "Messages to channels", labels=["channel", "state"])
    for name, state_name, count in sent:
        outbox.add_metric([name, state_name], count)
    calls = CounterMetricFamily("paramedic_model_calls", "Calls to models", labels=["model"])
    tokens = CounterMetricFamily("paramedic_model_tokens", "Tokens of models", labels=["model", "direction"])
    cost = CounterMetricFamily("paramedic_model_cost_usd", "Cost of models that have a price", labels=["model"])
    for model, (called, read, written, usd) in models:
        calls.add_metric([model], called)
        tokens.add_metric([model, "input"], read)
        tokens.add_metric([model, "output"], written)
        cost.add_metric([model], usd)
    return [gauge, requests, outbox, calls, tokens, cost, *closures]


async def _closures(session: AsyncSession) -> list[Metric]:
    """What share of what was stated the evidence bears, of each diagnosis, and what models stated in all."""
    row, spoke = IncidentRow, IncidentRow.model_total.is_not(None)
    below = [func.sum(case((row.closure <= bound, 1), else_=0)) for bound in _CLOSURE_BUCKETS]
    query = select(spoke, func.count(), func.sum(row.closure), *below).where(row.closure.is_not(None)).group_by(spoke)
    rates = HistogramMetricFamily(
        "paramedic_diagnosis_closure",
        "Share of the statements on the way to a diagnosis that its evidence bears, by who stated them",
        labels=["stated_by"],
    )
    for by_model, count, total, *counts in await session.execute(query):
        buckets = [(str(bound), float(found)) for bound, found in zip(_CLOSURE_BUCKETS, counts, strict=True)]
        rates.add_metric(
            ["rules and model" if by_model else "rules"], [*buckets, ("+Inf", float(count))], float(total or 0)
        )
    kept, said = (await session.execute(select(func.sum(row.model_kept), func.sum(row.model_total)))).one()
    statements = CounterMetricFamily("paramedic_model_statements", "Statements of models", labels=["borne"])
    statements.add_metric(["true"], float(kept or 0))
    statements.add_metric(["false"], float((said or 0) - (kept or 0)))
    return [rates, statements]
