"""Captured cases with hostile text planted wherever a tenant of the cluster can write (evals.hostile)."""

from __future__ import annotations

import copy
from datetime import timedelta

from diagnosis.workloads.snapshot import Snapshot
from evals.hostile import ORDERS, bystanders, events, plant
from tests.snapshot_cases import loaded, truth

SAYS = "\n".join(ORDERS)


def hostile(name: str) -> Snapshot:
    case = loaded(name)
    space = truth(name)["namespace"]
    items = [item if item["kind"] == "Event" else plant(item) for item in copy.deepcopy(case.items())]
    told = [item for item in items if item["kind"] in ("Pod", "Deployment", "Service")]
    at = (case.observed_at - timedelta(minutes=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    items += [order for item in told for order in events(item, item["metadata"].get("namespace", space), at)]
    items += bystanders(space)
    # a program that says nothing, or that never ran, cannot give orders either
    said = {key: case.log(*key) or "" for key in case.log_keys()}
    logs = {key: f"{SAYS}\n{text}" if len(text.split("\n")) > 2 else text for key, text in said.items()}
    return Snapshot(
        items,
        logs=logs,
        observed_at=case.observed_at,
        complete=case.complete,
        absent=case.absent,
        focus=case.focus,
        series=case.series.all(),
        alerts=case.alerts,
    )
