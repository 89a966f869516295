"""Cores of i386, aarch64 and riscv64 programs are told as those of x86-64 are."""

from __future__ import annotations

from pathlib import Path

import pytest

from diagnosis.crashes.core_file import CoreFile
from incidents.crash_report import CrashReport
from settings import GdbSettings
from tests.standins import crashing, foreign
from tests.standins.foreign import MACHINES, Build
from tools.gdb.analysis import analyze_core

WORD = {"i386": 4, "aarch64": 8, "riscv64": 8}
LEVEL_AT = {"i386": "0x20", "aarch64": "0x28", "riscv64": "0x28"}
"""Offset of `level` in misusing.c's `struct customer`."""

each_machine = pytest.mark.parametrize(
    "machine", [pytest.param(name, marks=pytest.mark.system if name == "riscv64" else ()) for name in MACHINES]
)


@pytest.fixture(autouse=True)
def _tools(request: pytest.FixtureRequest) -> None:
    if "machine" in request.fixturenames:
        foreign.require(request.getfixturevalue("machine"))


async def analysed(build: Build, mode: str, core: Path | None = None) -> CrashReport:
    analysis = await analyze_core(
        core or foreign.core(build, mode), executable=foreign.program(build), settings=GdbSettings()
    )
    return analysis.report


def names(report: CrashReport) -> list[str]:
    return [frame.function for frame in report.threads[0].frames if frame.function]


@each_machine
async def test_a_member_of_a_null_pointer_is_told_with_registers_and_callers(machine: str) -> None:
    report = await analysed(Build(machine, "misusing", "-O2"), "member")
    assert report.status == "OK"
    assert report.crash_info.type == "SIGSEGV / SEGV_MAPERR"
    assert report.crash_info.address == LEVEL_AT[machine]
    assert report.cause_class == "null_dereference"
    assert report.severity is not None
    assert report.severity.short_description == "SourceAvNearNull"
    assert "= 0x0" in report.severity.explanation  # the register that the address was computed from
    assert names(report) == ["level_of", "bill", "charge", "main"]
    assert [frame.trust for frame in report.threads[0].frames] == ["context", "cfi", "cfi", "cfi"]
    assert not any("unwinders differ" in error for error in report.soft_errors)
    assert report.root_cause is not None
    assert report.root_cause.cause_class == "near_null_member"


@each_machine
async def test_of_threads_the_one_that_crashed_is_told(machine: str) -> None:
    report = await analysed(Build(machine, "waiting", "-O0"), "")
    assert report.crash_info.address == hex(3 * WORD[machine])
    assert names(report)[:2] == ["deliver", "work"]
    assert len(report.threads) == 5
    assert (report.crash_line or "").endswith("waiting.c:21")


@each_machine
async def test_an_overrun_heap_block_is_found_by_its_chunks(machine: str) -> None:
    report = await analysed(Build(machine, "misusing", "-O2"), "heap")
    assert report.cause_class == "heap_corruption"
    assert report.root_cause is not None
    assert report.root_cause.cause_class == "heap_overflow"
    assert "a name that does not fit" in report.root_cause.mechanism
    assert "release" in names(report)


@each_machine
@pytest.mark.parametrize(
    ("mode", "cause", "root", "message"),
    [
        ("twice", "heap_corruption", "double_free", "free(): double free detected in tcache 2"),
        ("smash", "stack_smashing", "stack_buffer_overflow", "*** stack smashing detected ***: terminated"),
    ],
)
async def test_glibcs_words_are_found_in_a_stripped_static_program(
    machine: str, mode: str, cause: str, root: str, message: str
) -> None:
    report = await analysed(Build(machine, "misusing", "-O0", static=True, stripped=True), mode)
    assert report.crash_info.type == "SIGABRT / SI_TKILL"
    assert report.crash_info.abort_message == message
    assert report.cause_class == cause
    assert report.root_cause is not None
    assert report.root_cause.cause_class == root
    assert names(report) in ([], ["__kernel_vsyscall"])


@each_machine
async def test_exception_and_assertion_are_found_in_a_stripped_static_program(machine: str) -> None:
    build = Build(machine, "crashing", "-O2", static=True, stripped=True)
    report = await analysed(build, "exception")
    assert report.cause_class == "uncaught_exception"
    assert report.crash_info.exception is not None
    assert report.crash_info.exception.type == "DbError"
    assert report.crash_info.exception.what == "connection refused: 10.0.0.3:5432"
    report = await analysed(build, "assert")
    assert report.cause_class == "assertion"
    assert "quantity > 0" in (report.crash_info.assertion or "")


async def test_a_fault_behind_the_programs_own_handler_is_found_on_i386() -> None:
    foreign.require("i386")
    report = await analysed(Build("i386", "crashing", "-O0"), "handled_abort")
    assert report.crash_info.type == "SIGSEGV / SEGV_MAPERR"
    assert report.crash_info.address == "0xc"
    assert report.cause_class == "null_dereference"
    assert "Shop::Ledger<Order>::total" in names(report)


@each_machine
async def test_without_signal_information_the_instruction_tells(machine: str, tmp_path: Path) -> None:
    build = Build(machine, "misusing", "-O2")
    original = foreign.core(build, "member")
    with CoreFile(original) as core:
        assert core.signal is not None
        kind_at = core.signal.offset - 12  # in the note's header: length of the owner, of the data, type; owner
    bare = crashing.changed(original, tmp_path / "core", lambda data: data.__setitem__(kind_at, data[kind_at] ^ 0xFF))
    report = await analysed(build, "member", bare)
    assert report.crash_info.type == "SIGSEGV"
    assert report.crash_info.address is None
    assert report.cause_class == "null_dereference"


async def test_the_emulators_own_core_gets_an_honest_report() -> None:
    foreign.require("aarch64")
    build = Build("aarch64", "crashing", "-O2", static=True, stripped=True)
    core = foreign.emulators_own_core(build, "exception")
    report = await analysed(build, "exception", core)
    assert report.crash_info.exception is not None
    assert report.crash_info.exception.what == "connection refused: 10.0.0.3:5432"
    report = await analysed(build, "null", foreign.emulators_own_core(build, "null"))
    assert report.crash_info.type == "SIGSEGV"
    assert report.crash_info.address is None
    assert report.cause_class == "unknown"
    assert any("cannot be checked against the core" in error for error in report.soft_errors)
