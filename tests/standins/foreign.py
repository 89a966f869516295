"""The crashing programs built for other machines than this one, and their cores.

i386 programs run on an x86-64 kernel, which writes their cores; aarch64 and riscv64 ones run in an emulator
(emulated.py).
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.standins import crashing, emulated

MACHINES = ("i386", "aarch64", "riscv64")
_LIMIT = 60
_NATIVE = ["-m32", "-idirafter", "/usr/include/x86_64-linux-gnu"]  # the kernel's headers, without gcc-multilib's link


@dataclass(frozen=True)
class Build:
    """`source` is crashing, misusing or waiting; a stripped one has neither symbols nor debug information."""

    machine: str
    source: str
    level: str
    static: bool = False
    stripped: bool = False

    def __str__(self) -> str:
        kind = "static" if self.static else "dynamic"
        return "-".join((self.machine, self.source, self.level[1:], kind, "stripped" if self.stripped else "whole"))


def require(machine: str) -> None:
    """Skip the test, by name, when what builds, runs or reads programs of `machine` is missing."""
    crashing.require_tools()
    if machine == "i386":
        if not _compiles_for_i386():
            pytest.skip("no compiler for i386: apt-get install g++-12-multilib")
        if not crashing.kernel_writes_cores():
            pytest.skip("kernel.core_pattern leads elsewhere: no core of an i386 program")
        return
    needed = {
        f"{machine}-linux-gnu-g++-12": f"g++-12-{machine}-linux-gnu",
        f"qemu-{machine}": "qemu-user",
        "gdb-multiarch": "gdb-multiarch",
    }
    missing = [package for name, package in needed.items() if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no tools for {machine}: apt-get install {' '.join(missing)}")


@cache
def _compiles_for_i386() -> bool:
    target = crashing.folder() / "i386-probe"
    command = ["g++", *_NATIVE, "-xc++", "-o", str(target), "-"]
    done = subprocess.run(
        command,
        check=False,
        input="#include <bits/c++config.h>\nint main() {}",
        text=True,
        capture_output=True,
        timeout=_LIMIT,
    )
    return done.returncode == 0 and subprocess.run([target], check=False, timeout=_LIMIT).returncode == 0


@cache
def program(build: Build) -> Path:
    plus = build.source == "crashing"
    compiler = (["g++"] if plus else ["gcc"]) + _NATIVE
    if build.machine != "i386":
        compiler = [f"{build.machine}-linux-gnu-{'g++' if plus else 'gcc'}-12"]
    options = ["-std=c++17"] if plus else ["-std=gnu11", "-fno-builtin"]
    options += ["-g", "-w", "-fstack-protector-strong", "-Wl,--build-id", "-pthread", build.level]
    options += ["-static"] if build.static else []
    options += ["-s"] if build.stripped else []
    source = crashing.SOURCE.with_name(f"{build.source}.{'cpp' if plus else 'c'}")
    return crashing.compiled(str(build), *compiler, *options, str(source))


@cache
def core(build: Build, mode: str) -> Path:
    """A core of the program in `mode`, as the kernel of its machine writes it. Do not change the file: it is shared."""
    where = Path(tempfile.mkdtemp(prefix=f"{build.machine}-{mode}-", dir=crashing.folder())) / "run"
    if build.machine == "i386":
        return crashing.crash(program(build), [mode], where)
    return emulated.core_of(build.machine, program(build), mode, where)


@cache
def emulators_own_core(build: Build, mode: str) -> Path:
    """A core that qemu's user emulation itself leaves: without signal information, list of files and code."""
    where = Path(tempfile.mkdtemp(prefix=f"qemu-{mode}-", dir=crashing.folder()))
    command = [f"qemu-{build.machine}", "-L", f"/usr/{build.machine}-linux-gnu", str(program(build)), mode]
    subprocess.run(command, cwd=where, check=False, capture_output=True, timeout=_LIMIT, preexec_fn=_allow_cores)
    found = next(where.glob("qemu_*.core"), None)
    if found is None:
        pytest.skip("qemu wrote no core here: RLIMIT_CORE is 0 and cannot be raised")
    return found


def _allow_cores() -> None:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
