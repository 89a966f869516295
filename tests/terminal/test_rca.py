"""`paramedic rca` from files: the answer, the charts, and one line for each bad input."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from errors import InvalidInput, ParamedicError
from terminal.rca import rca

BEGAN = datetime(2026, 11, 20, 12, tzinfo=UTC)
app = typer.Typer()
app.command()(rca)


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    if isinstance(done.exception, ParamedicError):
        return done.exception.exit_code, done.stdout, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = random.Random(1)
    lines = ["time,web_latency,cart_latency,db_latency,db_cpu"]
    for index in range(240):
        at = BEGAN + timedelta(seconds=15 * index)
        broken = index >= 200
        values = [rng.gauss(10, 0.3), rng.gauss(10, 0.3), rng.gauss(50 if broken else 10, 0.3),
                  rng.gauss(0.9 if broken else 0.2, 0.01)]  # fmt: skip
        lines.append(",".join([at.isoformat(), *(f"{value:.4f}" for value in values)]))
    (tmp_path / "shop.csv").write_text("\n".join(lines))
    return tmp_path


def test_from_files_with_charts_and_json(folder: Path) -> None:
    start = (BEGAN + timedelta(minutes=40)).isoformat()
    code, printed, said = run("--from", str(folder), "--start", start, "--json", "--chart", str(folder / "c.html"))
    assert code == 0 and "charts in" in said
    document = json.loads(printed)
    assert document["workloads"][0]["entity"] == "db"
    onset = datetime.fromisoformat(document["onset"])
    assert abs(onset - (BEGAN + timedelta(seconds=15 * 200))) <= timedelta(seconds=30)
    assert (folder / "c.html").read_text().startswith("<!doctype html>")
    code, printed, _ = run("--from", str(folder / "shop.csv"), "--chart", str(folder / "c.png"))
    assert code == 0 and "db" in printed.splitlines()[0] and "latency" in printed
    assert (folder / "c.png").read_bytes().startswith(b"\x89PNG")


def test_bad_input_is_one_sentence(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "const.csv").write_text("time,a_x\n" + "\n".join(f"{1.7e9 + i},5" for i in range(100)))
    for arguments, words in (
        (["--since", "soon"], "no duration"),
        (["--since", "0m"], "no duration"),
        (["--start", "2026-11-20T12:00:00"], "no time zone"),
        (["--start", "noon"], "no time of ISO 8601"),
        (["--from", str(folder / "nowhere")], "no file and no folder"),
        (["--from", str(folder / "sub")], "holds no"),
        (["--from", str(folder), "--chart", "x.gif"], "ends with none of"),
        (["--from", str(folder), "--chart", "/nowhere/x.svg"], "there is no folder"),
        (
            ["--from", str(folder), "--start", "2026-11-20T13:00:00Z", "--end", "2026-11-20T12:00:00Z"],
            "the window ends",
        ),
        (["--from", str(folder), "--end", "2026-11-20T12:00:00Z"], "--start or --since is needed"),
    ):
        code, printed, said = run(*arguments)
        assert (code, printed) == (InvalidInput.exit_code, ""), arguments
        assert words in said, (arguments, said)
    for arguments, words in (
        (["--since", "5m", "--start", "2026-11-20T12:00:00Z"], "give one of them"),
        (["--from", str(folder), "--prometheus", "http://127.0.0.1:1"], "give one of them"),
        (["--from", str(folder), "-m", "rate(x[5m])"], "PromQL needs a server"),
        (["--from", str(folder), "-n", "shop"], "no label that names a namespace"),
    ):
        code, printed, said = run(*arguments)
        assert (code, printed) == (InvalidInput.exit_code, ""), arguments
        assert words in said, (arguments, said)
    code, printed, _ = run("--from", str(folder / "const.csv"))
    assert code in (0, 1) and printed.startswith("No root cause"), printed


def test_files_are_asked_by_namespace_name_and_how_far_back(folder: Path) -> None:
    table = (folder / "shop.csv").read_text().splitlines()
    names = [column.split("_") for column in table[0].split(",")[1:]]
    rows = [line.split(",") for line in table[1:]]
    for place in ("shop", "other"):
        lines = ["time,metric,value,namespace,deployment"]
        for place_of, (workload, metric) in enumerate(names, 1):
            lines += [f"{row[0]},{metric},{row[place_of if place == 'shop' else 1]},{place},{workload}" for row in rows]
        (folder / f"{place}.csv").write_text("\n".join(lines))
    code, printed, _ = run("--from", str(folder), "-n", "shop", "-m", "cpu", "--since", "20m", "--json")
    document = json.loads(printed)
    assert code == 0 and document["workloads"][0]["entity"] == "shop/db"
    assert document["data_quality"]["series"] == 1
    start, end = (datetime.fromisoformat(document["window"][key]) for key in ("start", "end"))
    assert end - start == timedelta(minutes=20) and end == BEGAN + timedelta(seconds=15 * 239)
    code, printed, _ = run("--from", str(folder), "-n", "other", "--since", "20m", "--json")
    assert code == 0 and json.loads(printed)["status"] == "no_root_cause"
