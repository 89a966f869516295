"""What a person can do next about a crash."""

from __future__ import annotations

from diagnosis.crashes.classify import Verdict
from diagnosis.crashes.root_cause.classes import RootClass
from diagnosis.crashes.signals import tells_place
from incidents.crash_report import CrashReport
from incidents.models import CauseClass

_BY_CAUSE = {
    CauseClass.NULL_DEREFERENCE: "find why the pointer is null at that line; check the value before it is used",
    CauseClass.WILD_POINTER: "look for use after free or an overwritten pointer: run a build with -fsanitize=address",
    CauseClass.STACK_OVERFLOW: "bound the recursion, or move large local arrays to the heap",
    CauseClass.HEAP_CORRUPTION: "the damage was done earlier: run a build with -fsanitize=address to see where",
    CauseClass.STACK_SMASHING: "check the sizes of local arrays in that function; -fsanitize=address names the array",
    CauseClass.ASSERTION: "the program checked this condition itself: find which caller breaks it",
    CauseClass.UNCAUGHT_EXCEPTION: "catch the exception where it can be handled, or prevent what it reports",
    CauseClass.PANIC: "the program stopped itself at that line: handle the case that the message tells, or prevent it",
    CauseClass.ABORT: "read the program's own log just before the crash: it chose to stop",
    CauseClass.ARITHMETIC: "check the divisor before the division",
    CauseClass.ILLEGAL_INSTRUCTION: (
        "either a deliberate trap, or a build for a newer processor: compare -march with the node's CPU"
    ),
    CauseClass.BUS_ERROR: "check whether a mapped file was truncated or its disk or tmpfs ran full",
    CauseClass.EXTERNAL_SIGNAL: "find who sent the signal: probes, an operator, a supervisor process, a resource limit",
}
_BY_ROOT = {
    RootClass.USE_AFTER_FREE: "find who freed it: the owner must outlive this use; -fsanitize=address names both",
    RootClass.DOUBLE_FREE: "give the object one owner; -fsanitize=address names the first free",
    RootClass.INVALID_FREE: "free only what malloc gave, and from its start",
    RootClass.HEAP_OVERFLOW: "check the length against the size of the buffer where it is written",
    RootClass.OUT_OF_BOUNDS_READ: "check the index or length against the size of what is read",
    RootClass.STACK_BUFFER_OVERFLOW: "check the length against the size of the array where it is written",
    RootClass.PREVENTED_OVERFLOW: "give the checked function the size of its target, and handle what does not fit",
    RootClass.NULL_FUNCTION_POINTER: "find why the function pointer was never set; check it before the call",
    RootClass.EXECUTE_NON_EXECUTABLE: "find what overwrote the function pointer, or what was called in its place",
    RootClass.WRITE_TO_READONLY: "copy the constant before it is changed",
    RootClass.UNINITIALIZED: "set the pointer where it is declared; -Wuninitialized and valgrind name the place",
    RootClass.ARITHMETIC_OVERFLOW: "handle the lowest number divided by -1",
    RootClass.STACK_EXHAUSTION: "move large local arrays to the heap, or give the thread a larger stack (ulimit -s)",
    RootClass.MISALIGNED_ACCESS: "align what the pointer points to (alignas, aligned_alloc), or use unaligned loads",
    RootClass.POSSIBLE_BIT_FLIP: "look at the node's memory errors (EDAC, dmesg) before the program: one bit differs",
    RootClass.HARDWARE_MEMORY: "drain the node and have its memory tested: the kernel reported an uncorrectable error",
    RootClass.BUS_TRUNCATED_MAPPING: "find who truncated the mapped file, or whether its disk or tmpfs ran full",
}
"""Where the root cause says more than the cause class."""
_SURE = 0.6


def next_steps(report: CrashReport, verdict: Verdict) -> list[str]:
    """Steps in order of use, as sentences."""
    steps = []
    placed = verdict.cause is CauseClass.EXTERNAL_SIGNAL and tells_place(report.crash_info.type)
    if report.crash_line and (placed or verdict.cause is not CauseClass.EXTERNAL_SIGNAL):
        steps.append(f"look at {report.crash_line}")
    root = report.root_cause
    better = _BY_ROOT.get(RootClass(root.cause_class)) if root and root.confidence >= _SURE else None
    if placed:
        better = "allow that system call in the container's seccompProfile, or find out why it is made"
    if step := better or _BY_CAUSE.get(verdict.cause):
        steps.append(step)
    main = next((module for module in report.modules if module.filename == report.process.exe), None)
    wanted = f" (build-id {main.build_id})" if main and main.build_id else ""
    if report.executable is None:
        steps.append(f"give the executable{wanted} with --exe to see function names and lines")
    elif report.crash_line is None and verdict.cause is not CauseClass.EXTERNAL_SIGNAL:
        steps.append(f"give debug information{wanted} with --debug-dir, or an unstripped build, to see source lines")
    if any(module.build_id_match in ("mismatch", "absent") for module in report.modules if module is not main):
        steps.append("give the container image's file system with --sysroot so that libraries match")
    if report.core.truncated:
        steps.append("get a complete core: raise ulimit -c and leave room and time for it to be written")
    return steps
