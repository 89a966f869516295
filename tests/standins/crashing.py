"""Real cores: one C++ program, compiled once a test run, that crashes in the way it is asked to.

kernel.core_pattern belongs to the whole machine and is not touched. Where it names another folder, the program runs in
a mount namespace in which that folder is ours; where it is a pipe, gdb runs the program and writes the core instead.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".cpp")
_LIMIT = 60


def require_tools() -> None:
    """Skip the test, by name, when gdb or a C++ compiler is missing."""
    missing = [name for name in ("gdb", "g++") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: apt-get install gdb g++")


def line_of(mark: str) -> int:
    """The source line that carries `// mark:<mark>`."""
    lines = SOURCE.read_text().splitlines()
    return next(number for number, text in enumerate(lines, 1) if text.endswith(f"// mark:{mark}"))


@cache
def folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="paramedic-crashes-")).resolve()
    atexit.register(shutil.rmtree, path, True)
    return path


@cache
def programs() -> Path:
    """Where programs are compiled to: one folder for all workers of a run, removed by the last that ends."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        return folder()
    shared = folder().parent / f"paramedic-programs-{run}"  # left before `folder` is removed, which takes longer
    user = shared / "users" / str(os.getpid())
    with _locked(shared):
        user.parent.mkdir(parents=True, exist_ok=True)
        user.touch()
    atexit.register(_leave, user)
    return shared


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock is the file beside `path`."""
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _leave(user: Path) -> None:
    shared = user.parent.parent
    with _locked(shared):
        user.unlink(missing_ok=True)
        with suppress(OSError):  # another one is there
            user.parent.rmdir()
            shutil.rmtree(shared, ignore_errors=True)
            shared.with_name(f"{shared.name}.lock").unlink(missing_ok=True)


def made(name: str, make: Callable[[Path], object]) -> Path:
    """The file `name` in the folder of programs, by `make` where no worker has made it yet."""
    target = programs() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target):
        if not target.exists():
            make(target)
    return target


def compiled(name: str, *command: str) -> Path:
    """The program `name`, by a compiler's `command` without its output."""
    return made(name, lambda target: subprocess.run([*command, "-o", str(target)], check=True, timeout=2 * _LIMIT))


@cache
def program(name: str = "shop", *options: str) -> Path:
    """The program; other `options` make another build with another build-id."""
    flags = ["-std=c++17", "-g", "-w", "-fstack-protector-all", "-Wl,--build-id", *(options or ("-O0",))]
    return compiled(name, "g++", *flags, str(SOURCE), "-pthread")


@cache
def stripped() -> Path:
    """The same program without symbols; its build-id stays."""
    return made(
        "stripped/shop", lambda target: subprocess.run(["strip", "-o", str(target), str(program())], check=True)
    )


def core(mode: str, run: int = 0, executable: Path | None = None) -> Path:
    """A core of the program in `mode`; another `run` is another process. Do not change the file: it is shared."""
    return _core(mode, run, executable or program())


@cache
def _core(mode: str, run: int, executable: Path) -> Path:
    return crash(executable, [mode], Path(tempfile.mkdtemp(prefix=f"{mode}-{run}-", dir=folder())) / "run")


def crash(executable: Path, arguments: list[str], where: Path, kill: int | None = None) -> Path:
    """Run in the new folder `where` until it crashes, or send it signal `kill` once it says that it is ready."""
    where.mkdir(parents=True)
    if not kernel_writes_cores():
        return _crash_in_gdb(executable, arguments, where)
    process = subprocess.Popen(
        [*_in_own_folder(where), str(executable), *arguments],
        cwd=where,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=_allow_cores,
    )
    try:
        if kill is not None:
            assert process.stdout is not None
            os.kill(int(process.stdout.readline().removeprefix(b"ready ")), kill)
        process.communicate(timeout=_LIMIT)
    finally:
        process.kill()
        process.wait()
    return _found(where)


@cache
def debugger_core(mode: str) -> Path:
    """A core that gdb wrote, as gcore does: other notes, no mappings of files that are on disk."""
    where = Path(tempfile.mkdtemp(prefix="gcore-", dir=folder()))
    return _crash_in_gdb(program(), [mode], where)


@cache
def kernel_writes_cores() -> bool:
    """The kernel writes cores where we can have them."""
    pattern = _pattern()
    if not pattern.startswith("/"):
        return not pattern.startswith(("|", "@"))
    trial = [*_in_own_folder(folder()), "true"]
    return shutil.which("bwrap") is not None and subprocess.run(trial, check=False, capture_output=True).returncode == 0


def _pattern() -> str:
    return Path("/proc/sys/kernel/core_pattern").read_text().strip()


def _in_own_folder(where: Path) -> list[str]:
    """Makes `where` the folder that an absolute core_pattern names, for one process."""
    pattern = _pattern()
    if not pattern.startswith("/"):
        return []
    system: list[str] = []
    for path in sorted(Path("/").iterdir()):
        if path.is_symlink():
            system += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir() and path.name not in {"proc", "dev", Path(pattern).parts[1]}:
            system += ["--ro-bind", str(path), str(path)]
    temporary = str(Path(tempfile.gettempdir()).resolve())
    system += ["--proc", "/proc", "--dev", "/dev", "--bind", temporary, temporary]
    return ["bwrap", *system, "--bind", str(where), str(Path(pattern).parent), "--"]


def killed_core() -> Path:
    """A core of the healthy program that another process sent SIGSEGV."""
    return _killed()


@cache
def _killed() -> Path:
    if not kernel_writes_cores():
        pytest.skip("kernel.core_pattern leads elsewhere: no core of a process that another one kills")
    return crash(program(), ["wait"], folder() / "killed", kill=signal.SIGSEGV)


def changed(source: Path, target: Path, change: Callable[[bytearray], object]) -> Path:
    """A copy of `source` with its bytes changed."""
    data = bytearray(source.read_bytes())
    change(data)
    target.write_bytes(data)
    return target


def _allow_cores() -> None:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def _crash_in_gdb(executable: Path, arguments: list[str], where: Path) -> Path:
    target = where / "core"
    commands = [
        "-iex",
        "set debuginfod enabled off",
        "-iex",
        "set debug-file-directory /nonexistent",  # libc's takes half a second to read
        "-ex",
        "set disable-randomization off",
        "-ex",
        "run",
        "-ex",
        f"generate-core-file {target}",
        "-ex",
        "kill",
    ]
    command = ["gdb", "-batch", "-nx", *commands, "--args", str(executable), *arguments]
    subprocess.run(command, cwd=where, check=False, timeout=_LIMIT, capture_output=True)
    return _found(where)


def _found(where: Path) -> Path:
    for path in where.iterdir():
        if path.is_file() and path.read_bytes()[:4] == b"\x7fELF":
            return path
    pytest.skip("no core was written here: RLIMIT_CORE is 0 and cannot be raised")
