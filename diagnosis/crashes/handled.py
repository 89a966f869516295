"""The fault behind a signal that a program's own crash handler raised again.

Many programs catch SIGSEGV, write a report of their own and then end themselves with raise or abort. The core's notes
then tell of that last signal. What the kernel first reported is still on the stack, in the frame that it made for the
handler: `struct rt_sigframe`, on i386 `sigframe_ia32` for handlers without SA_SIGINFO
(arch/x86/include/asm/sigframe.h). x86-64 and i386 only here.
"""

from __future__ import annotations

import signal
import struct
from dataclasses import dataclass, replace

from diagnosis.crashes.code import instruction_at
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.notes import SignalInfo
from diagnosis.crashes.operands import is_canonical, operands
from diagnosis.crashes.signals import FAULTS, SI_KERNEL, code_name, was_sent

_SOURCE = "signal frame on the stack"


@dataclass(frozen=True)
class _SignalFrame:
    """Words from `registers_at` above the handler's stack pointer on are `names`; those without a register start `-`.

    siginfo is filled only for handlers with SA_SIGINFO.
    """

    word: int
    registers_at: int
    names: tuple[str, ...]
    siginfo_at: int | None


_64 = "r8 r9 r10 r11 r12 r13 r14 r15 rdi rsi rbp rbx rdx rax rcx rsp rip eflags -selectors -error -trap -mask -cr2"
_32 = "gs fs es ds edi esi ebp -esp ebx edx ecx eax -trap -error eip cs eflags esp ss -fpstate -mask -cr2"
_FRAMES = {
    "x86_64": (_SignalFrame(8, 40, tuple(_64.split()), 304),),  # ucontext: flags, link, stack, then sigcontext_64
    "i386": (
        _SignalFrame(4, 4, tuple(_32.split()), None),  # the signal's number, then sigcontext_32
        _SignalFrame(4, 160, tuple(_32.split()), 12),  # number, two pointers, siginfo, ucontext
    ),
}
_DIVIDE, _INVALID_OPCODE, _PROTECTION, _PAGE_FAULT = 0, 6, 13, 14  # Intel SDM, volume 3, 6.3.1


def was_raised_by_itself(core: CoreFile) -> bool:
    """The signal in the notes was sent by the crashed process."""
    info, process = core.signal, core.process
    return info is not None and process is not None and was_sent(info.code) and info.pid == process.pid


def ended_in_handler(core: CoreFile) -> bool:
    """What happened is in a signal handler, if one is on the stack: it crashed itself, or was called for no fault."""
    return not core.reraised and (core.interrupted or not was_raised_by_itself(core))


def restore_fault(core: CoreFile, context: int, pc: int, instruction: str | None) -> bool:
    """Put the first fault in place of the last signal, in `core`; False when it is not there, or cannot be proved.

    Where the saved registers show that there was none, as with a watchdog's alarm, `core.interrupted` is set.

    `context` is the stack pointer in the handler's frame, `pc` the address at which the debugger sees the interrupted
    function, `instruction` the one there: saved registers and fault must agree with both.
    """
    for frame in _FRAMES.get(core.header.machine, ()):
        layout = struct.Struct(f"<{len(frame.names)}{'Q' if frame.word == 8 else 'I'}")
        saved = core.memory.read(context + frame.registers_at, layout.size)
        if len(saved) < layout.size:
            continue
        words = dict(zip(frame.names, layout.unpack(saved), strict=True))
        registers = {name: value for name, value in words.items() if not name.startswith("-")}
        if pc != registers.get("rip", registers.get("eip")):
            continue
        where = core.memory.file_offset(context + frame.registers_at) or 0
        found = _signal_information(core, context, frame) or _trap(core, words, registers, instruction, where)
        if found is None:
            core.interrupted = instruction_at(core, pc) is not None
            continue
        core.interrupted = False
        core.reraised = core.signo
        core.signal = found
        sp = registers.get("rsp", registers.get("esp"))
        core.threads[0] = replace(core.crashed, registers=registers, pc=pc, sp=sp, offset=where, source=_SOURCE)
        return True
    return False


def _signal_information(core: CoreFile, context: int, frame: _SignalFrame) -> SignalInfo | None:
    if frame.siginfo_at is None:
        return None
    layout = "<iii4xQ" if frame.word == 8 else "<iiiI"
    data = core.memory.read(context + frame.siginfo_at, struct.calcsize(layout))
    if len(data) < struct.calcsize(layout):
        return None
    signo, error, code, address = struct.unpack(layout, data)
    if signo not in FAULTS or error != 0 or code_name(signo, code) is None or code <= 0:
        return None
    return SignalInfo(signo, code, address, 0, 0, core.memory.file_offset(context + frame.siginfo_at) or 0, _SOURCE)


def _trap(
    core: CoreFile, words: dict[str, int], registers: dict[str, int], instruction: str | None, offset: int
) -> SignalInfo | None:
    """The processor's exception, saved for every handler. Handlers of other signals find an old one there."""
    error, trap, cr2 = words["-error"], words["-trap"], words["-cr2"]
    pc = registers.get("rip", registers.get("eip", 0))
    text = instruction or ""
    touched = operands(instruction_at(core, pc), registers, core.header.machine)
    if trap == _PAGE_FAULT and cr2 == pc:  # control went there
        return SignalInfo(signal.SIGSEGV, 2 if error & 1 else 1, cr2, 0, 0, offset, _SOURCE)
    if trap == _PAGE_FAULT and any(o.address <= cr2 < o.address + (o.size or 64) for o in touched):
        return SignalInfo(signal.SIGSEGV, 2 if error & 1 else 1, cr2, 0, 0, offset, _SOURCE)
    if trap == _PROTECTION and any(not is_canonical(o.address, core.header.machine) for o in touched):
        return SignalInfo(signal.SIGSEGV, SI_KERNEL, 0, 0, 0, offset, _SOURCE)
    if trap == _DIVIDE and text.startswith(("div", "idiv")):
        return SignalInfo(signal.SIGFPE, 1, pc, 0, 0, offset, _SOURCE)
    if trap == _INVALID_OPCODE and text.startswith(("ud0", "ud1", "ud2")):
        return SignalInfo(signal.SIGILL, 2, pc, 0, 0, offset, _SOURCE)
    return None
