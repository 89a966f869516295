"""The same crashing programs in every way that a program is shipped."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.standins import crashing, misusing, panicking

LIMIT = 120
RUST = Path(__file__).with_name("crashing.rs")
_C = ("-std=gnu11", "-fno-builtin", "-D_FORTIFY_SOURCE=0", "-fstack-protector-strong")
_CXX = ("-std=c++17", "-fstack-protector-all")


@dataclass(frozen=True)
class Build:
    """`symbols` is whole, stripped, or split (stripped, the symbols in a debug directory by build-id)."""

    language: str
    level: str
    linkage: str
    symbols: str

    def __str__(self) -> str:
        return f"{self.language}{self.level}-{self.linkage}-{self.symbols}"


@dataclass(frozen=True)
class Shipped:
    """What a reader of the core has: the program, and perhaps a debug directory."""

    program: Path
    debug_dir: Path | None


def require_tools(language: str) -> None:
    """Skip the test, by name, when what compiles `language`, or gdb, is missing."""
    crashing.require_tools()
    if language == "rust":
        panicking.require("rustc")


@cache
def _compiled(language: str, level: str, linkage: str) -> Path:
    target = crashing.folder() / f"{language}{level}-{linkage}"
    static = linkage == "static"
    if language == "rust":
        options = ["-g", "-C", f"opt-level={level[-1]}", "-C", "link-arg=-Wl,--build-id"]
        options += ["-C", "target-feature=+crt-static"] if static else []
        command = ["rustc", "-C", "panic=abort", *options, "-o", str(target), str(RUST)]
    else:
        compiler, flags, source = ("gcc", _C, misusing.SOURCE) if language == "c" else ("g++", _CXX, crashing.SOURCE)
        link = ["-static"] if static else ["-pie", "-fPIE"]
        command = [compiler, *flags, "-g", "-w", level, *link, "-Wl,--build-id", "-o", str(target), str(source)]
        command += ["-pthread"]
    subprocess.run(command, check=True, timeout=LIMIT, capture_output=True)
    return target


@cache
def shipped(build: Build) -> Shipped:
    whole = _compiled(build.language, build.level, build.linkage)
    if build.symbols == "whole":
        return Shipped(whole, None)
    folder = Path(tempfile.mkdtemp(prefix=f"{build}-", dir=crashing.folder()))
    program = folder / "shop"
    subprocess.run(["strip", "-o", str(program), str(whole)], check=True, timeout=LIMIT)
    if build.symbols == "stripped":
        return Shipped(program, None)
    notes = subprocess.run(["readelf", "-n", str(program)], check=True, capture_output=True, text=True, timeout=LIMIT)
    build_id = next(line.split()[-1] for line in notes.stdout.splitlines() if "Build ID:" in line)
    place = folder / "debug" / ".build-id" / build_id[:2]
    place.mkdir(parents=True)
    command = ["objcopy", "--only-keep-debug", str(whole), str(place / f"{build_id[2:]}.debug")]
    subprocess.run(command, check=True, timeout=LIMIT)
    return Shipped(program, folder / "debug")


@cache
def core(build: Build, mode: str, run: int = 0) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"{build}-{mode}-{run}-", dir=crashing.folder()))
    return crashing.crash(shipped(build).program, [mode], folder / "run")
