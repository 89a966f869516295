"""The report is one file that loads nothing, and nothing in it is markup that came from outside."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

from evals.report import html, write
from evals.results import Answer
from tests.evals.results_made_up import result

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}"


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(page: str) -> _Tags:
    found = _Tags()
    found.feed(page)
    return found


def test_hostile_text_stays_text() -> None:
    said = Answer.model_validate({"class": HOSTILE, "object": HOSTILE, "container": HOSTILE, "summary": HOSTILE})
    runs = [
        result(
            HOSTILE, right=False, answer=said, title=HOSTILE, offered=HOSTILE, fix_note=HOSTILE, proposals=[HOSTILE]
        ),
        result("two", collateral=[HOSTILE], open_claims=[HOSTILE], incident_status=HOSTILE),
        result("three", error=HOSTILE),
        result(HOSTILE, mode="do_nothing", passed=True),
    ]
    found = _read(html(runs))
    assert "script" not in found.tags
    assert "img" not in found.tags
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert found.text.count(HOSTILE) >= 12


def test_it_loads_nothing() -> None:
    found = _read(html([result()]))
    assert not {"script", "link", "img", "iframe"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name in ("src", "href")]


def test_the_json_holds_the_figures_and_every_run(tmp_path: Path) -> None:
    page, document = write([result(), result("two", right=False)], tmp_path)
    read = json.loads(document.read_text())
    assert read["score"]["total"]["right"] == 0.5
    assert [run["truth"]["class"] for run in read["runs"]] == ["oom_killed", "oom_killed"]
    assert "oom_killed" in page.read_text()


def test_a_report_of_nothing_is_a_report() -> None:
    assert "0 runs" in html([])
