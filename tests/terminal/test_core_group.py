"""`paramedic core group --stdin` as a program: lines in, lines out, whatever comes in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.standins.command import paramedic

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "import cli; cli.main()", "core", "group", "--stdin"]
GOOD = b'{"frames": [{"function": "parse"}, {"function": "load"}, {"function": "main"}], "big": 1e400, "n": 1.10}'


def run(given: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(COMMAND, cwd=ROOT, input=given, capture_output=True, timeout=60, check=False)


ODD = {
    "frames": [
        7,
        None,
        {"function": 7},
        {"function": "f", "module": [], "offset": -1},
        [],
        "x" * 100_000,
        {"line": 1},
    ],
    "crash_info": [],
    "process": 3,
}


def test_lines_come_back_as_they_were_with_their_group_and_odd_values_are_passed_over() -> None:
    odd = json.dumps(ODD).encode() + b"\n" + b'{"frames": ' + json.dumps(["f"] * 1_000_000).encode() + b"}"
    again = b'{"threads": [{"frames": ["parse(int)", "load", "main"]}], "group_id": "old"}'
    done = run(GOOD + b"\n\n" + again + b'\n{"frames": []}\n' + odd)
    assert done.returncode == 0, done.stderr
    first, second, third, *others = done.stdout.splitlines()
    assert first.startswith(GOOD[:-1] + b", ")
    added = json.loads(first)
    assert added["group_id"].startswith("grp_")
    assert added["similarity"] == 1.0
    assert json.loads(second)["group_id"] == added["group_id"]
    assert json.loads(third) == {"frames": [], "group_id": None, "similarity": None}
    assert [json.loads(line)["group_id"] is not None for line in others] == [True, True]
    assert run(GOOD).stdout.strip() == first  # the same id in another process


def test_bad_lines_are_named_and_stop_nothing() -> None:
    bad = [
        b"no json",
        b'{"frames": [{"function": "f"}], "x": NaN}',
        b"[" * 100_000,
        b'{"frames": ["\xff"]}',
        b"7",
        b'{"a": 1}',
        b'{"frames": [], "group_id": "x", "n": 1e400}',
        b'{"n": ' + b"9" * 10_000 + b"}",
        b'{"frames": "' + b"x" * (17 << 20) + b'"}',
    ]
    done = run(b"\n".join([GOOD, *bad, GOOD]))
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 2
    told = done.stderr.decode().splitlines()
    assert [line.split(":")[1].strip() for line in told] == [f"line {number}" for number in range(2, 11)]
    assert all(len(line) < 300 for line in told)


def test_each_line_is_answered_when_it_comes() -> None:
    with subprocess.Popen(COMMAND, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(GOOD + b"\n")
        process.stdin.flush()
        assert b"grp_" in os.read(process.stdout.fileno(), 4096)  # nothing else was said, and stdin is still open
        process.stdin.close()
        assert process.wait(60) == 0


def test_without_stdin_it_says_how() -> None:
    done = paramedic("core", "group", environment=os.environ)
    assert done.returncode == 2
    assert "--stdin" in done.stderr
