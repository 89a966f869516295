"""Where a value that was read through a bad pointer would have gone: CASR's look at the crash's successors.

If the bad read had given the value that an attacker wants, does it decide the target of a call, jump or return, or
the address of a write? The 64 bytes after the crash are followed in a straight line, up to the first transfer of
control that the value does not decide (libcasr, gdb/exploitable.rs).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from diagnosis.crashes.code import MachineInstruction

_FLAGS = frozenset({"rflags", "eflags", "nzcv", "rip", "eip", "pc"})
_STACK = frozenset({"rsp", "esp", "sp", "x30", "ra"})
_CLEARING = ("xor", "sub", "pxor", "vpxor", "eor")


class Reached(NamedTuple):
    """The class that the tainted value leads to, the instruction where, and the register that carried it."""

    name: str
    instruction: MachineInstruction
    register: str


def reached(crash: MachineInstruction, after: Iterable[MachineInstruction]) -> Reached | None:
    """What becomes of the registers that `crash` loaded, in the instructions `after` it; None for nothing bad."""
    tainted = set(crash.writes - _FLAGS - _STACK)
    for instruction in after:
        if not tainted:
            return None
        for reference in instruction.memory:
            used = tainted & {reference.base, reference.index}
            if used and reference.access != "read":
                return Reached("DestAvTainted", instruction, min(filter(None, used)))
        if instruction.flow is not None:
            decisive = instruction.through if instruction.flow != "return" else instruction.reads | _STACK
            if used := tainted & decisive:
                name = {"call": "CallAvTainted", "jump": "BranchAvTainted", "return": "ReturnAv"}[instruction.flow]
                return Reached(name, instruction, min(used))
            return None
        if instruction.reads & tainted and not _clears(instruction):
            tainted |= instruction.writes - _FLAGS
        else:
            tainted -= instruction.writes
    return None


def _clears(instruction: MachineInstruction) -> bool:
    """`xor eax, eax`: the result does not depend on what was there."""
    operands = instruction.text.partition(" ")[2].split(", ")
    return instruction.mnemonic in _CLEARING and len(operands) > 1 and len(set(operands[-2:])) == 1
