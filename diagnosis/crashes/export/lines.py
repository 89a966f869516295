"""Lines that every rendering of a crash report shares: frames, groups of threads, recursion. Plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from diagnosis.crashes.causes.python.told import place
from incidents.crash_report import CrashReport, Frame, Thread
from incidents.crash_verdicts import PythonFrame, PythonRuntime

_VALUE = 100
_PYTHON_CALLERS = 3
_STATES = {
    "futex": "waiting for a lock or condition",
    "poll": "waiting for events",
    "sleep": "sleeping",
    "io": "in input or output",
    "wait": "waiting for a child process",
    "signal": "waiting for a signal",
}


@dataclass(frozen=True)
class ThreadGroup:
    """Threads with the same stack."""

    threads: tuple[Thread, ...]

    @property
    def title(self) -> str:
        """Such as `187 threads in epoll_wait (101, 102, …)`."""
        first = self.threads[0]
        ids = ", ".join(str(thread.thread_id) for thread in self.threads[:6]) + (", …" if len(self.threads) > 6 else "")
        many = f"{len(self.threads)} threads" if len(self.threads) > 1 else "1 thread"
        top = next((frame.function for frame in first.frames[:4] if frame.function), None)
        where = f" in {top}" if top else ""
        doing = f", {_STATES[first.state]}" if first.state in _STATES else ""
        return f"{many}{where}{doing} ({ids})"


def groups_of(threads: Sequence[Thread]) -> list[ThreadGroup]:
    """`threads` by stack, the largest group first."""
    found: dict[object, list[Thread]] = {}
    for thread in threads:
        names = tuple(frame.function or f"{frame.module}+{frame.module_offset}" for frame in thread.frames)
        found.setdefault(names, []).append(thread)
    return [ThreadGroup(tuple(members)) for members in sorted(found.values(), key=len, reverse=True)]


def place_of(frame: Frame) -> str:
    """Source line, else module and offset, else address."""
    if frame.file and frame.line:
        return f"{frame.file}:{frame.line}"
    if frame.module:
        return f"{frame.module}+{frame.module_offset}"
    return frame.offset or "?"


def arguments_of(frame: Frame) -> str:
    return ", ".join(f"{item.name}={(item.value or '…')[:_VALUE]}" for item in frame.args)


def recursion_line(thread: Thread) -> tuple[int, str] | None:
    """(number of the first frame below it, text) of the rounds that are not listed; None without any."""
    recursion = thread.recursion
    if recursion is None or not recursion.omitted:
        return None
    after = next((f.frame for a, f in zip(thread.frames, thread.frames[1:], strict=False) if f.frame > a.frame + 1), -1)
    last = recursion.first + recursion.period * recursion.count - 1
    names = " → ".join(recursion.functions[:6]) + (" → …" if len(recursion.functions) > 6 else "")
    return after, f"frames {recursion.first} to {last}: {names}, {recursion.count} rounds"


def python_lines(python: PythonRuntime, limit: int) -> list[str]:
    """The crashed thread's Python frames, innermost first, at most `limit` lines; equal calls in a row are one line."""
    lines: list[str] = []
    before = -1
    for _, same in groupby(python.py_stack, key=_python_call):
        calls = list(same)
        number = calls[0].frame or 0
        if number > before + 1:
            lines.append(f"     … {number - before - 1} more")
        before = calls[-1].frame or 0
        count = before - number + 1
        rounds = f", {count} calls" if count > 1 else ""
        lines.append(f"#{number:<3} {_python_call(calls[0])}{rounds}")
    if python.truncated:
        lines.append("     … more, which were not read")
    return lines if len(lines) <= limit else [*lines[:limit], f"     … {len(lines) - limit} more lines"]


def python_threads(python: PythonRuntime, limit: int) -> list[str]:
    """Where the other threads are in Python; equal stacks are one line, the largest group first."""
    groups: dict[str, list[str]] = {}
    for thread in python.threads:
        callers = [place(frame) for frame in thread.frames[:_PYTHON_CALLERS]]
        more = " ← …" if len(thread.frames) > _PYTHON_CALLERS or thread.truncated else ""
        groups.setdefault(" ← ".join(callers) + more, []).append(str(thread.native_tid))
    lines = []
    for where, tids in sorted(groups.items(), key=lambda item: len(item[1]), reverse=True):
        many = f"{len(tids)} threads" if len(tids) > 1 else "thread"
        lines.append(f"{many} {', '.join(tids[:6])}{', …' if len(tids) > 6 else ''}: {where}")
    return lines if len(lines) <= limit else [*lines[:limit], f"… {len(lines) - limit} more stacks"]


def _python_call(frame: PythonFrame) -> str:
    where = f"{frame.file or '?'}:{frame.line if frame.line is not None else '?'}"
    return f"{frame.function or '?'} at {where}"


def module_problems(report: CrashReport) -> list[str]:
    """Modules whose file is missing or another one, and what would mend it."""
    wrong = [module for module in report.modules if module.build_id_match == "mismatch"]
    absent = [module for module in report.modules if module.build_id_match == "absent"]
    found = [f"{module.filename} here is another build than the one that crashed; it was not used" for module in wrong]
    if absent:
        names = ", ".join(module.filename.rsplit("/", 1)[-1] for module in absent[:6])
        more = f" and {len(absent) - 6} more" if len(absent) > 6 else ""
        found.append(f"not at hand: {names}{more}; give the image's file system with --sysroot DIR")
    return found


def score_line(report: CrashReport) -> str | None:
    """The value score and what it is made of."""
    if report.value_score is None:
        return None
    parts = ", ".join(f"{name.replace('_', ' ')} {value:+.1f}" for name, value in report.value_score.components.items())
    return f"{report.value_score.total:.1f} of 10 ({parts})"
