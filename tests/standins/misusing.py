"""Cores of a C program that misuses memory (misusing.c), at each level of optimisation."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from tests.standins import crashing

SOURCE = Path(__file__).with_suffix(".c")


@cache
def program(level: str) -> Path:
    """Compiled with `-O0` or `-O2`."""
    flags = ["-std=gnu11", "-g", "-w", "-fstack-protector-strong", "-fno-builtin", "-D_FORTIFY_SOURCE=0", level]
    return crashing.compiled(f"misusing{level}", "gcc", *flags, str(SOURCE))


@cache
def fortified() -> Path:
    """Compiled so that libc checks what it copies, and stripped."""
    flags = ["-std=gnu11", "-w", "-O2", "-s", "-D_FORTIFY_SOURCE=2"]
    return crashing.compiled("fortified", "gcc", *flags, str(SOURCE))


@cache
def core(mode: str, level: str) -> Path:
    """Do not change the file: it is shared."""
    folder = Path(tempfile.mkdtemp(prefix=f"{mode}{level}-", dir=crashing.folder()))
    return crashing.crash(program(level), [mode], folder / "run")
