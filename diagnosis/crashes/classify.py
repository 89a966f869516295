"""The cause class of a crash: rules over what the core says, most specific first.

Rules of CASR (libcasr, execution_class.rs) with its known gaps closed: glibc's abort text instead of symbol names,
the guard area instead of the instruction for stack overflows, and a signal that another process sent is never a
memory bug.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from diagnosis.crashes.causes.go import Goroutines, go_end
from diagnosis.crashes.causes.golang.told import last_words
from diagnosis.crashes.causes.rust import RustPanic
from diagnosis.crashes.code import instruction_at
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.faults import Fault, FaultKind, implied_fault, memory_fault
from diagnosis.crashes.frames import is_allocator, is_bottom, normalize
from diagnosis.crashes.memory_causes import MemoryText, ThrownObject
from diagnosis.crashes.signals import SI_KERNEL, was_sent
from incidents.crash_report import Frame
from incidents.models import CauseClass

_HEAP = re.compile(
    r"^(?:free|malloc|realloc|munmap_chunk|malloc_consolidate|_int_malloc|_int_free|sysmalloc|calloc|memalign)\(\)|"
    r"double free|corrupted (?:size|double-linked|unsorted|top)|corrupted|invalid (?:pointer|chunk|size)|"
    r"tcache|heap corruption|unaligned (?:tcache|fastbin)"
)
_ASSERTION = re.compile(
    r"Assertion `.*' failed\.?|assertion failed|:\d+: (?:[^\n]*: )?Unexpected error: ", re.DOTALL | re.IGNORECASE
)
_TERMINATE = frozenset(
    {"std::terminate", "__cxxabiv1::__terminate", "__gnu_cxx::__verbose_terminate_handler", "__cxa_call_terminate"}
)
_PERSONALITY = "__gxx_personality_v0"
"""Above an abort it is there for one reason: the search for a handler met a function that lets no exception out."""
_PANICKING = ("std::panicking::", "core::panicking::", "rust_panic", "__rust", "rust_begin_unwind", "panic_abort")
_WHY_TERMINATED = {
    "__cxa_pure_virtual": "a pure virtual function was called: in a constructor or destructor, or of a dead object",
    "__cxa_deleted_virtual": "a deleted virtual function was called",
    "std::thread::~thread": "a std::thread was destroyed that was neither joined nor detached",
    "std::thread::operator=": "a std::thread was assigned to that was neither joined nor detached",
}
_LIMITS = {
    signal.SIGXCPU: "the CPU time limit was reached",
    signal.SIGXFSZ: "the file size limit was reached",
}
"""The kernel sends the second in the name of the process itself (mm/filemap.c: send_sig)."""
_TOP = 12
"""Frames from the innermost in which the way into abort is looked for."""


@dataclass(frozen=True)
class Verdict:
    """`confidence` is 0 to 1; `because` names what decided, `excluded` what was looked at and does not apply."""

    cause: CauseClass
    confidence: float
    because: str
    fault: Fault | None = None
    excluded: list[str] = field(default_factory=list)
    told: bool = False
    """The language's runtime said it: registers and signal are those of the way out."""


def classify(
    core: CoreFile,
    frames: Sequence[Frame],
    instruction: str | None,
    message: MemoryText | None,
    thrown: ThrownObject | None,
    rust: RustPanic | None = None,
    go: Goroutines | None = None,
) -> Verdict:
    """The cause of the crash. `frames` are the crashing thread's, innermost first; all of them may be nameless."""
    names = [normalize(frame.function) for frame in frames[:_TOP] if frame.function]
    if go is not None and _sent_itself(core) and (end := go_end(go.frames, go.fatal)):
        return Verdict(end.cause, 0.95, f"Go's runtime ended the program: {last_words(go, end)}", told=True)
    if go is not None and _sent_itself(core) and names[:1] == ["runtime.raise"] and "runtime.dieFromSignal" in names:
        because = "Go's runtime ended the program, and the stack shows no panic: a signal such as SIGQUIT does that"
        return Verdict(CauseClass.ABORT, 0.6, because, told=True)
    sent = _sent(core, names, instruction)
    if sent is not None:
        return sent
    number = core.signo
    if number == signal.SIGABRT:
        return _abort(names, message, thrown, rust)
    if number == signal.SIGSEGV:
        return _segmentation(core, names)
    simple = {
        signal.SIGBUS: (CauseClass.BUS_ERROR, "SIGBUS raised by the kernel"),
        signal.SIGFPE: (CauseClass.ARITHMETIC, "SIGFPE raised by the kernel"),
        signal.SIGILL: (CauseClass.ILLEGAL_INSTRUCTION, "SIGILL raised by the kernel"),
        signal.SIGTRAP: (CauseClass.ABORT, "a trap instruction: the program stopped itself"),
        signal.SIGSYS: (CauseClass.EXTERNAL_SIGNAL, _refused(core)),
        **{number: (CauseClass.EXTERNAL_SIGNAL, because) for number, because in _LIMITS.items()},
    }
    if number in simple:
        cause, because = simple[signal.Signals(number)]
        return Verdict(cause, 0.9 if core.signal else 0.7, because)
    return Verdict(CauseClass.UNKNOWN, 0.3, "no rule covers this signal")


def _refused(core: CoreFile) -> str:
    """Of SIGSYS by the kernel: which system call, as a seccomp filter was asked about it."""
    call = core.signal.system_call if core.signal else None
    numbered = f"system call {call} ({core.header.machine})" if call is not None else "a system call"
    return f"the kernel refused {numbered} that the program made: a seccomp filter does not allow it"


def _sent_itself(core: CoreFile) -> bool:
    """The kernel raised the signal, or the program did."""
    info = core.signal
    return info is None or not was_sent(info.code) or core.process is None or info.pid == core.process.pid


def _sent(core: CoreFile, names: list[str], instruction: str | None) -> Verdict | None:
    """A verdict when a process sent the signal; None when the kernel raised it or the program aborted itself."""
    info = core.signal
    if info is None or not was_sent(info.code):
        return None
    own = {core.process.pid} if core.process else {thread.tid for thread in core.threads}
    if info.pid not in own:
        # from outside the pid namespace the kernel reports pid 0
        who = f"process {info.pid}" if info.pid else "a process outside its pid namespace"
        return Verdict(CauseClass.EXTERNAL_SIGNAL, 0.95, f"{who} (uid {info.uid}) sent the signal")
    if info.signo == signal.SIGABRT or info.signo in _LIMITS:
        return None
    if implied := _implied(core, names, instruction):
        return implied
    return Verdict(
        CauseClass.UNKNOWN, 0.4, "the program sent the signal to itself, as a crash handler does after its own report"
    )


def _implied(core: CoreFile, names: list[str], instruction: str | None) -> Verdict | None:
    """The program sent the signal again from a handler: the instruction it returned to tells what it was about."""
    text = instruction or ""
    again = "the program's own handler sent the signal again"
    if core.signo == signal.SIGSEGV and (fault := implied_fault(core)):
        verdict = _by_fault(fault, names)
        return replace(verdict, confidence=verdict.confidence * 0.9, excluded=[f"a signal of unknown reason: {again}"])
    if core.signo == signal.SIGFPE and text.startswith(("idiv", "div")):
        return Verdict(CauseClass.ARITHMETIC, 0.85, f"the instruction divides; {again}")
    if core.signo == signal.SIGILL and text.startswith(("ud2", "ud1", "ud0")):
        return Verdict(CauseClass.ILLEGAL_INSTRUCTION, 0.85, f"the instruction is a trap; {again}")
    return None


def _abort(
    names: list[str], message: MemoryText | None, thrown: ThrownObject | None, rust: RustPanic | None
) -> Verdict:
    text = message.text if message else ""
    if "stack smashing detected" in text or "__stack_chk_fail" in names:
        return Verdict(CauseClass.STACK_SMASHING, 0.98, "the stack protector found its canary overwritten")
    if _ASSERTION.search(text) or any(name.startswith(("__assert_fail", "__assert_perror")) for name in names):
        return Verdict(CauseClass.ASSERTION, 0.98, "an assertion failed")
    if _HEAP.search(text) or any(is_allocator(name) for name in names):
        return Verdict(CauseClass.HEAP_CORRUPTION, 0.95, "the allocator found its structures damaged")
    panicked = any(name.startswith(_PANICKING) and not is_bottom(name) for name in names)
    if "std::process::abort" in names and not panicked:
        rust = None  # a place that was handed to a call that did not panic
    if rust is not None and not text:
        sure = panicked or rust.message is not None
        return Verdict(CauseClass.PANIC, 0.95 if sure else 0.7, f"a Rust panic at {rust.location}")
    if _PERSONALITY in names and not text:
        because = "std::terminate was called: an exception was to leave a function that is noexcept, or a destructor"
        return Verdict(CauseClass.UNCAUGHT_EXCEPTION, 0.95, because)
    if not text and (why := next((why for name, why in _WHY_TERMINATED.items() if name in names), None)):
        return Verdict(CauseClass.ABORT, 0.95, why)
    terminated = any(name in _TERMINATE for name in names)
    if thrown is not None and not text:
        if terminated:
            return Verdict(CauseClass.UNCAUGHT_EXCEPTION, 0.98, "std::terminate was called with an exception in flight")
        if "abort" not in names[: names.index("main") if "main" in names else None] or not names:
            return Verdict(CauseClass.UNCAUGHT_EXCEPTION, 0.8, "a live C++ exception object is in memory")
    excluded = [] if thrown is None else ["an exception was being handled, but std::terminate is not on the stack"]
    because = "std::terminate was called without an exception" if terminated else "the program called abort"
    if names[:1] == ["kill"]:
        because = "the program sent itself SIGABRT"
    return Verdict(CauseClass.ABORT, 0.9, because, excluded=excluded)


def _segmentation(core: CoreFile, names: list[str]) -> Verdict:
    fault = memory_fault(core)
    if fault is None:
        missing = "the core has no signal information (NT_SIGINFO)"
        implied = implied_fault(core)
        if implied is None:
            return Verdict(CauseClass.UNKNOWN, 0.3, missing)
        verdict = _by_fault(implied, names)
        because = f"{missing}; the address is what the instruction computes from its registers: {verdict.because}"
        return replace(verdict, confidence=verdict.confidence * 0.8, because=because)
    verdict = _by_fault(fault, names)
    if core.signal and core.signal.code == SI_KERNEL and fault.address is None:
        if (instruction := instruction_at(core, core.crashed.pc)) is not None and instruction.privileged:
            return Verdict(CauseClass.ILLEGAL_INSTRUCTION, 0.95, f"`{instruction.text}` is for the kernel only")
        because = "a general protection fault: most often an address that is not canonical"
        return replace(verdict, confidence=0.7, because=because)
    return verdict


def _by_fault(fault: Fault, names: list[str]) -> Verdict:
    if fault.kind is FaultKind.STACK_OVERFLOW:
        return Verdict(CauseClass.STACK_OVERFLOW, 0.97, f"the address lies {fault.below_the_stack}", fault)
    if fault.kind is FaultKind.MISALIGNED:
        return Verdict(CauseClass.BUS_ERROR, 0.95, "the instruction needs an aligned address", fault)
    if names and is_allocator(names[0]):
        return Verdict(
            CauseClass.HEAP_CORRUPTION, 0.8, "the fault is inside the allocator, on its own structures", fault
        )
    if fault.kind is FaultKind.NEAR_NULL:
        return Verdict(CauseClass.NULL_DEREFERENCE, 0.97, "the address is within 64 KiB of zero", fault)
    because = {
        FaultKind.NON_CANONICAL: "the address is not canonical: no program can own it",
        FaultKind.REFUSED: "the mapping at the address does not allow the access",
    }.get(fault.kind, "nothing is mapped at the address")
    return Verdict(CauseClass.WILD_POINTER, 0.9, because, fault)
