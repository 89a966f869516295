"""Queries of a Prometheus server (or what speaks its API: Thanos, VictoriaMetrics, Mimir), bounded.

https://prometheus.io/docs/prometheus/latest/querying/api/. Answers are the documents that the server sends, of the form
that `diagnosis.workloads.metrics.read_answer` reads.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

from errors import InvalidInput, ToolFailed
from settings import PrometheusSettings
from tools.prometheus.http import MonitoringServer, said_by

MAX_QUERY = 8 * 1024
MAX_POINTS = 11_000
"""Of one series; the server refuses more."""

_TYPES = ("vector", "matrix", "scalar", "string")


class RefusedQuery(ToolFailed):
    """The server said no to a query. `wrong` when that is the query's own fault."""

    def __init__(self, message: str, *, wrong: bool) -> None:
        super().__init__(message)
        self.wrong = wrong


class Prometheus:
    """One server. All methods raise InvalidInput for a query that is not sent, and ToolFailed (ToolTimeout,
    ToolMissing) when the server does not answer it."""

    def __init__(self, settings: PrometheusSettings) -> None:
        if settings.url is None:
            raise InvalidInput("no Prometheus is configured: set prometheus.url")
        self.url = settings.url
        self._timeout = settings.timeout
        self._server = MonitoringServer(
            "Prometheus",
            settings.url,
            timeout=settings.timeout,
            max_bytes=settings.max_bytes,
            bearer_token_file=settings.bearer_token_file,
            ca=settings.ca,
        )

    async def __aenter__(self) -> Prometheus:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._server.close()

    async def instant(self, query: str, at: datetime | None = None) -> dict[str, Any]:
        """The answer at one time; without one, the server's own now."""
        fields = [("query", _checked(query)), ("timeout", f"{self._timeout:g}s")]
        if at is not None:
            fields.append(("time", _seconds(at)))
        return await self._ask("/api/v1/query", fields)

    async def range(self, query: str, start: datetime, end: datetime, step: timedelta) -> dict[str, Any]:
        """The answer at `start` and every `step` until `end`, at most `MAX_POINTS` times."""
        width = step.total_seconds()
        if width < 0.1 or end < start:
            raise InvalidInput("a range needs a step of at least 0.1 s, and an end that is not before its start")
        if (end - start).total_seconds() / width >= MAX_POINTS:
            raise InvalidInput(f"a range of {end - start} at a step of {step} has more than {MAX_POINTS} points")
        fields = [("query", _checked(query)), ("start", _seconds(start)), ("end", _seconds(end))]
        return await self._ask(
            "/api/v1/query_range", [*fields, ("step", f"{width:g}"), ("timeout", f"{self._timeout:g}s")]
        )

    async def series_count(self, selector: str) -> int:
        """How many series a selector has now: to know before asking for all of them."""
        result = (await self.instant(f"count({selector})"))["data"]["result"]
        if not result:
            return 0
        try:
            counted = float(result[0]["value"][1])
        except (KeyError, IndexError, TypeError, ValueError):
            raise ToolFailed("Prometheus did not count: its answer has no number") from None
        return int(counted) if math.isfinite(counted) else 0

    async def metadata(self) -> dict[str, Any]:
        """What the exporters say of all metrics: their types, units and help. See `prometheus_json.read_types`."""
        document = await self._server.ask("GET", "/api/v1/metadata", [])
        if not isinstance(document, dict) or not isinstance(document.get("data"), dict):
            raise ToolFailed(f"Prometheus gave no metadata: {said_by(document)}")
        return {**document}

    async def alerts(self) -> dict[str, Any]:
        """The alerts of the server's own rules, pending and firing."""
        document = await self._server.ask("GET", "/api/v1/alerts", [])
        data = document.get("data") if isinstance(document, dict) else None
        if not isinstance(data, dict) or not isinstance(data.get("alerts"), list):
            raise ToolFailed(f"Prometheus gave no alerts: {said_by(document)}")
        return {**document}

    async def _ask(self, path: str, fields: list[tuple[str, str]]) -> dict[str, Any]:
        document = await self._server.ask("POST", path, fields)
        if not isinstance(document, dict) or document.get("status") != "success":
            kind = document.get("errorType") if isinstance(document, dict) else None
            wrong = kind in ("bad_data", "execution")  # it does not parse, or cannot be run
            raise RefusedQuery(f"Prometheus refused a query: {said_by(document)}", wrong=wrong)
        data = document.get("data")
        if (
            not isinstance(data, dict)
            or data.get("resultType") not in _TYPES
            or not isinstance(data.get("result"), list)
        ):
            raise ToolFailed("Prometheus answered something that is no result of a query")
        if data["resultType"] in ("vector", "matrix"):  # what is no series is left out
            data = {**data, "result": [one for one in data["result"] if _is_series(one)]}
        return {**document, "data": data}


def _is_series(result: Any) -> bool:
    return isinstance(result, dict) and isinstance(result.get("metric"), dict)


def _checked(query: str) -> str:
    if not query.strip() or len(query) > MAX_QUERY or "\0" in query:
        raise InvalidInput(f"a query has 1 to {MAX_QUERY} characters")
    return query


def _seconds(at: datetime) -> str:
    if at.tzinfo is None:
        raise InvalidInput("a time of a query needs a time zone")
    return f"{at.astimezone(UTC).timestamp():.3f}"
