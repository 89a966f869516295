"""The Grafana dashboard asks only for what the agent, the webhook and the service really measure."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from api.metrics import HttpMetrics, render
from collector.measures import ALIASES, OLDER, PREFIX, Measures, Queue
from collector.webhook.measures import WebhookMeasures
from incidents.database import Database

FILE = Path(__file__).parents[2] / "deploy" / "dashboards" / "paramedic.json"
_NAME = re.compile(r"\bparamedic_[a-z_]+")
_LABELS = re.compile(r"by \(([a-z_, ]+)\)")
_MATCHERS = re.compile(r"\b(paramedic_[a-z_]+)\{([^}]*)\}")
_SCRAPED = ("job", "instance")  # labels that Prometheus gives
DOCUMENT = FILE.parents[2] / "docs" / "metrics.md"


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
        for name, matchers in _MATCHERS.findall(expression):
            asked_for = set(re.findall(r"([a-z_]+)\s*[=!]", matchers)) - set(_SCRAPED)
            assert not measured[name] or asked_for <= measured[name], expression


def test_what_a_linter_of_dashboards_asks_for() -> None:
    """Everything is chosen by job and instance, a counter is shown as its rate or increase over Grafana's own interval
    or a day, and each panel says what it shows and in which unit."""
    board = json.loads(FILE.read_text())
    variables = {item["name"]: item for item in board["templating"]["list"]}
    assert set(variables) == {"datasource", *_SCRAPED} and variables["datasource"]["query"] == "prometheus"
    assert all(variables[name]["multi"] and variables[name]["includeAll"] for name in _SCRAPED)
    for panel in _panels():
        assert panel["title"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
        for target in panel["targets"]:
            expression = target["expr"]
            for name in _NAME.findall(expression):
                chosen = dict(_MATCHERS.findall(expression)).get(name, "")
                assert all(f'{label}=~"${label}"' in chosen for label in _SCRAPED), expression
                if name.endswith(("_total", "_bucket")):
                    grown = re.search(rf"(?:rate|increase)\({name}\{{[^}}]*}}\[(\$__rate_interval|24h)]\)", expression)
                    assert grown, expression


def test_prometheus_can_read_every_expression(tmp_path: Path) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    asked = [target["expr"] for panel in _panels() for target in panel["targets"]]
    rules = [{"record": f"r{n}", "expr": text.replace("$__rate_interval", "5m")} for n, text in enumerate(asked)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", file], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"{len(asked)} rules found" in done.stdout


async def test_every_metric_and_older_name_is_documented(database: Database) -> None:
    told = DOCUMENT.read_text()
    agent = Measures().render(Queue({}, 0.0, 0, 0), aliases=True)
    for text in (await render(HttpMetrics(), database), agent, WebhookMeasures().render()):
        for family in text_string_to_metric_families(text.decode()):
            name = family.name + ("_total" if family.type == "counter" else "")
            assert f"`{name.removeprefix(OLDER)}`" in told or name.endswith("_created"), name
    for older, (ours, _) in ALIASES.items():
        row = next(line for line in told.splitlines() if f"`{older}`" in line)
        assert f"`{PREFIX}{ours}" in row, row


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
