"""Which cause is tried how: by a scenario on a cluster, a captured case, a test. Written to docs/tried.md.

`python -m evals.coverage` writes the page anew; a test compares it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from evals.scenario import outline, sources
from incidents.models import CauseClass

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tried.md"
_CASES = ROOT / "tests" / "fixtures" / "snapshots"
_TESTS = ("tests/diagnosis", "tests/generated", "tests/tools/gdb")
_HEAD = """# How each cause is tried

A scenario of `paramedic eval` makes it on a real cluster (the development cluster: one node, no metrics, no DNS). A
captured case is a snapshot of real objects of a real cluster. What has neither is tested on captured objects, changed
as each test says because no kubelet here can be made to fail that way, or on real crashes of real programs.

Written by `python -m evals.coverage`.

| Cause | Scenarios | Captured cases | Else |
|---|---|---|---|
"""


def tried() -> dict[CauseClass, tuple[list[str], list[str], list[str]]]:
    """Scenarios, captured cases, and the test files of a class that has neither."""
    scenarios: dict[str, list[str]] = defaultdict(list)
    cases: dict[str, list[str]] = defaultdict(list)
    for source in sources():
        scenarios[outline(source).truth.class_].append(source.name)
    for file in sorted(_CASES.glob("*.truth.json")):
        truth = json.loads(file.read_text(encoding="utf-8"))
        cases[str(truth.get("class") or (truth.get("root") or {}).get("class"))].append(file.name.split(".")[0])
    found = {}
    for cause in CauseClass:
        shown = scenarios[cause.value], cases[cause.value]
        found[cause] = (*shown, [] if any(shown) else _named(cause))
    return found


@cache
def _texts() -> dict[str, str]:
    files = [file for folder in _TESTS for file in sorted((ROOT / folder).rglob("test_*.py"))]
    return {file.relative_to(ROOT / "tests").as_posix(): file.read_text(encoding="utf-8") for file in files}


def _named(cause: CauseClass) -> list[str]:
    pattern = re.compile(rf"CauseClass\.{cause.name}\b|[\"']{cause.value}[\"']")
    return [name for name, text in _texts().items() if pattern.search(text)]


def page() -> str:
    rows = [f"| {cause.value} | {' | '.join(map(_cell, found))} |" for cause, found in tried().items()]
    return _HEAD + "\n".join(rows) + "\n"


def _cell(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "–"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
