"""What the crashing instruction touched, what address was meant, and what in the core does not fit together."""

from __future__ import annotations

import signal

from diagnosis.crashes.code import instruction_at
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.faults import NEAR_NULL, Fault, FaultKind
from diagnosis.crashes.operands import is_canonical, operands
from diagnosis.crashes.signals import SI_KERNEL
from incidents.crash_report import AdjustedAddress, MemoryAccess


def memory_accesses(core: CoreFile, fault: Fault | None) -> list[MemoryAccess]:
    """Every memory operand of the crashing instruction whose registers are known; none where control went to data."""
    if fault is not None and fault.at_pc:
        return []
    instruction = instruction_at(core, core.crashed.pc)
    found = operands(instruction, core.crashed.registers, core.header.machine)
    return [
        MemoryAccess(
            address=hex(operand.address),
            size=operand.size,
            access_type=operand.access,
            operand=operand.text,
            is_likely_guard_page=is_guard_page(core, operand.address),
        )
        for operand in found
    ]


def is_guard_page(core: CoreFile, address: int) -> bool:
    """Mapped without any permission: stacks of threads and guarded allocators end in such pages."""
    segment = core.memory.segment(address)
    return segment is not None and not segment.flags


def adjusted_address(fault: Fault | None) -> AdjustedAddress | None:
    """The address that was meant, where the kernel reports another one or an offset alone."""
    if fault is None or fault.address is None:
        return None
    if fault.kind is FaultKind.NON_CANONICAL:
        return AdjustedAddress(kind="non_canonical", address=hex(fault.address))
    if fault.kind is FaultKind.NEAR_NULL and fault.address:
        return AdjustedAddress(kind="null_pointer_with_offset", address="0x0", offset=hex(fault.address))
    return None


def inconsistencies(core: CoreFile, fault: Fault | None) -> list[str]:
    """What the core says that cannot all be true: a changed core, a handler in between, or faulty hardware."""
    info, thread = core.signal, core.crashed
    found = []
    instruction = instruction_at(core, thread.pc)
    if info is not None and thread.signal not in (0, info.signo) and not core.reraised:
        found.append(f"the signal of the thread ({thread.signal}) is not that of the process ({info.signo})")
    if info is None or info.code <= 0 or fault is None or fault.address is None or fault.at_pc:
        return found
    touched = operands(instruction, thread.registers, core.header.machine)
    if core.signo in (signal.SIGSEGV, signal.SIGBUS) and instruction is not None:
        unknown = len(touched) < len(instruction.memory)
        if fault.operand is None and not unknown and info.code != SI_KERNEL and thread.pc != fault.address:
            found.append(f"no operand of `{instruction.text}` has the address {hex(fault.address)} that was reported")
    segment = core.memory.segment(fault.address)
    if info.signo == signal.SIGSEGV and info.code == 1 and segment is not None and segment.flags:
        found.append(f"nothing is mapped at {hex(fault.address)} by the signal, but the core has a mapping there")
    operand, refused = fault.operand, info.signo == signal.SIGSEGV and info.code == 2
    readable = segment is not None and segment.flags & 4
    if refused and readable and operand is not None and segment and (segment.writable or not operand.writes):
        found.append(f"access to {hex(fault.address)} was refused, but the core's mapping allows it")
    if info.code != SI_KERNEL and not is_canonical(info.address, core.header.machine):
        found.append(f"the reported address {hex(info.address)} is not canonical")
    if fault.address < NEAR_NULL and segment is not None and segment.flags:
        found.append("memory near address zero is mapped")
    return found
