"""One sentence on what happened, where, and by which address or register; nothing in it that was not observed."""

from __future__ import annotations

from collections.abc import Sequence

from diagnosis.crashes.causes.go import Goroutines
from diagnosis.crashes.causes.rust import RustPanic
from diagnosis.crashes.classify import Verdict
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.faults import Fault, FaultKind
from diagnosis.crashes.frames import in_application, normalize, relevant
from diagnosis.crashes.memory_causes import MemoryText, ThrownObject
from diagnosis.crashes.signals import SI_KERNEL, code_meaning, code_name, signal_name, was_sent
from diagnosis.crashes.signature import round_of
from incidents.crash_frames import Recursion
from incidents.crash_report import Frame
from incidents.models import CauseClass

_TEXT_LIMIT = 300
_SEARCHED = 24
_THROWS = ("__cxa_throw", "__cxxabiv1::__cxa_throw", "std::__throw_")
_RETHROWS = ("__cxa_rethrow", "std::rethrow_exception")


def mechanism(
    core: CoreFile,
    verdict: Verdict,
    frames: Sequence[Frame],
    instruction: str | None,
    message: MemoryText | None,
    thrown: ThrownObject | None,
    collapsed: Recursion | None = None,
    rust: RustPanic | None = None,
    go: Goroutines | None = None,
) -> str:
    """The sentence for a crash report. Outside text in it is quoted and cut."""
    name = signal_name(core.signo)
    code = code_name(core.signo, core.signal.code) if core.signal else None
    where = place(frames)
    if go is not None and verdict.fault is None and verdict.cause is not CauseClass.EXTERNAL_SIGNAL:
        return f"{verdict.because}, in {where}"
    match verdict.cause:
        case CauseClass.NULL_DEREFERENCE | CauseClass.WILD_POINTER | CauseClass.STACK_OVERFLOW:
            return _memory(verdict, frames, instruction, where, collapsed)
        case CauseClass.HEAP_CORRUPTION if message is None and verdict.fault is not None:
            return f"heap corruption: the allocator itself faulted at {_address(verdict.fault)}, called from {where}"
        case CauseClass.HEAP_CORRUPTION:
            return f"heap corruption: the allocator stopped the program{_quoted(message)} in {where}"
        case CauseClass.STACK_SMASHING:
            return f"stack buffer overflow: the stack protector stopped the program{_quoted(message)} in {where}"
        case CauseClass.ASSERTION:
            return f"assertion failed{_quoted(message)} in {where}"
        case CauseClass.UNCAUGHT_EXCEPTION:
            kind = thrown.type if thrown and thrown.type else "of unknown type"
            what = f": {_quote(thrown.what)}" if thrown and thrown.what else ""
            barred = ", and stopped at a noexcept function or a destructor" if "noexcept" in verdict.because else ""
            return f"uncaught C++ exception {kind}{what}, {_thrown(frames)} {where}{barred}"
        case CauseClass.PANIC if rust is not None:
            what = f": {_quote(rust.message)}" if rust.message else ""
            return f"Rust panic at {rust.location}{what}, in {where}"
        case CauseClass.PANIC:
            return f"{verdict.because}, in {where}"
        case CauseClass.ABORT:
            because = verdict.because if core.signo == 6 else f"{name}: {verdict.because}"
            return f"{because}{_quoted(message)} in {where}"
        case CauseClass.EXTERNAL_SIGNAL if core.signal is None or not was_sent(core.signal.code):
            return f"{name}: {verdict.because}; the program was in {where}"
        case CauseClass.EXTERNAL_SIGNAL:
            return f"{name} from outside: {verdict.because}; the program was in {where} and did not cause it"
        case CauseClass.BUS_ERROR if verdict.fault is not None:
            return (
                f"misaligned access: {_access(verdict.fault)} address {_address(verdict.fault)}, "
                f"which is no multiple of {verdict.fault.operand.size if verdict.fault.operand else 16}, in {where}"
                f"{_by(verdict.fault, instruction)}"
            )
        case CauseClass.ARITHMETIC | CauseClass.BUS_ERROR | CauseClass.ILLEGAL_INSTRUCTION:
            return _hardware(core, verdict, code, instruction, where)
        case _:
            return f"{name}{f' ({code})' if code else ''} in {where}: {verdict.because}"


def _thrown(frames: Sequence[Frame]) -> str:
    """How the exception and the place belong together."""
    names = [normalize(frame.function) for frame in frames[:_SEARCHED] if frame.function]
    if not names or any(name.startswith(_THROWS) for name in names):
        return "thrown in"
    if any(name.endswith(_RETHROWS) for name in names):
        return "thrown again in"
    return "std::terminate was called in" if "std::terminate" in names else "in"


def place(frames: Sequence[Frame]) -> str:
    """The innermost frame that belongs to the program, with its source line."""
    own = in_application(frames)
    inner = relevant(frames)
    frame = own or (inner[0] if inner else (frames[0] if frames else None))
    if frame is None:
        return "an unknown place"
    text = located(frame)
    if inner and own is not None and inner[0] is not own and inner[0].function and own.frame != 0:
        return f"{normalize(inner[0].function)}, called from {text}"
    return text


def located(frame: Frame) -> str:
    name = normalize(frame.function) if frame.function else None
    if frame.file and frame.line:
        return f"{name or '??'} ({frame.file.rsplit('/', 1)[-1]}:{frame.line})"
    if frame.module and frame.module_offset:
        inside = f"{frame.module.rsplit('/', 1)[-1]}+{frame.module_offset}"
        return f"{name} ({inside})" if name else inside
    return name or f"address {frame.offset}"


def _memory(
    verdict: Verdict, frames: Sequence[Frame], instruction: str | None, where: str, collapsed: Recursion | None
) -> str:
    fault = verdict.fault
    if fault is None:
        return f"memory fault in {where}: {verdict.because}"
    if fault.kind is FaultKind.STACK_OVERFLOW:
        cycle = list(reversed(round_of(frames, collapsed)))  # people read who calls whom
        rounds = f" ({collapsed.count} rounds)" if collapsed else ""
        how = f"; {' → '.join(cycle)} without end{rounds}" if cycle else ""
        return f"stack overflow in {where}: address {_address(fault)} lies {fault.below_the_stack}{how}"
    access = _access(fault)
    if fault.kind is FaultKind.NEAR_NULL:
        if fault.at_pc:
            caller = _caller([frame for frame in frames if frame.offset != _address(fault)])
            return f"null pointer call: control went to {_address(fault)}; last known place {caller}"
        offset = f", a null pointer plus offset {fault.address}" if fault.address else ""
        held = fault.operand.registers if fault.operand else ()
        if offset and held and held[0][1] == fault.address:
            offset = ", near null"  # the pointer itself is this number
        nulls = _null_pointers(frames) if held else []
        named = f"; `{'`, `'.join(nulls)}` is null" if len(nulls) == 1 else ""
        by = _by(fault, instruction)
        return f"null pointer dereference: {access} address {_address(fault)}{offset} in {where}{by}{named}"
    if fault.kind is FaultKind.PROTECTION:
        return f"general protection fault in {where}: the registers do not tell the address{_by(fault, instruction)}"
    if fault.at_pc:
        caller = _caller([frame for frame in frames if frame.offset != _address(fault)])
        return f"wild jump: control went to {_address(fault)}, {verdict.because}; last known place {caller}"
    return f"wild pointer: {access} address {_address(fault)} in {where}, {verdict.because}{_by(fault, instruction)}"


def _hardware(core: CoreFile, verdict: Verdict, code: str | None, instruction: str | None, where: str) -> str:
    title = {
        CauseClass.ARITHMETIC: "arithmetic error",
        CauseClass.BUS_ERROR: "bus error",
        CauseClass.ILLEGAL_INSTRUCTION: "illegal instruction",
    }[verdict.cause]
    told = core.signal is not None and not was_sent(core.signal.code) and core.signal.code != SI_KERNEL
    address = f" at address {hex(core.signal.address)}" if core.signal and told else ""
    meaning = code_meaning(code)
    named = f" ({code}{': ' + meaning if meaning else ''})" if code else ""
    by = f" by `{instruction}`" if instruction else ""
    trap = ", a deliberate trap (__builtin_trap or unreachable code)" if (instruction or "").startswith("ud2") else ""
    return f"{title}{named}{address} in {where}{by}{trap}"


def _access(fault: Fault) -> str:
    operand = fault.operand
    if operand is None:
        return "access to"
    size = f" of {operand.size} bytes" if operand.size else ""
    return f"{operand.access.replace('_', ' and ')}{size} at"


def _by(fault: Fault, instruction: str | None) -> str:
    if not instruction:
        return ""
    if fault.operand is None or not fault.operand.registers:
        return f" by `{instruction}`"
    held = ", ".join(f"{name} = {hex(value)}" for name, value in fault.operand.registers)
    return f" by `{instruction}` with {held}"


def _null_pointers(frames: Sequence[Frame]) -> list[str]:
    """Pointers of the innermost frame that are null; only a single one can be blamed."""
    if not frames:
        return []
    variables = [*frames[0].args, *frames[0].locals]
    return [v.name for v in variables if v.value == "0x0" and (v.type is None or v.type.rstrip().endswith("*"))]


def _caller(frames: Sequence[Frame]) -> str:
    named = next((frame for frame in frames if frame.function or (frame.module and frame.module_offset)), None)
    return located(named) if named else "unknown"


def _address(fault: Fault) -> str:
    return hex(fault.address) if fault.address is not None else "that the processor did not report"


def _quoted(message: MemoryText | None) -> str:
    return f" ({_quote(message.text)})" if message else ""


def _quote(text: str) -> str:
    cut = text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 1] + "…"
    return '"' + cut.replace("\n", " ") + '"'
