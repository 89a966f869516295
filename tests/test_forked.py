"""The plugin that shares a run among processes loses no result: one that dies is a failure, by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FILE = """
import os, pytest

@pytest.fixture(scope="session")
def made(tmp_path_factory):
    yield tmp_path_factory.mktemp("made")
    print("put away")

def test_good(made, tmp_path): assert made.parent == tmp_path.parent
def test_bad(): assert "what it says" == 1
@pytest.mark.skip(reason="no such tool")
def test_skipped(): pass
"""
DYING = "\ndef test_dying(): os.kill(os.getpid(), 9)\ndef test_behind(): pass\n"


def test_each_result_is_reported_and_a_worker_that_dies_fails_the_run(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = -p no:cacheprovider -p no:hypothesispytest -p no:asyncio\n"
    )
    for name in ("a", "b", "c"):
        (tmp_path / f"test_{name}.py").write_text(FILE + (DYING if name == "c" else ""))
    command = [sys.executable, "-m", "pytest", "-p", "tests.forked", "--workers", "3", "-ra", "--no-fold-skipped"]
    place = [f"--basetemp={tmp_path / 'temporary'}", f"--rootdir={tmp_path}", str(tmp_path)]
    root = Path(__file__).parents[1]
    done = subprocess.run([*command, *place], cwd=root, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1, done.stderr
    closing = done.stdout.splitlines()[-1]
    assert "4 failed, 3 passed, 3 skipped" in closing
    assert "the worker ended with -9; 2 tests that it had taken have no result" in done.stdout
    assert done.stdout.count("assert 'what it says' == 1") >= 3 and "no such tool" in done.stdout
    assert {path.name for path in (tmp_path / "temporary").iterdir()} == {"worker0", "worker1", "worker2"}
