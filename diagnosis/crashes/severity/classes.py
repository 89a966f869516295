"""CASR's classes of severity that a core can show, and ours for what it leaves out.

Names and ratings are CASR's (ispras/casr, libcasr/src/execution_class.rs); the texts are our own. Classes that only a
sanitizer's report can show are not here. `ExternalSignal`, `BenignSignal` and `UncategorizedSignal` are additions
(the last two by the names of exploitable, lib/rules.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Rating = Literal["EXPLOITABLE", "PROBABLY_EXPLOITABLE", "NOT_EXPLOITABLE", "UNDEFINED"]


@dataclass(frozen=True)
class SeverityClass:
    name: str
    rating: Rating
    description: str


_EXPLOITABLE = {
    "SegFaultOnPc": "Control went to an address that cannot be executed: the program counter held a bad value",
    "ReturnAv": "A return went wrong: the return address or the stack pointer was overwritten",
    "BranchAv": "A jump through a bad pointer",
    "CallAv": "A call through a bad pointer",
    "DestAv": "A write through a bad pointer: who controls it chooses what is overwritten",
    "BranchAvTainted": "A value read through a bad pointer decides where a jump goes",
    "CallAvTainted": "A value read through a bad pointer decides which function is called",
    "DestAvTainted": "A value read through a bad pointer becomes an address that is written to",
}
_PROBABLY = {
    "BadInstruction": "The processor or the kernel refused an instruction or a system call",
    "SegFaultOnPcNearNull": "Control went to an address near zero: a null function pointer",
    "BranchAvNearNull": "A jump through a pointer near zero",
    "CallAvNearNull": "A call through a pointer near zero",
    "DestAvNearNull": "A write near address zero",
    "StackGuard": "The stack protector found that a local buffer was overrun",
    "HeapError": "The allocator found its structures damaged",
}
_NOT = {
    "AbortSignal": "The program stopped itself",
    "TrapSignal": "The program ran into a trap instruction",
    "AccessViolation": "A memory access that no rule describes more closely",
    "SourceAv": "A read through a bad pointer whose value goes nowhere dangerous in the next instructions",
    "SourceAvNearNull": "A read near address zero",
    "SafeFunctionCheck": "A checked libc function refused to overrun its buffer",
    "FPE": "An arithmetic error",
    "StackOverflow": "The stack ran out",
    "ExternalSignal": "Another process sent the signal: nothing in the program is known to be wrong",
    "BenignSignal": "A signal that tells of a limit or a request, not of a fault",
}

_BY_RATING: dict[Rating, dict[str, str]] = {
    "EXPLOITABLE": _EXPLOITABLE,
    "PROBABLY_EXPLOITABLE": _PROBABLY,
    "NOT_EXPLOITABLE": _NOT,
    "UNDEFINED": {"UncategorizedSignal": "The reason of the signal is not in the core"},
}
CLASSES = {
    name: SeverityClass(name, rating, description)
    for rating, names in _BY_RATING.items()
    for name, description in names.items()
}
"""By name."""
