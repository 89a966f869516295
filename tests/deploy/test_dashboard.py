"""The Grafana dashboard asks only for what the agent, the webhook and the service really measure."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from api.metrics import HttpMetrics, render
from collector.measures import Measures, Queue
from collector.webhook.measures import WebhookMeasures
from incidents.database import Database

FILE = Path(__file__).parents[2] / "deploy" / "dashboards" / "paramedic.json"
_NAME = re.compile(r"\bparamedic_[a-z_]+")
_LABELS = re.compile(r"by \(([a-z_, ]+)\)")


def _panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(FILE.read_text())["panels"] if panel["type"] != "row"]


async def test_every_metric_and_label_is_one_that_is_measured(database: Database) -> None:
    service = await render(HttpMetrics(), database)
    agent = Measures().render(Queue({}, 0.0, 0, 0), aliases=False)
    measured: dict[str, set[str]] = {}
    for text in (service, agent, WebhookMeasures().render()):
        for family in text_string_to_metric_families(text.decode()):
            end = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
            for suffix in end:
                measured[family.name + suffix] = {name for sample in family.samples for name in sample.labels}
    asked = {expression for panel in _panels() for target in panel["targets"] for expression in [target["expr"]]}
    assert len(asked) > 20
    for expression in asked:
        for name in _NAME.findall(expression):
            assert name in measured, expression
            if not measured[name]:  # nothing was counted yet: its labels are not known here
                continue
            for labels in _LABELS.findall(expression):
                assert set(labels.split(", ")) <= measured[name], expression


def test_it_is_a_dashboard_that_stands_in_no_other_ones_way() -> None:
    panels = json.loads(FILE.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not taken & cells and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels if panel["type"] != "row")
