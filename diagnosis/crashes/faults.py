"""What kind of memory fault an address is: near null, below a stack, not canonical, refused, or wild."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from diagnosis.crashes.code import instruction_at
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.operands import Operand, is_canonical, operands
from diagnosis.crashes.signals import SI_KERNEL

NEAR_NULL = 64 * 1024
"""Addresses below this are a null pointer plus a member's offset (CASR; the default vm.mmap_min_addr)."""

_GUARD = 1 << 20
"""The kernel keeps 256 pages free below a growing stack (stack_guard_gap); a thread's guard is one page or more."""

_RED_ZONE = 64 * 1024
"""How far below the stack pointer a function may touch memory before it moves it (probes, red zone, alloca)."""


class FaultKind(StrEnum):
    NEAR_NULL = "near_null"
    STACK_OVERFLOW = "stack_overflow"
    NON_CANONICAL = "non_canonical"
    REFUSED = "refused"
    UNMAPPED = "unmapped"


@dataclass(frozen=True)
class Fault:
    """`address` is the kernel's si_addr, or computed from `operand` where the kernel has none."""

    kind: FaultKind
    address: int | None
    operand: Operand | None = None
    at_pc: bool = False
    """The address is the program counter: control went there."""
    stack_end: int | None = None
    """Upper end of the stack that ran out."""


def implied_fault(core: CoreFile) -> Fault | None:
    """The fault that the instruction at the program counter must raise; None when it could be executed.

    For programs whose handler caught the fault and sent the signal again: it is delivered when the handler returns
    to the same instruction, without the address.
    """
    machine, thread = core.header.machine, core.crashed
    for operand in operands(instruction_at(core, thread.pc), thread.registers, machine):
        address = operand.address
        if not is_canonical(address, machine):
            return Fault(FaultKind.NON_CANONICAL, address, operand)
        if (end := _exhausted_stack(core, address)) is not None:
            return Fault(FaultKind.STACK_OVERFLOW, address, operand, stack_end=end)
        if address < NEAR_NULL:
            return Fault(FaultKind.NEAR_NULL, address, operand)
        segment = core.memory.segment(address)
        if segment is None and core.mapped_at(address) is None:
            return Fault(FaultKind.UNMAPPED, address, operand)
        if segment is not None and operand.writes and not segment.writable:
            return Fault(FaultKind.REFUSED, address, operand)
    return None


def memory_fault(core: CoreFile) -> Fault | None:
    """Classify the fault of a SIGSEGV that the kernel raised. None when the core has no signal information."""
    signal, thread = core.signal, core.crashed
    if signal is None:
        return None
    machine = core.header.machine
    instruction = instruction_at(core, thread.pc)
    candidates = operands(instruction, thread.registers, machine)
    no_address = signal.code == SI_KERNEL or (machine == "x86_64" and signal.address == 0 and thread.pc != 0)
    if no_address:
        wild = next((o for o in candidates if not is_canonical(o.address, machine)), None)
        if wild is not None:
            return Fault(FaultKind.NON_CANONICAL, wild.address, wild)
        if thread.pc is not None and not is_canonical(thread.pc, machine):
            return Fault(FaultKind.NON_CANONICAL, thread.pc, at_pc=True)
        if instruction is not None and instruction.flow == "return" and thread.sp is not None:
            target = core.memory.pointer(thread.sp)
            if target is not None and not is_canonical(target, machine):
                return Fault(FaultKind.NON_CANONICAL, target, at_pc=True)
        if signal.code == SI_KERNEL:
            return Fault(FaultKind.NON_CANONICAL, None)
    address = signal.address
    operand = next((o for o in candidates if o.address <= address < o.address + (o.size or 64)), None)
    at_pc = thread.pc == address
    if (end := _exhausted_stack(core, address)) is not None:
        return Fault(FaultKind.STACK_OVERFLOW, address, operand, stack_end=end)
    if address < NEAR_NULL:
        return Fault(FaultKind.NEAR_NULL, address, operand, at_pc)
    mapped = core.memory.segment(address) is not None or core.mapped_at(address) is not None
    kind = FaultKind.REFUSED if mapped else FaultKind.UNMAPPED
    return Fault(kind, address, operand, at_pc)


def _exhausted_stack(core: CoreFile, address: int) -> int | None:
    """End of the stack below which `address` lies, or None when this is no stack overflow.

    The address must be near the stack pointer, in no usable mapping, and just below the mapping that holds the stack.
    """
    sp = core.crashed.sp
    if sp is None or not sp - _RED_ZONE <= address < sp + _GUARD:
        return None
    here = core.memory.segment(address)
    if here is not None and here.flags:  # a guard page is mapped without any permission
        return None
    above = core.memory.next_segment(address)
    while above is not None and not above.flags and above.vaddr - address < _GUARD:
        above = core.memory.next_segment(above.vaddr)
    if above is None or not above.writable or above.vaddr - address > _GUARD:
        return None
    return above.end if sp < above.end else None
