"""The report as one HTML file that loads nothing, and as JSON. All text is escaped: names and logs are outside text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment

from evals.results import Result
from evals.scoring import as_json, is_right, score

_TEMPLATE = Path(__file__).parent / "report.html.j2"


def html(results: Sequence[Result]) -> str:
    """The page."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["share"] = share
    found = score(results)
    answers = sorted({answer for row in found.confusion.values() for answer in row})
    ordered = sorted(results, key=lambda r: (r.group, r.scenario, r.mode, r.repetition))
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        score=found,
        answers=answers,
        runs=[(result, is_right(result)) for result in ordered if result.mode == "paramedic"],
        baselines=[result for result in ordered if result.mode != "paramedic"],
    )


def share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def write(results: Sequence[Result], folder: Path) -> tuple[Path, Path]:
    """Write `report.html` and `report.json` and return their paths."""
    page, document = folder / "report.html", folder / "report.json"
    page.write_text(html(results), encoding="utf-8")
    document.write_text(json.dumps(as_json(results), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return page, document
