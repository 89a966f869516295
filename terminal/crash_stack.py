"""Stacks in a terminal: the crashed thread with its values, recursion as one line, equal stacks once."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from diagnosis.crashes.export.lines import (
    arguments_of,
    groups_of,
    place_of,
    python_lines,
    python_threads,
    recursion_line,
)
from incidents.crash_report import CrashReport, Frame, Thread
from terminal.plain import plain

_FRAMES, _OTHER_FRAMES = 24, 6
_GROUPS = 12
_VALUE = 100
_LOCALS = 8
_NAMED = re.compile(r"`([A-Za-z_]\w{0,60})`")


def show_source(console: Console, report: CrashReport) -> None:
    """The lines around the crash, a caret under what the mechanism names, else under the statement."""
    frames = report.threads[0].frames if report.threads else []
    frame = next((frame for frame in frames if frame.source_context and frame.source_context.lines), None)
    if frame is None or frame.source_context is None:
        return
    context = frame.source_context
    console.print()
    notes = [f"commit {context.commit[:12]}"] if context.commit else []
    notes += ["changed since the program was built"] if context.newer_than_build else []
    console.print(
        Text(plain(f"{context.path}:{frame.line}"), style="underline"), Text("; ".join(notes), style="yellow")
    )
    for line in context.lines:
        here = line.number == frame.line
        text = plain(line.text.expandtabs(4))
        console.print(Text(f"{'→' if here else ' '} {line.number:5} {text}", style="bold red" if here else ""))
        if here and text.strip():
            start, width = _marked(text, report)
            console.print(Text(f"{'':8}{'':{start}}{'^' * width}", style="bold red"))


def _marked(text: str, report: CrashReport) -> tuple[int, int]:
    """Column and width of the mark: a name that the mechanism tells, else the whole statement."""
    told = f"{report.mechanism or ''} {report.root_cause.mechanism if report.root_cause else ''}"
    for name in _NAMED.findall(told):
        if found := re.search(rf"\b{re.escape(name)}\b", text):
            return found.start(), len(name)
    statement = text.split("//")[0].rstrip() or text.rstrip()
    start = len(statement) - len(statement.lstrip())
    return start, max(1, len(statement) - start)


def show_stack(console: Console, thread: Thread) -> None:
    """The crashed thread."""
    console.print()
    name = f" {plain(thread.thread_name)}" if thread.thread_name else ""
    console.print(Text(f"Thread {thread.thread_id}{name}, crashed", style="underline"))
    left_out = recursion_line(thread)
    for frame in thread.frames[:_FRAMES]:
        if left_out is not None and frame.frame == left_out[0]:
            console.print(Text(f"   … {plain(left_out[1])}", style="yellow"))
        console.print(frame_line(frame, values=True))
        for variable in frame.locals[:_LOCALS]:
            value = plain(variable.value or "…")[:_VALUE]
            console.print(Text(f"        {plain(variable.name)} = {value}", style="dim"))
    hidden = len(thread.frames) - _FRAMES
    if hidden > 0 or (thread.truncated and left_out is None):
        more = f"{hidden} more frames" if hidden > 0 else "more frames"
        console.print(Text(f"   … {more}{', not all are listed' if thread.truncated else ''}", style="dim"))


def show_python(console: Console, report: CrashReport) -> None:
    """The crashed thread's Python frames, and in a line each where the other threads are."""
    python = report.runtime.python if report.runtime else None
    if python is None:
        return
    if python.py_stack:
        console.print()
        console.print(Text("Python, innermost call first", style="underline"))
        for line in python_lines(python, _FRAMES):
            console.print(Text(plain(line)))
    if python.threads:
        console.print()
        console.print(Text("Python in other threads", style="underline"))
        for line in python_threads(python, _GROUPS):
            console.print(Text(plain(line), style="dim"))


def show_others(console: Console, threads: Sequence[Thread]) -> None:
    """The other threads, equal stacks once, the largest group first."""
    groups = groups_of(threads)
    for group in groups[:_GROUPS]:
        console.print()
        console.print(Text(plain(group.title), style="underline"))
        frames = group.threads[0].frames
        for frame in frames[:_OTHER_FRAMES]:
            console.print(frame_line(frame, values=False))
        if len(frames) > _OTHER_FRAMES:
            console.print(Text(f"   … {len(frames) - _OTHER_FRAMES} more frames", style="dim"))
    if len(groups) > _GROUPS:
        console.print(Text(f"{len(groups) - _GROUPS} more different stacks are in --json", style="dim"))


def frame_line(frame: Frame, *, values: bool) -> Text:
    """One frame; the program's own are emphasised, found ones are marked."""
    inside = " at " if frame.file and frame.line else " in " if frame.module else " at "
    found = " (found by search)" if frame.trust == "scan" else ""
    return Text.assemble(
        (f"  #{frame.frame:<3} " if frame.frame > 999 else f"  #{frame.frame:<3}", "dim"),
        (plain(frame.function or "??"), "bold" if frame.in_app else ""),
        plain(f"({arguments_of(frame) if values else ''})"),
        (plain(f"{inside}{place_of(frame)}"), "dim"),
        (found, "yellow"),
    )
