"""`paramedic models`, against the stand-in server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from errors import ToolFailed
from terminal.models import app
from tests.standins.llm import Call, LlmStandIn, Say


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LlmStandIn]:
    with LlmStandIn() as standin:
        monkeypatch.setenv("PARAMEDIC_DATA_DIR", str(tmp_path))
        monkeypatch.setenv("PARAMEDIC_LLM__MODEL", "ollama:scripted:8b")
        monkeypatch.setenv("PARAMEDIC_LLM__BASE_URL", standin.ollama_url)
        yield standin


def test_list(server: LlmStandIn) -> None:
    result = CliRunner().invoke(app, ["list"], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert "plain:1b" in result.output
    assert [line for line in result.output.splitlines() if "scripted:8b" in line and "yes" in line]


def test_pull(server: LlmStandIn) -> None:
    result = CliRunner().invoke(app, ["pull", "new:1b"], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert "verifying sha256 digest" in result.output
    assert "1.0/1.0 kB" in result.output
    assert "PARAMEDIC_LLM__MODEL=ollama:new:1b" in result.output


def test_pull_that_fails_says_so(server: LlmStandIn) -> None:
    result = CliRunner().invoke(app, ["pull", "missing:1b"])
    assert isinstance(result.exception, ToolFailed)


def test_check(server: LlmStandIn) -> None:
    server.script = [Say("ready"), Call([("report", {"number": 7})]), Say('{"number": 7}')]
    result = CliRunner().invoke(app, ["check"])
    assert result.exit_code == 0, result.output
    for line in ("answers: yes", "counts tokens: yes", "calls tools: yes", "answers in a given shape: yes"):
        assert line in result.output
    assert "3 of 50 calls this hour" in result.output


def test_check_of_a_model_without_tools(server: LlmStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAMEDIC_LLM__MODEL", "ollama:plain:1b")
    server.script = [Say("ready"), Say("no JSON")]
    result = CliRunner().invoke(app, ["check"])
    assert "calls tools: no (the model ollama:plain:1b cannot call tools)" in result.output
    assert "answers in a given shape: no" in result.output


def test_check_without_a_model(server: LlmStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARAMEDIC_LLM__MODEL")
    result = CliRunner().invoke(app, ["check"])
    assert result.exit_code == 0 and "rules work alone" in result.output
    assert server.requests == []
