"""CASR's classes on real crashes, each decided by one or two instructions, with a sentence that points at them."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path

import pytest

from settings import GdbSettings
from tests.standins import crashing
from tools.gdb.analysis import analyze_core

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
    target = crashing.folder() / "rated"
    command = ["gcc", "-std=gnu11", "-g", "-w", "-O1", "-fno-builtin", "-o", str(target), str(SOURCE)]
    subprocess.run(command, check=True, timeout=60)
    return target


@pytest.mark.parametrize("mode", ROWS)
async def test_the_class_and_what_it_points_at(mode: str) -> None:
    name, rating, pointed = ROWS[mode]
    core = crashing.crash(program(), [mode], crashing.folder() / f"rated-{mode}")
    report = (await analyze_core(core, executable=program(), settings=GdbSettings())).report
    assert report.severity is not None
    assert (report.severity.short_description, report.severity.type) == (name, rating), report.severity.explanation
    if mode == "system_call":
        assert "the kernel refused system call" in (report.mechanism or "")
        assert "outside" not in f"{report.mechanism} {report.signature}"
    assert pointed in report.severity.explanation
