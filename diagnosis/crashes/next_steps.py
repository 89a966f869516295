"""What a person can do next about a crash."""

from __future__ import annotations

from diagnosis.crashes.classify import Verdict
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


def next_steps(report: CrashReport, verdict: Verdict) -> list[str]:
    """Steps in order of use, as sentences."""
    steps = []
    if report.crash_line and verdict.cause is not CauseClass.EXTERNAL_SIGNAL:
        steps.append(f"look at {report.crash_line}")
    if verdict.cause in _BY_CAUSE:
        steps.append(_BY_CAUSE[verdict.cause])
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
