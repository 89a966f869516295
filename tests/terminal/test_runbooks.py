"""`paramedic runbooks`: what it prints, its exit codes, and one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from errors import InvalidInput, NotFound
from terminal.runbooks import app


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "books"
    folder.mkdir()
    (folder / "db.md").write_text("# 数据库连接数耗尽\n\n先看 pg_stat_activity \x1b[31m\u202e。\n")
    (folder / "bad.md").write_bytes(b"\xff\xfe")
    monkeypatch.setenv("PARAMEDIC_RUNBOOKS__FOLDER", str(folder))
    monkeypatch.setenv("PARAMEDIC_DATA_DIR", str(tmp_path / "data"))
    return folder


def test_search(folder: Path) -> None:
    done = CliRunner().invoke(app, ["search", "连接数"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("db.md#数据库连接数耗尽 (lines 1–3)\n")
    assert "\x1b[31m" not in done.stdout and "\u202e" not in done.stdout


def test_search_as_json(folder: Path) -> None:
    done = CliRunner().invoke(app, ["search", "连接", "--json"])
    (passage,) = json.loads(done.stdout)["passages"]
    assert (passage["path"], passage["first_line"], passage["last_line"]) == ("db.md", 1, 3)
    assert passage["source"] == "db.md#数据库连接数耗尽 (lines 1–3)"


def test_nothing_found_is_exit_1(folder: Path) -> None:
    done = CliRunner().invoke(app, ["search", "kafka"])
    assert (done.exit_code, done.stdout) == (1, "No runbook has these words.\n")


def test_index_says_what_cannot_be_used(folder: Path) -> None:
    done = CliRunner().invoke(app, ["index"])
    assert done.exit_code == 0
    assert done.stdout.startswith("2 runbooks (1 read anew, 0 gone), 1 passages in ")
    assert done.stderr == "bad.md: it is not in UTF-8\n"


def test_no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAMEDIC_RUNBOOKS__FOLDER", str(folder / "nowhere"))
    assert isinstance(CliRunner().invoke(app, ["index"]).exception, NotFound)
    done = CliRunner().invoke(app, ["search", "x"])
    assert done.exit_code == 1 and done.stderr.startswith("not seen: the runbook folder ")
    monkeypatch.delenv("PARAMEDIC_RUNBOOKS__FOLDER")
    assert isinstance(CliRunner().invoke(app, ["search", "x"]).exception, InvalidInput)
