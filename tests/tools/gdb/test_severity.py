"""CASR's classes on real crashes, each decided by one or two instructions, with a sentence that points at them."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Literal

import pytest

from tests.standins import analysed, crashing

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the program is written for x86-64")
SOURCE = Path(crashing.__file__).with_name("rated.c")
WILD = "0x123456789000"
ROWS = {
    "read": ("SourceAv", "NOT_EXPLOITABLE", WILD),
    "read_null": ("SourceAvNearNull", "NOT_EXPLOITABLE", "0x10"),
    "read_then_call": ("CallAvTainted", "EXPLOITABLE", "rcx"),
    "read_then_jump": ("BranchAvTainted", "EXPLOITABLE", "rax"),
    "read_then_write": ("DestAvTainted", "EXPLOITABLE", "rax"),
    "write": ("DestAv", "EXPLOITABLE", WILD),
    "write_null": ("DestAvNearNull", "PROBABLY_EXPLOITABLE", "0x8"),
    "call": ("CallAv", "EXPLOITABLE", WILD),
    "call_null": ("CallAvNearNull", "PROBABLY_EXPLOITABLE", "0x8"),
    "jump": ("BranchAv", "EXPLOITABLE", WILD),
    "jump_null": ("BranchAvNearNull", "PROBABLY_EXPLOITABLE", "0x8"),
    "return": ("ReturnAv", "EXPLOITABLE", "ret"),
    "stack_pointer": ("ReturnAv", "EXPLOITABLE", "ret"),
    "to_address": ("SegFaultOnPc", "EXPLOITABLE", WILD),
    "to_null": ("SegFaultOnPcNearNull", "PROBABLY_EXPLOITABLE", "0x0"),
    "copy": ("DestAv", "EXPLOITABLE", WILD),
    "trap": ("TrapSignal", "NOT_EXPLOITABLE", "int3"),
    "privileged": ("BadInstruction", "PROBABLY_EXPLOITABLE", "hlt"),
    "invalid": ("BadInstruction", "PROBABLY_EXPLOITABLE", "ud2"),
    "limit": ("BenignSignal", "NOT_EXPLOITABLE", "SIGXFSZ: the file size limit"),
    "system_call": ("BadInstruction", "PROBABLY_EXPLOITABLE", "refused the system call"),
    "raised": ("UncategorizedSignal", "UNDEFINED", "SIGSYS"),
}


@cache
def program() -> Path:
    crashing.require_tools()
    return crashing.compiled("rated", "gcc", "-std=gnu11", "-g", "-w", "-O1", "-fno-builtin", str(SOURCE))


@cache
def core(mode: str) -> Path:
    return crashing.crash(program(), [mode], crashing.folder() / f"rated-{mode}")


WITH_GDB = ("read_then_call", "to_null", "system_call")
"""By the debugger's instructions, its stack, and neither; the others so with `make generated`."""
CASES = [(mode, "notes") for mode in ROWS] + [
    pytest.param(mode, "full", marks=[] if mode in WITH_GDB else [pytest.mark.generated]) for mode in ROWS
]


@pytest.mark.parametrize(("mode", "effort"), CASES)
async def test_the_class_and_what_it_points_at(mode: str, effort: Literal["full", "notes"]) -> None:
    name, rating, pointed = ROWS[mode]
    report = (await analysed.examined(core(mode), program(), effort=effort)).report
    assert report.severity is not None
    assert (report.severity.short_description, report.severity.type) == (name, rating), report.severity.explanation
    if mode == "system_call":
        assert "the kernel refused system call" in (report.mechanism or "")
        assert "outside" not in f"{report.mechanism} {report.signature}"
    assert pointed in report.severity.explanation
