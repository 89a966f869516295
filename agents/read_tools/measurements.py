"""Measurements as a tool for a model: one metric at a time, of the incident's namespace and time, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from agents.tool_loop import Reading, ReadTool
from diagnosis.workloads.metrics import read_answer
from incidents.models import EvidenceKind
from tools.prometheus.client import Prometheus
from tools.prometheus.rca.asked import understood
from tools.prometheus.rca.discover import vector

MAX_SERIES = 20
_POINTS = 30
_RATE = "5m"


class OfMetric(BaseModel):
    """A metric by its name. There is no PromQL: a query could leave the incident's namespace."""

    model_config = ConfigDict(extra="forbid")

    metric: str = Field(
        pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]{0,199}$", description="Such as container_memory_working_set_bytes"
    )


def measurement_tools(server: Prometheus, namespace: str | None, start: datetime, end: datetime) -> Sequence[ReadTool]:
    """Read-only: counters come as rates per second, histograms as a quantile and a mean."""
    step = timedelta(seconds=max(1, int((end - start).total_seconds() / _POINTS)))

    async def run(args: OfMetric) -> Reading:
        wanted, _, missing = await understood(server, [args.metric], namespace, end, MAX_SERIES)
        parts = list(missing)
        for one in wanted:
            expression = one.expression(namespace, _RATE)
            counted = vector(await server.instant(f"count({expression})", end))
            if counted and counted[0][1] > MAX_SERIES:
                parts.append(f"{one.name}: {counted[0][1]:.0f} series are more than the {MAX_SERIES} that are shown")
                continue
            answer = await server.range(expression, start, end, step)
            series, missed = await asyncio.to_thread(read_answer, answer, one.name, one.name, MAX_SERIES)
            for item in series:
                told = item.evidence(end)
                parts.append(f"{told.source}\n{told.excerpt}")
            parts += missed
        source = f"Prometheus query_range of {args.metric} in {namespace} by {step.total_seconds():g} s"
        return Reading("\n\n".join(parts) or "no series", source, EvidenceKind.METRIC)

    return [ReadTool("query_metric", "How a metric went in the incident's namespace, around it.", OfMetric, run)]
