"""The fault behind a signal that a program's own crash handler raised again.

Many programs catch SIGSEGV, write a report of their own and then end themselves with raise or abort. The core's notes
then tell of that last signal. What the kernel first reported is still on the stack, in the frame that it made for the
handler: `struct rt_sigframe` (arch/x86/include/asm/sigframe.h), x86-64 only here.
"""

from __future__ import annotations

import signal
import struct
from dataclasses import replace

from diagnosis.crashes.code import instruction_at
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.notes import SignalInfo
from diagnosis.crashes.operands import is_canonical, operands
from diagnosis.crashes.signals import FAULTS, SI_KERNEL, code_name, was_sent

_SOURCE = "signal frame on the stack"
_REGISTERS_AT = 40  # in struct ucontext: flags, link, stack, then struct sigcontext_64
_NAMES = "r8 r9 r10 r11 r12 r13 r14 r15 rdi rsi rbp rbx rdx rax rcx rsp rip eflags"
_REGISTERS = tuple(_NAMES.split())
_TRAP_AT = 192  # error code, trap number, old mask, cr2
_SIGINFO_AT = 304  # sizeof(struct ucontext); filled only for handlers with SA_SIGINFO
_DIVIDE, _INVALID_OPCODE, _PROTECTION, _PAGE_FAULT = 0, 6, 13, 14  # Intel SDM, volume 3, 6.3.1


def was_raised_by_itself(core: CoreFile) -> bool:
    """The signal in the notes was sent by the crashed process."""
    info, process = core.signal, core.process
    return info is not None and process is not None and was_sent(info.code) and info.pid == process.pid


def restore_fault(core: CoreFile, context: int, pc: int, instruction: str | None) -> bool:
    """Put the first fault in place of the last signal, in `core`; False when it is not there, or cannot be proved.

    `context` is the stack pointer in the handler's frame, `pc` the address at which the debugger sees the interrupted
    function, `instruction` the one there: saved registers and fault must agree with both.
    """
    if core.header.machine != "x86_64":
        return False
    layout = f"<{len(_REGISTERS)}Q"
    saved = core.memory.read(context + _REGISTERS_AT, struct.calcsize(layout))
    if len(saved) < struct.calcsize(layout):
        return False
    registers = dict(zip(_REGISTERS, struct.unpack(layout, saved), strict=True))
    if registers["rip"] != pc:
        return False
    found = _signal_information(core, context) or _trap(core, context, registers, instruction)
    if found is None:
        return False
    core.reraised = core.signo
    core.signal = found
    where = core.memory.file_offset(context + _REGISTERS_AT) or 0
    core.threads[0] = replace(
        core.crashed, registers=registers, pc=pc, sp=registers["rsp"], offset=where, source=_SOURCE
    )
    return True


def _signal_information(core: CoreFile, context: int) -> SignalInfo | None:
    data = core.memory.read(context + _SIGINFO_AT, 24)
    if len(data) < 24:
        return None
    signo, error, code, address = struct.unpack_from("<iii4xQ", data, 0)
    if signo not in FAULTS or error != 0 or code_name(signo, code) is None or code <= 0:
        return None
    return SignalInfo(signo, code, address, 0, 0, core.memory.file_offset(context + _SIGINFO_AT) or 0, _SOURCE)


def _trap(core: CoreFile, context: int, registers: dict[str, int], instruction: str | None) -> SignalInfo | None:
    """The processor's exception, saved for every handler. Handlers of other signals find an old one there."""
    data = core.memory.read(context + _TRAP_AT, 32)
    if len(data) < 32:
        return None
    error, trap, _, cr2 = struct.unpack("<4Q", data)
    text = instruction or ""
    touched = operands(instruction_at(core, registers["rip"]), registers, core.header.machine)
    offset = core.memory.file_offset(context + _TRAP_AT) or 0
    if trap == _PAGE_FAULT and any(o.address <= cr2 < o.address + (o.size or 64) for o in touched):
        return SignalInfo(signal.SIGSEGV, 2 if error & 1 else 1, cr2, 0, 0, offset, _SOURCE)
    if trap == _PROTECTION and any(not is_canonical(o.address, core.header.machine) for o in touched):
        return SignalInfo(signal.SIGSEGV, SI_KERNEL, 0, 0, 0, offset, _SOURCE)
    if trap == _DIVIDE and text.startswith(("div", "idiv")):
        return SignalInfo(signal.SIGFPE, 1, registers["rip"], 0, 0, offset, _SOURCE)
    if trap == _INVALID_OPCODE and text.startswith(("ud0", "ud1", "ud2")):
        return SignalInfo(signal.SIGILL, 2, registers["rip"], 0, 0, offset, _SOURCE)
    return None
