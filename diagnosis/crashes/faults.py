"""What kind of memory fault an address is: near null, below a stack, not canonical, refused, or wild."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from diagnosis.crashes.code import MachineInstruction, instruction_at
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import Segment
from diagnosis.crashes.notes import AT_RANDOM
from diagnosis.crashes.operands import Operand, is_canonical, operands
from diagnosis.crashes.signals import SI_KERNEL

NEAR_NULL = 64 * 1024
"""Addresses below this are a null pointer plus a member's offset (CASR; the default vm.mmap_min_addr)."""

_GUARD = 1 << 20
"""The kernel keeps 256 pages free below a growing stack (stack_guard_gap); a thread's guard is one page or more."""

_RED_ZONE = 64 * 1024
"""How far below the stack pointer a function may touch memory before it moves it (probes, red zone, alloca)."""

_LARGEST_FRAME = 1 << 30
"""A stack pointer farther below its stack was overwritten, not lowered."""

_ALIGNED = re.compile(r"vmov(?:ap|dqa|nt)|(?!v|movup|movdqu|lddqu|pcmp[ei]str)")
"""x86 instructions whose operands of 16 bytes and more must be aligned: all of SSE but a few, few of AVX.

Intel SDM, volume 1, 4.1.1 and 14.9.
"""


class FaultKind(StrEnum):
    NEAR_NULL = "near_null"
    STACK_OVERFLOW = "stack_overflow"
    NON_CANONICAL = "non_canonical"
    MISALIGNED = "misaligned"
    PROTECTION = "protection"
    """A general protection fault of which the registers do not tell the address."""
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
    stack_start: int | None = None
    """Lower end of the stack that ran out."""
    stack_end: int | None = None
    """Its upper end."""

    @property
    def below_the_stack(self) -> str:
        """How the address lies to the stack that ran out."""
        start, end = self.stack_start or 0, hex(self.stack_end or 0)
        if self.address is None or start - self.address <= _GUARD:
            return f"just below the stack that ends at {end}"
        return f"{(start - self.address) // 1024} KiB below the stack that ends at {end}"


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
        if (stack := _exhausted_stack(core, address)) is not None:
            return Fault(FaultKind.STACK_OVERFLOW, address, operand, stack_start=stack.vaddr, stack_end=stack.end)
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
            return _protection(core, instruction, candidates)
    address = signal.address
    operand = next((o for o in candidates if o.address <= address < o.address + (o.size or 64)), None)
    at_pc = thread.pc == address
    if (stack := _exhausted_stack(core, address)) is not None:
        return Fault(FaultKind.STACK_OVERFLOW, address, operand, stack_start=stack.vaddr, stack_end=stack.end)
    if address < NEAR_NULL:
        return Fault(FaultKind.NEAR_NULL, address, operand, at_pc)
    mapped = core.memory.segment(address) is not None or core.mapped_at(address) is not None
    kind = FaultKind.REFUSED if mapped else FaultKind.UNMAPPED
    return Fault(kind, address, operand, at_pc)


def _target(core: CoreFile, instruction: MachineInstruction) -> int | None:
    """Where an indirect call or jump was about to go, when no program can be there."""
    if not instruction.indirect:
        return None
    through = [core.crashed.registers[name] for name in instruction.through if name in core.crashed.registers]
    if named := [each for each in instruction.memory if not each.implicit]:
        touched = operands(instruction, core.crashed.registers, core.header.machine)
        through = [word for each in touched[: len(named)] if (word := core.memory.pointer(each.address)) is not None]
    return next((value for value in through if not is_canonical(value, core.header.machine)), None)


def _protection(core: CoreFile, instruction: MachineInstruction | None, candidates: Sequence[Operand]) -> Fault:
    """A general protection fault with no address that could not be one: a bad target, or bad alignment."""
    if instruction is not None and (target := _target(core, instruction)) is not None:
        return Fault(FaultKind.NON_CANONICAL, target, at_pc=True)
    if instruction is not None and (crooked := _misaligned(instruction, candidates)) is not None:
        return Fault(FaultKind.MISALIGNED, crooked.address, crooked)
    return Fault(FaultKind.PROTECTION, None)


def _misaligned(instruction: MachineInstruction, candidates: Sequence[Operand]) -> Operand | None:
    """The operand of a vector instruction that needs an address which is a multiple of its size."""
    if not _ALIGNED.match(instruction.mnemonic):
        return None
    return next((each for each in candidates if (each.size or 0) >= 16 and each.address % (each.size or 1)), None)


def _exhausted_stack(core: CoreFile, address: int) -> Segment | None:
    """The stack below which `address` lies, or None when this is no stack overflow.

    The address must be near the stack pointer, in no usable mapping, and just below the mapping that holds the stack;
    or the stack pointer itself has left the thread's stack, as a frame larger than what is left makes it do.
    """
    sp = core.crashed.sp
    if sp is None or address < sp - _RED_ZONE:
        return None
    here = core.memory.segment(address)
    if here is not None and here.flags:  # a guard page is mapped without any permission
        return None
    above = core.memory.next_segment(address)
    while above is not None and not above.flags and above.vaddr - address < _GUARD:
        above = core.memory.next_segment(above.vaddr)
    if address < sp + _GUARD and above is not None and above.writable and above.vaddr - address <= _GUARD:
        return above if sp < above.end else None
    return _left_stack(core, sp, address)


def _left_stack(core: CoreFile, sp: int, address: int) -> Segment | None:
    """The thread's own stack when the stack pointer is below it, where nothing can be used."""
    here = core.memory.segment(sp)
    if (here is not None and here.flags) or core.mapped_at(sp) is not None:
        return None
    stack = own_stack(core)
    if stack is None or address >= stack.vaddr or not sp < stack.vaddr <= sp + _LARGEST_FRAME:
        return None
    return stack


def own_stack(core: CoreFile) -> Segment | None:
    """The mapping that is the crashed thread's stack by what the kernel and libc put there, wherever sp points.

    The first thread's holds the random bytes that the kernel gave the program (AT_RANDOM); another one's has the
    thread's descriptor at its upper end (glibc and musl on x86-64).
    """
    thread = core.crashed
    if core.process is not None and thread.tid == core.process.pid:
        at = core.auxv.get(AT_RANDOM)
    else:
        at = thread.registers.get("fs_base")
    found = core.memory.segment(at) if at else None
    return found if found is not None and found.writable else None
