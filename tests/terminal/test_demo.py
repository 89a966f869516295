"""`paramedic demo` as a person runs it, and what it does where the machine is not as it would like."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from terminal.demo_crash import SOURCE
from tests.standins.command import paramedic

needs_tools = pytest.mark.skipif(
    not (shutil.which("gdb") and shutil.which("g++")), reason="gdb or g++ is not installed: apt-get install gdb g++"
)
BUG = next(number for number, line in enumerate(SOURCE.read_text().splitlines(), 1) if "// the bug" in line)


def _demo(**env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", "demo"]
    return subprocess.run(command, env=os.environ | env, capture_output=True, text=True, timeout=110)


@pytest.mark.gdb
@pytest.mark.system
@needs_tools
def test_it_ends_with_the_line_of_the_bug_and_leaves_nothing(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.touch()
    done = _demo(TMPDIR=str(tmp_path), COLUMNS="160", KUBECONFIG=str(kubeconfig))
    assert done.returncode == 0, done.stderr
    assert f"crash.cpp:{BUG}" in done.stdout
    assert "null_dereference" in done.stdout
    assert "customer->discount_percent" in done.stdout  # the source line itself
    for agent in ("supervisor", "gdb_analyst", "notifier"):
        assert f" {agent} " in done.stdout
    assert f"A kubeconfig is at {kubeconfig}" in done.stdout
    assert list(tmp_path.iterdir()) == [kubeconfig]


@pytest.mark.gdb
@needs_tools
def test_gdb_writes_the_core_where_the_kernel_may_not(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from terminal.demo_crash import make_crash\n"
        "print(make_crash(Path(sys.argv[1]), print))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=110,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    )
    assert done.returncode == 0, done.stderr
    assert "by_gdb=True" in done.stdout
    assert (tmp_path / "core").read_bytes()[:4] == b"\x7fELF"


def test_missing_programs_are_named_in_one_sentence(tmp_path: Path) -> None:
    done = paramedic("demo", environment=os.environ | {"PATH": str(tmp_path)})
    assert done.returncode == 3
    assert "the demo needs gdb and g++" in done.stderr
    assert "Traceback" not in done.stderr
