"""The root cause: the rules for each kind of crash, the most specific first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from diagnosis.crashes.classify import Verdict
from diagnosis.crashes.code import instruction_at
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.frames import HANDLER_FRAME, relevant
from diagnosis.crashes.layouts import Layout
from diagnosis.crashes.operands import operands
from diagnosis.crashes.root_cause.aborts import abort_cause
from diagnosis.crashes.root_cause.classes import Conclusion, RootClass
from diagnosis.crashes.root_cause.memory import bus_cause, memory_cause, misaligned_cause
from diagnosis.crashes.root_cause.variables import integer_of
from diagnosis.crashes.signals import code_meaning, code_name
from incidents.crash_report import CrashReport, Frame
from incidents.models import CauseClass

_TRAPS = ("ud0", "ud1", "ud2", "brk", "udf", "ebreak", "c.ebreak", "unimp", "c.unimp")
_PLAIN = {
    CauseClass.ASSERTION: RootClass.ASSERTION,
    CauseClass.UNCAUGHT_EXCEPTION: RootClass.UNCAUGHT_EXCEPTION,
    CauseClass.EXTERNAL_SIGNAL: RootClass.EXTERNAL,
    CauseClass.ABORT: RootClass.ABORT,
    CauseClass.PANIC: RootClass.PANIC,
}
_TOLD = {
    CauseClass.NULL_DEREFERENCE: RootClass.NULL_DEREFERENCE,
    CauseClass.WILD_POINTER: RootClass.WILD_POINTER,
    CauseClass.STACK_OVERFLOW: RootClass.UNBOUNDED_RECURSION,
    CauseClass.ARITHMETIC: RootClass.ARITHMETIC_OVERFLOW,
}
"""What a language's runtime says that it was."""


def root_cause_of(core: CoreFile, verdict: Verdict, report: CrashReport, layouts: Sequence[Layout]) -> Conclusion:
    """What the core proves about the crash. `report` gives frames and messages; `layouts` come from a debugger."""
    frames = crash_frames(core, report)
    message = report.crash_info.abort_message
    found: Conclusion | None = None
    match verdict.cause:
        case _ if verdict.told:
            found = _told(verdict, report)
        case CauseClass.HEAP_CORRUPTION | CauseClass.STACK_SMASHING:
            found = abort_cause(core, verdict, frames, message)
        case CauseClass.ABORT if message and "overflow detected" in message:
            found = abort_cause(core, verdict, frames, message)
        case CauseClass.NULL_DEREFERENCE | CauseClass.WILD_POINTER | CauseClass.STACK_OVERFLOW if verdict.fault:
            found = memory_cause(core, verdict.fault, report, frames, layouts)
        case CauseClass.BUS_ERROR if verdict.fault:
            found = misaligned_cause(verdict.fault)
        case CauseClass.BUS_ERROR:
            found = bus_cause(core)
        case CauseClass.ARITHMETIC:
            found = _arithmetic(core, frames)
        case CauseClass.ILLEGAL_INSTRUCTION:
            found = _illegal(core)
    if found is None:
        kind = _PLAIN.get(verdict.cause, RootClass.UNKNOWN)
        found = Conclusion(kind, verdict.confidence if kind is not RootClass.UNKNOWN else 0.2, report.mechanism or "")
    return replace(found, confidence=round(min(found.confidence, 1.0) * (0.9 if report.core.truncated else 1.0), 2))


def crash_frames(core: CoreFile, report: CrashReport) -> list[Frame]:
    """The crashing thread's frames; without those of a signal handler that ran after the crash."""
    frames = report.threads[0].frames if report.threads else []
    if core.reraised:
        first = next((i for i, frame in enumerate(frames) if frame.function == HANDLER_FRAME), -1)
        frames = frames[first + 1 :]
    return list(frames)


def _told(verdict: Verdict, report: CrashReport) -> Conclusion | None:
    kind = _TOLD.get(verdict.cause)
    if verdict.cause is CauseClass.ARITHMETIC and "by zero" in verdict.because:
        kind = RootClass.DIVISION_BY_ZERO
    return Conclusion(kind, verdict.confidence, report.mechanism or verdict.because) if kind else None


def _arithmetic(core: CoreFile, frames: Sequence[Frame]) -> Conclusion | None:
    instruction = instruction_at(core, core.crashed.pc)
    code = code_name(core.signo, core.signal.code) if core.signal else None
    if instruction is None or instruction.mnemonic not in ("div", "idiv"):
        if code == "FPE_INTDIV":
            return Conclusion(RootClass.DIVISION_BY_ZERO, 0.8, "the kernel reports an integer division by zero")
        if code == "FPE_FLTDIV":
            return Conclusion(RootClass.DIVISION_BY_ZERO, 0.9, "the kernel reports a floating-point division by zero")
        kind = RootClass.ARITHMETIC_OVERFLOW if code in ("FPE_INTOVF", "FPE_FLTOVF") else RootClass.UNKNOWN
        meaning = code_meaning(code)
        said = f"the kernel reports {code}{': ' + meaning if meaning else ''}"
        return Conclusion(kind, 0.8 if kind is not RootClass.UNKNOWN else 0.4, said) if meaning else None
    touched = operands(instruction, core.crashed.registers, core.header.machine)
    name = instruction.text.partition(" ")[2]
    divisor: int | None = None
    if touched:
        data = core.memory.read(touched[0].address, touched[0].size or 4)
        divisor = int.from_bytes(data, "little", signed=True) if data else None
        name = f"{name} at {hex(touched[0].address)}"
    else:
        own = sorted(instruction.reads & set(core.crashed.registers))
        wanted = [each for each in own if each not in ("rax", "rdx", "eax", "edx")] or own[:1]
        if wanted:
            bits = 32 if name.startswith("e") or name.endswith("d") else 64
            divisor = core.crashed.registers[wanted[0]] & ((1 << bits) - 1)
            divisor -= 1 << bits if divisor >> bits - 1 and instruction.mnemonic == "idiv" else 0
    if divisor is None:
        return Conclusion(RootClass.DIVISION_BY_ZERO, 0.7, f"`{instruction.text}` divides; its divisor is not at hand")
    if divisor == 0:
        innermost = relevant(frames)[:1]
        zeros = [v.name for frame in innermost for v in (*frame.args, *frame.locals) if integer_of(v) == 0]
        named = f"; `{zeros[0]}` is 0" if len(zeros) == 1 else ""
        return Conclusion(
            RootClass.DIVISION_BY_ZERO,
            0.98,
            f"`{instruction.text}` divides by {name}, which is 0{named}",
            zeros[0] if len(zeros) == 1 else None,
        )
    return Conclusion(
        RootClass.ARITHMETIC_OVERFLOW,
        0.95,
        f"`{instruction.text}` divides by {divisor}: the quotient does not fit its register",
    )


def _illegal(core: CoreFile) -> Conclusion | None:
    instruction = instruction_at(core, core.crashed.pc)
    if instruction is not None and instruction.mnemonic in _TRAPS:
        return Conclusion(
            RootClass.UNREACHABLE_TRAP,
            0.95,
            f"`{instruction.text}` at {hex(instruction.address)} is a deliberate trap: "
            "the compiler put it where control must never come, or the program called __builtin_trap",
        )
    if instruction is not None and instruction.privileged:
        return Conclusion(
            RootClass.ILLEGAL_INSTRUCTION,
            0.95,
            f"`{instruction.text}` at {hex(instruction.address)} may be executed by the kernel only: it was compiled "
            "in, or control is in the middle of data",
        )
    shown = f"`{instruction.text}`" if instruction else core.memory.read(core.crashed.pc or 0, 8).hex(" ")
    return Conclusion(
        RootClass.ILLEGAL_INSTRUCTION,
        0.7,
        f"the processor does not know {shown}: a build for a newer one, or control in the middle of data",
    )
