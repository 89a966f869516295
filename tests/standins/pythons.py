"""Cores of Python programs, by every CPython on this machine: run and crashed in the test run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import pytest

from diagnosis.crashes.causes.python.stack import PythonStacks, python_stacks
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.modules import Modules
from incidents.models import Diagnosis
from settings import GdbSettings
from tests.standins import crashing
from tools.gdb.analysis import examine_core
from tools.gdb.resolve import resolve

_LIMIT = 20
_SYSTEM = Path("/usr/bin/python3")
_OWN = Path(getattr(sys, "_base_executable", sys.executable))
PROGRAM = "größe-日.py"
SOURCE = """\
import ctypes
import json
import os
import sys
import threading
import traceback


class Wächter:
    def fallen(self, n):
        if n:
            return self.fallen(n - 1)  # mark:fallen
        return (  # mark:call
            lambda x:
                ausführen(x))(None)  # mark:lambda


def ausführen(x):
    def quelle():
        yield 1
        try:
            raise ValueError("prix: 12 €")
        except ValueError:
            ende(  # mark:quelle
                x)
    return next(v for v in quelle() if v != 1)  # mark:ausführen


def ende(x):
    if sys.argv[1] == "tell":
        print(json.dumps([(frame.name, frame.lineno) for frame in traceback.extract_stack()[::-1]]), flush=True)
        os._exit(0)
    if sys.argv[1] == "abort":
        os.abort()  # mark:abort
    if sys.argv[1] == "deep":
        return ctypes.string_at(x)  # mark:deep
    return ctypes.string_at(x)  # mark:segv


def schlafen(bereit):
    bereit.set()
    threading.Event().wait(60)  # mark:schlafen


bereit = threading.Event()
threading.Thread(target=schlafen, args=(bereit,), daemon=True).start()
bereit.wait()
if sys.argv[1] == "native":
    library, started = ctypes.CDLL(None), ctypes.c_ulong()
    library.pthread_create(ctypes.byref(started), None, library.abort, None)
    threading.Event().wait(60)  # mark:native
if sys.argv[1] == "deep":
    sys.setrecursionlimit(10000)
    Wächter().fallen(2500)
Wächter().fallen(3)  # mark:module
"""


def line_of(mark: str) -> int:
    """The line of the program that carries `# mark:<mark>`."""
    return next(n for n, text in enumerate(SOURCE.splitlines(), 1) if text.endswith(f"# mark:{mark}"))


@cache
def interpreters() -> dict[str, Path]:
    """By version, such as `3.11.2`: the one of the system, the one the tests run on, and those of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [_SYSTEM, _OWN]
    for minor in range(6, 15):
        candidates += [Path(f"/usr/local/bin/python3.{minor}"), *sorted(pyenv.glob(f"3.{minor}.*/bin/python3.{minor}"))]
    found: dict[str, Path] = {}
    for path in candidates:
        if path.exists():
            ask = [str(path), "-c", "import platform as p; print(p.python_implementation(), p.python_version())"]
            answer = subprocess.run(ask, capture_output=True, text=True, timeout=_LIMIT, check=False).stdout.split()
            if answer[:1] == ["CPython"]:
                found.setdefault(answer[1], path)
    return found


def interpreter(which: str) -> Path:
    """`system`, `own`, or one of a version such as `3.12`. Skips the test, by name, when there is none."""
    if which in ("system", "own"):
        path = _SYSTEM if which == "system" else _OWN
        if path in interpreters().values():
            return path
    for version, path in interpreters().items():
        if version.startswith(f"{which}."):
            return path
    pytest.skip(f"no CPython here: {which}")


def version(python: Path) -> str:
    return next(version for version, path in interpreters().items() if path == python)


@cache
def told(python: Path) -> list[tuple[str, int]]:
    """The interpreter's own account of the stack: names and lines, innermost first."""
    program = Path(tempfile.mkdtemp(prefix="python-", dir=crashing.folder())) / PROGRAM
    program.write_text(SOURCE, encoding="utf-8")
    answer = subprocess.run([str(python), str(program), "tell"], capture_output=True, timeout=_LIMIT, check=True)
    return [tuple(item) for item in json.loads(answer.stdout)]


@cache
def core(python: Path, mode: str) -> Path:
    """Of `python` running the program in `mode`. Do not change the file: it is shared."""
    folder = Path(tempfile.mkdtemp(prefix="python-", dir=crashing.folder()))
    program = folder / PROGRAM
    program.write_text(SOURCE, encoding="utf-8")
    return crashing.crash(python, [str(program), mode], folder / "run")


@dataclass
class Opened:
    """A core with the local files that were verified."""

    core: CoreFile
    modules: Modules
    files: dict[str, Path]

    def stacks(self) -> PythonStacks:
        found = python_stacks(self.core, self.modules, self.files)
        assert found is not None
        return found


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    with CoreFile(path) as core:
        modules = Modules(core)
        resolved = resolve(core, modules, executable=None, sysroot=None, debug_dirs=[], executable_dirs=[])
        try:
            yield Opened(core, modules, resolved.files)
        finally:
            resolved.close()


async def examined(core: Path, effort: Literal["notes", "identity"]) -> Diagnosis:
    """What is told of a core without a debugger."""
    found = await examine_core(
        core,
        executable=None,
        settings=GdbSettings(),
        sysroot=None,
        debug_dirs=[],
        executable_dirs=[],
        fetched=None,
        effort=effort,
        soft_errors=[],
        progress=lambda text: None,
    )
    return found.diagnosis
