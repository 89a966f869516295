"""Prompts: a template per agent, strict about its values, and data that is never a template."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from prompts import render

READING = {"fence": "f" * 16, "steps": 3, "answer_tool": "submit_answer"}
CHOOSING = {"fence": "f" * 16, "last": 1, "answer_tool": "choose"}
VALUES: dict[str, dict[str, object]] = {
    "researcher": READING,
    "gdb_analyst": READING,
    "supervisor": {**CHOOSING, "options": [{"name": "researcher", "reason": "looks"}], "default": "researcher"},
    "k8s_fixer": CHOOSING,
    "notifier": CHOOSING,
    "chat": {"fence": "f" * 16, "lines": 12},
}


@pytest.mark.parametrize("name", VALUES)
def test_each_agent_has_one(name: str) -> None:
    text = render(name, **VALUES[name])
    assert len(text) > 200 and "ffffffffffffffff" in text and "{{" not in text and "{%" not in text


@pytest.mark.parametrize("name", VALUES)
def test_a_missing_value_is_an_error(name: str) -> None:
    with pytest.raises(UndefinedError):
        render(name)


def test_values_are_not_templates() -> None:
    text = render("supervisor", **{**VALUES["supervisor"], "default": "{{ 7 * 7 }}<b>"})
    assert "{{ 7 * 7 }}<b>" in text and "49" not in text
