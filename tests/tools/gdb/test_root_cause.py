"""What is proved of a crash beyond its signal: the object, the offset, the state of the heap. Real crashes in C."""

from __future__ import annotations

import pytest

from incidents.crash_report import CrashReport
from settings import GdbSettings
from tests.standins import crashing, misusing
from tools.gdb.analysis import analyze_core

# mode, class, first CWE, CASR's class, what the mechanism must say
CAUSES = [
    ("fine", "abort", None, "AbortSignal", "the program called abort"),
    ("member", "near_null_member", "CWE-476", "SourceAvNearNull", "`order->customer->level` at offset 0x28 of struct"),
    ("null_order", "near_null_member", "CWE-476", "SourceAvNearNull", "handed in by main"),
    ("freed", "use_after_free", "CWE-416", "SourceAv", "which is freed"),
    ("poison", "use_after_free", "CWE-416", "SourceAv", "0x5a repeated"),
    ("text", "non_canonical_pointer", "CWE-822", "SourceAv", 'its bytes spell "customer"'),
    ("flip", "possible_bit_flip", None, "SourceAv", "is bit 45 away from"),
    ("heap", "heap_overflow", "CWE-122", "HeapError", "with room for 24 bytes was overrun"),
    ("twice", "double_free", "CWE-415", "HeapError", "was freed before and was freed again"),
    ("large_twice", "double_free", "CWE-415", "HeapError", "its chunk is in the lists of freed ones"),
    ("not_start", "invalid_free", "CWE-763", "HeapError", "malloc never returned"),
    ("not_heap", "invalid_free", "CWE-763", "HeapError", "but it is on the stack"),
    ("smash", "stack_buffer_overflow", "CWE-121", "StackGuard", "`label` of 8 bytes in smash"),
    ("literal", "write_to_readonly", "CWE-758", "DestAv", 'the string "constant text"'),
    ("zero", "division_by_zero", "CWE-369", "FPE", "`parts` is 0"),
    ("quotient", "arithmetic_overflow", "CWE-190", "FPE", "divides by -1: the quotient does not fit"),
    ("callback", "null_function_pointer", "CWE-476", "SegFaultOnPcNearNull", "call_back called"),
    ("data", "execute_non_executable", "CWE-822", "SegFaultOnPc", "is not executable"),
    ("variable", "execute_non_executable", "CWE-822", "SegFaultOnPc", "is not executable"),
    ("past", "heap_overflow", "CWE-122", "DestAv", "past the end of the memory"),
    ("past_read", "out_of_bounds_read", "CWE-125", "SourceAv", "past the end of the memory"),
    ("number", "wild_pointer", "CWE-822", "DestAv", "it looks like a number"),
    ("large_frame", "stack_exhaustion", "CWE-789", "StackOverflow", "spread needs more stack than there is"),
    ("misaligned", "misaligned_access", None, "SourceAv", "4 bytes past a multiple of 16"),
    ("reserved", "wild_pointer", "CWE-822", "SourceAv", "what is mapped there does not allow it"),
    ("two_nulls", "near_null_member", "CWE-476", "SourceAvNearNull", "of what a pointer points to, which is null"),
    ("small", "near_null_member", "CWE-476", "SourceAvNearNull", "= 0x11, which is no address"),
]
OPTIMISED = {"large_frame", "member", "freed", "heap", "twice", "smash", "zero", "callback"}


@pytest.fixture(autouse=True)
def _tools() -> None:
    crashing.require_tools()


async def report(mode: str, level: str) -> CrashReport:
    found = await analyze_core(misusing.core(mode, level), executable=misusing.program(level), settings=GdbSettings())
    return found.report


ROWS = [(*row, level) for row in CAUSES for level in ("-O0", "-O2") if level == "-O0" or row[0] in OPTIMISED]


@pytest.mark.parametrize(
    ("mode", "cause", "cwe", "severity", "words", "level"), ROWS, ids=[row[0] + row[-1] for row in ROWS]
)
async def test_the_cause_is_told_with_its_object(
    mode: str, cause: str, cwe: str | None, severity: str, words: str, level: str
) -> None:
    found = await report(mode, level)
    assert found.root_cause is not None
    assert found.root_cause.cause_class == cause
    assert (found.root_cause.cwe or [None])[0] == cwe
    assert words in found.root_cause.mechanism
    assert found.root_cause.evidence_ids
    assert found.severity is not None
    assert found.severity.short_description == severity
    assert found.crash_info.crash_inconsistencies == []
    assert all(frame.function != "kept" for frame in found.threads[0].frames), "a variable is no function"


async def test_every_claim_cites_evidence_that_is_there() -> None:
    analysis = await analyze_core(
        misusing.core("heap", "-O0"), executable=misusing.program("-O0"), settings=GdbSettings()
    )
    known = {item.id for item in analysis.diagnosis.evidence}
    assert analysis.report.root_cause is not None
    assert set(analysis.report.root_cause.evidence_ids) <= known
    texts = "\n".join(item.source for item in analysis.diagnosis.evidence)
    assert "core memory at 0x" in texts


async def test_a_pointer_that_was_only_at_hand_is_not_blamed() -> None:
    """Optimised away, the freed pointer's name is gone; another pointer of a caller must not take its place."""
    found = await report("not_heap", "-O2")
    assert found.root_cause is not None
    assert found.root_cause.object in (None, "name")


async def test_a_checked_function_that_refused_is_told_without_symbols() -> None:
    program = misusing.fortified()
    core = crashing.crash(program, ["smash"], crashing.folder() / "fortified-smash")
    found = (await analyze_core(core, executable=program, settings=GdbSettings())).report
    assert found.runtime is not None
    assert found.runtime.glibc is not None
    assert found.runtime.glibc.fortify == "*** buffer overflow detected ***: terminated"
    assert not found.runtime.glibc.stack_smashing
    assert found.severity is not None
    assert found.severity.short_description == "SafeFunctionCheck"
    assert found.root_cause is not None
    assert found.root_cause.cause_class == "prevented_buffer_overflow"
    assert found.root_cause.cwe[0] == "CWE-120"


@pytest.mark.parametrize(
    ("mode", "advice"), [("freed", "find who freed it"), ("heap", "check the length"), ("callback", "function pointer")]
)
async def test_the_root_cause_says_what_to_do_next(mode: str, advice: str) -> None:
    analysis = await analyze_core(
        misusing.core(mode, "-O0"), executable=misusing.program("-O0"), settings=GdbSettings()
    )
    assert any(advice in step for step in analysis.diagnosis.next_steps)
    assert len(analysis.diagnosis.next_steps) == len(set(analysis.diagnosis.next_steps))
