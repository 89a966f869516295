"""A real crash, made on the spot: `deploy/demo/crash.cpp` compiled, run and dumped in a folder of its own.

The machine's `kernel.core_pattern` is never changed: where cores go to a pipe or elsewhere, gdb runs the program and
writes the core at the signal.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from errors import NotFound, ToolFailed, ToolMissing, ToolTimeout

SOURCE = Path(__file__).parents[1] / "deploy" / "demo" / "crash.cpp"
PACKAGES = {"gdb": "gdb", "g++": "g++"}
"""Program to Debian package."""
_INSTALL_SECONDS = 600
_COMPILE_SECONDS = 120
_RUN_SECONDS = 30


@dataclass(frozen=True)
class MadeCrash:
    """What the crash left, all in one folder."""

    program: Path
    core: Path
    source: Path
    by_gdb: bool  # the kernel would have put the core elsewhere


def missing_programs() -> list[str]:
    """The programs that the demo needs and this machine lacks."""
    return [name for name in PACKAGES if shutil.which(name) is None]


def install(programs: list[str]) -> None:
    """Install with apt as root. Raises ToolMissing, with the one command, where that is not possible."""
    packages = [PACKAGES[name] for name in programs]
    command = f"apt-get update && apt-get install -y {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise ToolMissing(f"the demo needs {' and '.join(programs)}: install them and start it again")
    if os.geteuid() != 0:
        raise ToolMissing(f"the demo needs {' and '.join(programs)}; as root: {command}")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
        _run(["apt-get", *arguments], _INSTALL_SECONDS, env=env, failed=f"`{command}` failed")
    left = missing_programs()
    if left:
        raise ToolMissing(f"apt-get installed {' '.join(packages)}, but {' and '.join(left)} is not on PATH")


def make_crash(folder: Path, tell: Callable[[str], None]) -> MadeCrash:
    """Compile the program in `folder`, let it crash there, and return what it left.

    Raises NotFound without the source, ToolFailed when the compiler fails or no core can be made.
    """
    if not SOURCE.is_file():
        raise NotFound(f"the demo's program {SOURCE} is not there; the demo runs from a source checkout")
    source = folder / SOURCE.name
    shutil.copyfile(SOURCE, source)
    program = folder / "checkout"
    tell(f"g++ -g {source.name}")
    compiler = ["g++", "-std=c++17", "-g", "-O0", "-pthread", "-o", program.name, source.name]
    _run(compiler, _COMPILE_SECONDS, cwd=folder, failed="the compiler failed")
    tell("./checkout")
    core = _dumped_by_kernel(program, folder)
    by_gdb = core is None
    if core is None:
        tell("./checkout, under gdb")
        core = _dumped_by_gdb(program, folder)
    return MadeCrash(program=program, core=core, source=source, by_gdb=by_gdb)


def _dumped_by_kernel(program: Path, folder: Path) -> Path | None:
    """The core that the kernel wrote into the working folder; None where its pattern points elsewhere."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text(encoding="utf-8").strip()
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if pattern.startswith(("|", "/")) or hard == 0:
        return None
    before = set(folder.rglob("*"))
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))  # the child inherits it
    try:
        subprocess.run([program], cwd=folder, capture_output=True, timeout=_RUN_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ToolTimeout("the demo's program did not crash, which it should") from None
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    made = [path for path in folder.rglob("*") if path not in before and path.is_file() and path.stat().st_size > 0]
    return made[0] if made else None


def _dumped_by_gdb(program: Path, folder: Path) -> Path:
    core = folder / "core"
    plain = [
        "-iex",
        "set debuginfod enabled off",
        "-iex",
        "set debug-file-directory /nonexistent",
    ]  # no names are asked
    gdb = ["gdb", "-nx", "-batch", *plain, "-ex", "run", "-ex", "generate-core-file core"]
    said = _run([*gdb, "--args", f"./{program.name}"], 2 * _RUN_SECONDS, cwd=folder, failed="gdb failed")
    if not core.is_file() or core.stat().st_size == 0:
        raise ToolFailed(
            "no core could be made: the kernel sends cores elsewhere (kernel.core_pattern), and gdb could not run the "
            f"program here ({said.strip().splitlines()[-1] if said.strip() else 'no output'})"
        )
    return core


def _run(
    command: list[str], seconds: float, *, failed: str, cwd: Path | None = None, env: dict[str, str] | None = None
) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        raise ToolMissing(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise ToolTimeout(f"{failed}: {command[0]} took longer than {seconds:.0f} s") from None
    output = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        raise ToolFailed(f"{failed} (exit code {done.returncode}): {' '.join(output.split())[-500:]}")
    return output
