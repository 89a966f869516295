"""A process that gave up its rights reads its file, writes where it may, and can do nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import errno, os, socket, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tools.cores.alone import give_up_rights
core, other, target = map(Path, sys.argv[2:5])
give_up_rights([core], [target])
def tried(name, work):
    try:
        work()
        print(name, "done")
    except OSError as error:
        print(name, errno.errorcode[error.errno])
tried("read", core.read_bytes)
tried("write", lambda: (target / "out").write_bytes(b"x"))
tried("other", other.read_bytes)
tried("passwd", Path("/etc/passwd").read_bytes)
tried("network", lambda: socket.socket(socket.AF_INET))
tried("program", lambda: os.execv("/bin/true", ["true"]))
tried("change", lambda: core.write_bytes(b"x"))
import colorsys
print("import done")
"""


def test_only_the_case_can_be_reached(tmp_path: Path) -> None:
    (ROOT / "build").mkdir(exist_ok=True)
    core, other, target = tmp_path / "core", ROOT / "build" / "not-of-the-case", tmp_path / "out"
    core.write_bytes(b"core")
    other.write_bytes(b"other")
    target.mkdir()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(ROOT), str(core), str(other), str(target)],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": "/usr/bin:/bin", "TMPDIR": str(temporary)},
        )
    finally:
        other.unlink()
    said = dict(line.split() for line in done.stdout.splitlines())
    if said["other"] == "done":
        pytest.skip("this kernel has no Landlock: Linux 5.13 or newer is needed")
    assert said == {
        "read": "done", "write": "done", "other": "EACCES", "passwd": "EACCES", "network": "EPERM", "program": "EACCES",
        "change": "EACCES", "import": "done",
    }  # fmt: skip
