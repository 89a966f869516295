"""A crash diagnosis for people, in a terminal. All outside text is shown without control characters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from diagnosis.crashes.frames import in_application
from incidents.crash_report import CrashReport, Frame, Thread
from incidents.models import Diagnosis

_SOURCE_SUFFIXES = {".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".hxx", ".inl", ".rs", ".go", ".s", ".S"}
_SOURCE_BYTES = 4 << 20
_CONTEXT = 3
_FRAMES, _OTHER_FRAMES = 24, 6
_GROUPS = 12
_VALUE = 100


def show_crash(console: Console, diagnosis: Diagnosis) -> None:
    """Print `diagnosis`, which must hold a crash report, to `console`."""
    report = diagnosis.crash
    if report is None:
        raise ValueError("a diagnosis of a core holds a crash report")
    _header(console, report, diagnosis)
    own = in_application(report.threads[0].frames) if report.threads else None
    if own is not None:
        _source(console, own)
    if report.threads:
        _stack(console, report.threads[0])
        _other_threads(console, report.threads[1:])
    _evidence(console, diagnosis)
    _list(console, "Could not be seen", diagnosis.unseen, "yellow")
    _list(console, "Ruled out", diagnosis.ruled_out, "dim")
    _list(console, "Next", diagnosis.next_steps, "")


def _header(console: Console, report: CrashReport, diagnosis: Diagnosis) -> None:
    info = report.crash_info
    cause = diagnosis.causes[0]
    console.print(
        Text.assemble(
            (plain(info.type or "unknown signal"), "bold red"),
            f" in {plain(cause.object.name)}",
            f" (pid {report.process.pid})" if report.process.pid else "",
            f": {cause.cause_class.value.replace('_', ' ')}, confidence {cause.confidence:.0%}",
        )
    )
    console.print(Text(plain(report.mechanism or ""), style="bold"))
    rows = [
        ("signature", report.signature),
        ("command", report.process.cmdline),
        ("executable", f"{report.executable} ({report.executable_match})" if report.executable else "not at hand"),
        ("core", f"{report.core.size} bytes, sha256 {(report.core.sha256 or 'not computed')[:16]}, {report.status}"),
    ]
    for name, value in rows:
        if value:
            console.print(Text.assemble((f"  {name:<11}", "dim"), plain(value)))


def _source(console: Console, frame: Frame) -> None:
    """The lines around the crash when the source file is on this machine."""
    lines = list(_excerpt(frame))
    if not lines:
        return
    console.print()
    console.print(Text(plain(f"{frame.file}:{frame.line}"), style="underline"))
    for number, text in lines:
        here = number == frame.line
        console.print(Text(f"{'→' if here else ' '} {number:5} {plain(text)}", style="bold red" if here else ""))


def _excerpt(frame: Frame) -> Iterator[tuple[int, str]]:
    # debug information can name any file: only what looks like source is read
    if not frame.file or not frame.line or Path(frame.file).suffix not in _SOURCE_SUFFIXES:
        return
    path = Path(frame.file)
    try:
        if not path.is_file() or path.stat().st_size > _SOURCE_BYTES:
            return
        lines = path.read_text("utf-8", "replace").splitlines()
    except (OSError, ValueError):
        return
    first = max(0, frame.line - 1 - _CONTEXT)
    yield from enumerate(lines[first : frame.line + _CONTEXT], first + 1)


def _stack(console: Console, thread: Thread) -> None:
    console.print()
    name = f" {plain(thread.thread_name)}" if thread.thread_name else ""
    console.print(Text(f"Thread {thread.thread_id}{name}, crashed", style="underline"))
    for frame in thread.frames[:_FRAMES]:
        console.print(_frame_line(frame, values=True))
        for variable in frame.locals[:8]:
            console.print(
                Text(f"        {plain(variable.name)} = {plain(variable.value or '…')[:_VALUE]}", style="dim")
            )
    hidden = len(thread.frames) - _FRAMES
    if hidden > 0 or thread.truncated:
        more = f"{hidden} more frames" if hidden > 0 else "more frames"
        console.print(Text(f"   … {more}{', not all were read' if thread.truncated else ''}", style="dim"))


def _frame_line(frame: Frame, *, values: bool) -> Text:
    arguments = ", ".join(f"{item.name}={(item.value or '…')[:_VALUE]}" for item in frame.args) if values else ""
    if frame.file and frame.line:
        where = f" at {frame.file}:{frame.line}"
    elif frame.module:
        where = f" in {frame.module}+{frame.module_offset}"
    else:
        where = f" at {frame.offset}"
    return Text.assemble(
        (f"  #{frame.frame:<3}", "dim"),
        (plain(frame.function or "??"), "bold" if frame.in_app else ""),
        plain(f"({arguments})"),
        (plain(where), "dim"),
    )


def _other_threads(console: Console, threads: list[Thread]) -> None:
    """The other threads, equal stacks once."""
    groups: dict[tuple[str, ...], list[Thread]] = {}
    for thread in threads:
        key = tuple(frame.function or f"{frame.module}+{frame.module_offset}" for frame in thread.frames)
        groups.setdefault(key, []).append(thread)
    for members in sorted(groups.values(), key=len, reverse=True)[:_GROUPS]:
        console.print()
        ids = ", ".join(str(thread.thread_id) for thread in members[:6]) + (", …" if len(members) > 6 else "")
        count = f"{len(members)} threads with this stack" if len(members) > 1 else "Thread"
        console.print(Text(f"{count} ({ids})", style="underline"))
        for frame in members[0].frames[:_OTHER_FRAMES]:
            console.print(_frame_line(frame, values=False))
        if len(members[0].frames) > _OTHER_FRAMES:
            console.print(Text(f"   … {len(members[0].frames) - _OTHER_FRAMES} more frames", style="dim"))
    if len(groups) > _GROUPS:
        console.print(Text(f"{len(groups) - _GROUPS} more different stacks are in --json", style="dim"))


def _evidence(console: Console, diagnosis: Diagnosis) -> None:
    console.print()
    console.print(Text("Findings and their evidence", style="underline"))
    sources = {item.id: item.source for item in diagnosis.evidence}
    for finding in diagnosis.findings:
        console.print(Text(f"  {finding.severity.value}: {plain(finding.claim)}"))
        for identifier in finding.evidence_ids:
            console.print(Text(f"      {identifier}  {plain(sources.get(identifier, ''))}", style="dim"))


def _list(console: Console, title: str, lines: list[str], style: str) -> None:
    if not lines:
        return
    console.print()
    console.print(Text(title, style="underline"))
    for line in lines:
        console.print(Text(f"  - {plain(line)}", style=style))


def plain(text: str) -> str:
    """`text` without anything a terminal would obey: control characters, line breaks, direction marks."""
    return "".join(char if char.isprintable() else "�" for char in text.replace("\n", " "))
