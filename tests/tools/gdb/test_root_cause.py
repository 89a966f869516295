"""What is proved of a crash beyond its signal: the object, the offset, the state of the heap. Real crashes in C."""

from __future__ import annotations

import pytest

from tests.standins import analysed, crashing, misusing
from tools.gdb.analysis import CrashAnalysis

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


async def analysis(mode: str, level: str = "-O0") -> CrashAnalysis:
    return await analysed.examined(misusing.core(mode, level), misusing.program(level))


ROWS = [(*row, level) for row in CAUSES for level in ("-O0", "-O2") if level == "-O0" or row[0] in OPTIMISED]


@pytest.mark.parametrize(
    ("mode", "cause", "cwe", "severity", "words", "level"), ROWS, ids=[row[0] + row[-1] for row in ROWS]
)
async def test_the_cause_is_told_with_its_object(
    mode: str, cause: str, cwe: str | None, severity: str, words: str, level: str
) -> None:
    found = (await analysis(mode, level)).report
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
    found = await analysis("heap")
    known = {item.id for item in found.diagnosis.evidence}
    assert found.report.root_cause is not None
    assert set(found.report.root_cause.evidence_ids) <= known
    texts = "\n".join(item.source for item in found.diagnosis.evidence)
    assert "core memory at 0x" in texts


async def test_a_pointer_that_was_only_at_hand_is_not_blamed() -> None:
    """Optimised away, the freed pointer's name is gone; another pointer of a caller must not take its place."""
    found = (await analysis("not_heap", "-O2")).report
    assert found.root_cause is not None
    assert found.root_cause.object in (None, "name")


async def test_a_checked_function_that_refused_is_told_without_symbols() -> None:
    program = misusing.fortified()
    core = crashing.crash(program, ["smash"], crashing.folder() / "fortified-smash")
    found = (await analysed.confined(core, program)).report
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
    steps = (await analysis(mode)).diagnosis.next_steps
    assert any(advice in step for step in steps)
    assert len(steps) == len(set(steps))
