"""Prompts: a template per agent, strict about its values, and data that is never a template."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from prompts import render

READING = {
    "phase": "test",
    "fence": "f" * 16,
    "steps": 3,
    "limit": 4,
    "tools": [("look", "Look.", "at")],
    "answer_tool": "submit_answer",
}
VALUES: dict[str, dict[str, object]] = {
    "researcher": READING,
    "analyst": READING,
    "gdb_analyst": READING,
    "supervisor": {
        "fence": "f" * 16,
        "answer_tool": "choose",
        "options": [{"name": "researcher", "reason": "looks"}],
        "default": "researcher",
    },
    "chat": {"fence": "f" * 16, "lines": 12},
}


@pytest.mark.parametrize("name", VALUES)
def test_each_agent_that_reads_has_one(name: str) -> None:
    text = render(name, **VALUES[name])
    assert len(text) > 200 and "ffffffffffffffff" in text and "{{" not in text and "{%" not in text


@pytest.mark.parametrize("name", VALUES)
def test_a_missing_value_is_an_error(name: str) -> None:
    with pytest.raises(UndefinedError):
        render(name)


@pytest.mark.parametrize("name", ["researcher", "analyst", "gdb_analyst"])
@pytest.mark.parametrize(
    ("phase", "said"), [("propose", "look(at)"), ("test", "3 rounds"), ("explain", "final answer")]
)
def test_each_phase_has_its_task(name: str, phase: str, said: str) -> None:
    assert said in render(name, **{**READING, "phase": phase})


def test_values_are_not_templates() -> None:
    text = render("supervisor", **{**VALUES["supervisor"], "default": "{{ 7 * 7 }}<b>"})
    assert "{{ 7 * 7 }}<b>" in text and "49" not in text
