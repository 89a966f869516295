"""The severity of a crash: CASR's rules in its order, with four of them mended.

- What the allocator, the stack protector and fortified functions report is known by glibc's abort message, not by
  names of functions that modern libraries no longer have.
- Every memory operand counts, by the access flags of the decoded instruction: read-modify-write, string and vector
  instructions, and the stack that push and call use.
- A stack overflow is told by the guard area below the thread's stack, whatever instruction hit it.
- A signal that another process sent says nothing about the program's memory.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

from diagnosis.crashes.classify import Verdict
from diagnosis.crashes.code import CODE_BYTES, MachineInstruction, instruction_at, instructions_at
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.faults import NEAR_NULL, Fault, FaultKind, implied_fault, memory_fault
from diagnosis.crashes.frames import normalize
from diagnosis.crashes.operands import Operand, operands
from diagnosis.crashes.severity.classes import CLASSES
from diagnosis.crashes.severity.taint import reached
from diagnosis.crashes.signals import SI_KERNEL, signal_name, was_sent
from incidents.crash_report import Frame
from incidents.crash_verdicts import CrashSeverity
from incidents.models import CauseClass

_TOP = 12
_LIMITS = (signal.SIGXCPU, signal.SIGXFSZ)
_INT3 = b"\xcc"


def severity_of(core: CoreFile, verdict: Verdict, frames: Sequence[Frame], message: str | None) -> CrashSeverity:
    """The class, and one sentence that names what it rests on. Needs no symbols and no debugger."""
    number, info = core.signo, core.signal
    if number in _LIMITS and verdict.cause is CauseClass.EXTERNAL_SIGNAL:
        return _rated("BenignSignal", f"{signal_name(number)}: {verdict.because}")
    if verdict.cause is CauseClass.EXTERNAL_SIGNAL and number != signal.SIGSYS:
        return _rated("ExternalSignal", f"{signal_name(number)} from outside: {verdict.because}")
    if number == signal.SIGABRT:
        return _aborted(verdict, frames, message)
    if number in (signal.SIGSEGV, signal.SIGBUS):
        sent = info is None or was_sent(info.code)
        fault = verdict.fault or (implied_fault(core) if sent else memory_fault(core))
        if fault is None and sent:
            return _rated("UncategorizedSignal", f"{signal_name(number)}: {verdict.because}")
        return _memory(core, fault)
    here = _shown(instruction_at(core, core.crashed.pc), core)
    if info is not None and was_sent(info.code) and verdict.cause is CauseClass.UNKNOWN:
        return _rated("UncategorizedSignal", f"{signal_name(number)}: {verdict.because}")
    if number == signal.SIGTRAP:
        return _rated("TrapSignal", f"{_trap(core) or here} is a trap")
    if number == signal.SIGILL:
        return _rated("BadInstruction", f"The processor does not execute {here}")
    if number == signal.SIGSYS and not (info and was_sent(info.code)):
        return _rated("BadInstruction", f"The kernel refused the system call before {here}")
    if number == signal.SIGFPE:
        return _rated("FPE", f"{here} raised an arithmetic error{_registers(core)}")
    return _rated("UncategorizedSignal", f"{signal_name(number)}: {verdict.because}")


def _trap(core: CoreFile) -> str | None:
    """x86's one-byte trap: the program counter is already past it."""
    pc = core.crashed.pc
    if pc is None or core.header.machine not in ("x86_64", "i386") or core.memory.read(pc - 1, 1) != _INT3:
        return None
    return _shown(instruction_at(core, pc - 1), core)


def _aborted(verdict: Verdict, frames: Sequence[Frame], message: str | None) -> CrashSeverity:
    names = [normalize(frame.function) for frame in frames[:_TOP] if frame.function]
    said = f': glibc said "{" ".join(message.split())[:200]}"' if message else f": {verdict.because}"
    if "buffer overflow detected" in (message or "") or "__chk_fail" in names:
        return _rated("SafeFunctionCheck", f"A checked function stopped the program before the overrun{said}")
    if verdict.cause is CauseClass.STACK_SMASHING:
        return _rated("StackGuard", f"The canary below a return address was overwritten{said}")
    if verdict.cause is CauseClass.HEAP_CORRUPTION:
        return _rated("HeapError", f"The heap's structures were overwritten or misused{said}")
    return _rated("AbortSignal", f"The program ended itself by abort{said}")


def _memory(core: CoreFile, fault: Fault | None) -> CrashSeverity:
    thread, info = core.crashed, core.signal
    instruction = instruction_at(core, thread.pc)
    shown = _shown(instruction, core)
    from_kernel = info is not None and info.code == SI_KERNEL
    address = fault.address if fault else None
    at = hex(address) if address is not None else "an address that the processor did not report"
    if fault is not None and fault.kind is FaultKind.STACK_OVERFLOW:
        return _rated("StackOverflow", f"{shown} touched {at}, {fault.below_the_stack}")
    if fault is not None and fault.kind is FaultKind.PROTECTION:
        at = "an address that the registers do not tell"
    near = address is not None and address < NEAR_NULL and not from_kernel
    if from_kernel and instruction is not None and instruction.privileged:
        return _rated("BadInstruction", f"{shown} is for the kernel only")
    returned = instruction is not None and instruction.flow == "return"
    went = fault is not None and fault.at_pc and fault.address == thread.pc
    if went or (instruction is None and from_kernel):
        return _rated("SegFaultOnPc", f"Control went to {hex(thread.pc or 0)}, where nothing can be executed", near)
    if instruction is None:
        return _rated("AccessViolation", f"The instruction at {shown} is not at hand; it touched {at}")
    if returned:
        where = f"sp = {hex(thread.sp)}" if thread.sp is not None else "an unknown stack pointer"
        return _rated("ReturnAv", f"{shown} returned by the stack at {where}, to or by way of {at}")
    operand = _operand(core, instruction, fault)
    by = _by(operand)
    if instruction.indirect and (operand is None or not operand.implicit):
        name = "CallAv" if instruction.flow == "call" else "BranchAv"
        return _rated(name, f"{shown} takes its target from {at}{by}", near)
    if operand is None:
        return _rated("AccessViolation", f"{shown} touched {at}")
    size = f"{operand.size} bytes" if operand.size else "memory"
    if operand.writes:
        exact = near and core.signo != signal.SIGBUS
        return _rated("DestAv", f"{shown} wrote {size} at {at}{by}", exact)
    if near:
        return _rated("SourceAvNearNull", f"{shown} read {size} at {at}{by}")
    following = instructions_at(core, instruction.address + instruction.size, CODE_BYTES)
    if found := reached(instruction, following):
        onward = f"{_shown(found.instruction, core)} uses it by {found.register}"
        return _rated(found.name, f"{shown} read {size} at {at}{by}; then {onward}")
    return _rated("SourceAv", f"{shown} read {size} at {at}{by}")


def _operand(core: CoreFile, instruction: MachineInstruction, fault: Fault | None) -> Operand | None:
    """The operand that the fault is about; without an address, the first that the instruction names."""
    if fault is not None and fault.operand is not None:
        return fault.operand
    found = operands(instruction, core.crashed.registers, core.header.machine)
    if fault is None or fault.address is None:
        return found[0] if found else None
    return None


def _rated(name: str, explanation: str, near_null: bool = False) -> CrashSeverity:
    found = CLASSES[name + "NearNull" if near_null else name]
    return CrashSeverity(
        type=found.rating, short_description=found.name, description=found.description, explanation=explanation + "."
    )


def _shown(instruction: MachineInstruction | None, core: CoreFile) -> str:
    if instruction is None:
        return hex(core.crashed.pc) if core.crashed.pc is not None else "an unknown place"
    return f"`{instruction.text}` at {hex(instruction.address)}"


def _by(operand: Operand | None) -> str:
    if operand is None or not operand.registers:
        return ""
    return ", computed from " + ", ".join(f"{name} = {hex(value)}" for name, value in operand.registers)


def _registers(core: CoreFile) -> str:
    """The registers that the crashing instruction reads."""
    instruction = instruction_at(core, core.crashed.pc)
    held = sorted(instruction.reads & set(core.crashed.registers)) if instruction else []
    return " with " + ", ".join(f"{name} = {hex(core.crashed.registers[name])}" for name in held) if held else ""
