"""The closed list of root causes of a native crash, each with its CWE numbers, the most specific first.

The numbers are MITRE's (cwe.mitre.org). What is no weakness of the program has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RootClass(StrEnum):
    NULL_DEREFERENCE = "null_dereference"
    NEAR_NULL_MEMBER = "near_null_member"
    NULL_FUNCTION_POINTER = "null_function_pointer"
    USE_AFTER_FREE = "use_after_free"
    DOUBLE_FREE = "double_free"
    INVALID_FREE = "invalid_free"
    HEAP_OVERFLOW = "heap_overflow"
    HEAP_CORRUPTION = "heap_corruption"
    STACK_BUFFER_OVERFLOW = "stack_buffer_overflow"
    PREVENTED_OVERFLOW = "prevented_buffer_overflow"
    OUT_OF_BOUNDS_READ = "out_of_bounds_read"
    UNBOUNDED_RECURSION = "unbounded_recursion"
    STACK_EXHAUSTION = "stack_exhaustion"
    WILD_POINTER = "wild_pointer"
    NON_CANONICAL_POINTER = "non_canonical_pointer"
    UNINITIALIZED = "uninitialized_pointer"
    WRITE_TO_READONLY = "write_to_readonly"
    EXECUTE_NON_EXECUTABLE = "execute_non_executable"
    MISALIGNED_ACCESS = "misaligned_access"
    ASSERTION = "assertion"
    UNCAUGHT_EXCEPTION = "uncaught_exception"
    DIVISION_BY_ZERO = "division_by_zero"
    ARITHMETIC_OVERFLOW = "arithmetic_overflow"
    UNREACHABLE_TRAP = "unreachable_trap"
    ILLEGAL_INSTRUCTION = "illegal_instruction"
    BUS_TRUNCATED_MAPPING = "bus_truncated_mapping"
    HARDWARE_MEMORY = "hardware_memory_error"
    POSSIBLE_BIT_FLIP = "possible_bit_flip"
    PANIC = "panic"
    ABORT = "abort"
    EXTERNAL = "external_signal"
    UNKNOWN = "unknown"


_R = RootClass
CWE: dict[RootClass, tuple[int, ...]] = {
    _R.NULL_DEREFERENCE: (476,),
    _R.NEAR_NULL_MEMBER: (476,),
    _R.NULL_FUNCTION_POINTER: (476,),
    _R.USE_AFTER_FREE: (416, 825),
    _R.DOUBLE_FREE: (415,),
    _R.INVALID_FREE: (763, 590),
    _R.HEAP_OVERFLOW: (122, 787),
    _R.HEAP_CORRUPTION: (787, 119),
    _R.STACK_BUFFER_OVERFLOW: (121, 787),
    _R.PREVENTED_OVERFLOW: (120, 787),
    _R.OUT_OF_BOUNDS_READ: (125,),
    _R.UNBOUNDED_RECURSION: (674,),
    _R.STACK_EXHAUSTION: (789, 770),
    _R.WILD_POINTER: (822, 824),
    _R.NON_CANONICAL_POINTER: (822, 824),
    _R.UNINITIALIZED: (824, 457),
    _R.WRITE_TO_READONLY: (758,),
    _R.EXECUTE_NON_EXECUTABLE: (822,),
    _R.ASSERTION: (617,),
    _R.UNCAUGHT_EXCEPTION: (248,),
    _R.PANIC: (248,),
    _R.DIVISION_BY_ZERO: (369,),
    _R.ARITHMETIC_OVERFLOW: (190,),
}
"""By class; the others have none."""


@dataclass(frozen=True)
class Proof:
    """What a reader can look up again: bytes of the core by address and file offset, or a frame."""

    source: str
    text: str


@dataclass(frozen=True)
class Conclusion:
    """A root cause before its proofs are entered as evidence. `origin_frame` counts as the frames of the report do."""

    kind: RootClass
    confidence: float
    mechanism: str
    object: str | None = None
    origin_frame: int | None = None
    proofs: tuple[Proof, ...] = ()

    @property
    def cwe(self) -> list[str]:
        return [f"CWE-{number}" for number in CWE.get(self.kind, ())]
