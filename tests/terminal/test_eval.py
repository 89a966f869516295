"""`paramedic eval` before it reaches a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from errors import Conflict, InvalidInput, ToolMissing
from evals.results import Store
from terminal.eval import line_of
from tests.evals.results_made_up import result


def run(*arguments: str) -> tuple[int, str, BaseException | None]:
    done = CliRunner().invoke(app, ["eval", *arguments])
    return done.exit_code, done.output, done.exception


def test_it_lists_the_scenarios_without_a_cluster() -> None:
    code, output, _ = run("--list", "--only", "control")
    assert code == 0
    assert "control/healthy: Nothing is wrong" in output
    assert "run-time" not in output


def test_an_unknown_name_is_told() -> None:
    assert isinstance(run("--only", "no-such", "--list")[2], InvalidInput)


def test_results_are_never_overwritten(tmp_path: Path) -> None:
    Store.open(tmp_path, resume=False).add(result())
    kubeconfig = tmp_path / "config"
    kubeconfig.touch()
    failed = run("--only", "healthy", "--out", str(tmp_path), "--kubeconfig", str(kubeconfig))[2]
    assert isinstance(failed, Conflict)


def test_it_never_takes_the_cluster_that_happens_to_be_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "production"))
    failed = run("--only", "healthy", "--out", str(tmp_path / "out"), "--kubeconfig", str(tmp_path / "none"))[2]
    assert isinstance(failed, ToolMissing)


def test_a_run_in_one_line() -> None:
    assert line_of(result(fix="verified")).startswith("right")
    assert "TOUCHED Secret/x" in line_of(result(collateral=["Secret/x"]))
    wrong = line_of(result(right=False, fix="not_offered"))
    assert wrong.startswith("WRONG")
    assert "truth: oom_killed" in wrong
    assert line_of(result(error="no node")).startswith("NOT RUN")
    assert "blind restart passes" in line_of(result(mode="blind_restart", passed=True))
