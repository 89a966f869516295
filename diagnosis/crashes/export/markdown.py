"""A crash report as Markdown for a ticket. Outside text is escaped: no markup, no HTML, no mention comes out of it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from diagnosis.closure import closure_line, hypothesis_line
from diagnosis.crashes.export.lines import (
    arguments_of,
    groups_of,
    module_problems,
    place_of,
    python_lines,
    python_threads,
    recursion_line,
    score_line,
)
from diagnosis.workloads.timeline.onset import around_onset
from incidents.crash_report import CrashReport, Frame, Thread
from incidents.models import Diagnosis

_FRAMES, _GROUP_FRAMES, _GROUPS, _MOMENTS = 32, 6, 10, 30
_SPECIAL = re.compile(r"([\\`*_{}\[\]()!|~])")
_ENTITIES = str.maketrans({char: f"&#{ord(char)};" for char in "<>&@#"})  # no HTML, no mention, no issue
_LINK = re.compile(r"://|www\.", re.IGNORECASE)
_FENCE = re.compile(r"`{3,}")


def to_markdown(diagnosis: Diagnosis) -> str:
    """The document. `diagnosis` must hold a crash report, else ValueError."""
    report = diagnosis.crash
    if report is None:
        raise ValueError("a diagnosis without a crash report")
    cause = diagnosis.causes[0] if diagnosis.causes else None
    title = f"{report.crash_info.type or 'Crash'} in {report.process.comm or report.process.exe or 'a process'}"
    parts = [f"# {text(title)}", f"**{text(report.mechanism or 'cause unknown')}**"]
    parts.append(
        "\n".join(f"- {name}: {text(value)}" for name, value in _facts(report, cause.confidence if cause else None))
    )
    if report.threads:
        parts += _source(report.threads[0].frames)
        parts.append("## Crashed thread\n\n" + fenced(_stack(report.threads[0])))
    parts += _python(report)
    if report.threads:
        others = groups_of(report.threads[1:])
        if others:
            shown = "\n".join(f"- {text(group.title)}" for group in others[:_GROUPS])
            parts.append(f"## Other threads\n\n{shown}")
    if diagnosis.timeline:
        parts.append("## Timeline\n\n" + "\n".join(_timeline(diagnosis)))
    parts.append("## Findings\n\n" + "\n".join(_findings(diagnosis)))
    for heading, lines in (
        ("Modules", module_problems(report)),
        ("Seen before", [f"{item.text}. {item.checked}" for item in diagnosis.recalled if item.kind == "incident"]),
        ("Could not be seen", diagnosis.unseen),
        ("Ruled out", diagnosis.ruled_out),
        ("Hypotheses of a model", [hypothesis_line(item) for item in diagnosis.hypotheses]),
        ("Next", diagnosis.next_steps),
    ):
        if lines:
            parts.append(f"## {heading}\n\n" + "\n".join(f"- {text(line)}" for line in lines))
    if line := closure_line(diagnosis):
        parts.append(f"_{text(line)}._")
    return "\n\n".join(parts) + "\n"


def text(value: str) -> str:
    """`value` as one line of literal text."""
    printable = "".join(char if char.isprintable() else "�" for char in value.replace("\n", " "))
    return _LINK.sub(
        lambda found: f"&#{ord(found[0][0])};{found[0][1:]}", _SPECIAL.sub(r"\\\1", printable.translate(_ENTITIES))
    )


def fenced(lines: Iterable[str]) -> str:
    """`lines` as a code block that they cannot end."""
    body = "\n".join("".join(c if c.isprintable() else "�" for c in line) for line in lines)
    fence = "`" * max([3, *(len(run) + 1 for run in _FENCE.findall(body))])
    return f"{fence}text\n{body}\n{fence}"


def _facts(report: CrashReport, confidence: float | None) -> list[tuple[str, str]]:
    rows: list[tuple[str, str | None]] = [
        ("cause", f"{(report.cause_class or 'unknown').replace('_', ' ')}"),
        ("confidence", f"{confidence:.0%}" if confidence is not None else None),
        ("place", report.crash_line),
        ("root cause", _root_cause(report)),
        (
            "severity",
            f"{report.severity.short_description}: {report.severity.explanation}" if report.severity else None,
        ),
        ("signature", report.signature),
        ("group", report.signatures.group_id if report.signatures else None),
        ("history", report.history.sentence if report.history else None),
        ("value", score_line(report)),
        ("command", report.process.cmdline),
        ("core", f"sha256 {report.core.sha256}, {report.core.size} bytes, {report.status}"),
    ]
    return [(name, value) for name, value in rows if value]


def _root_cause(report: CrashReport) -> str | None:
    cause = report.root_cause
    if cause is None:
        return None
    cwe = f" ({', '.join(cause.cwe)})" if cause.cwe else ""
    return f"{cause.cause_class.replace('_', ' ')}{cwe}: {cause.mechanism}"


def _source(frames: list[Frame]) -> list[str]:
    frame = next((frame for frame in frames if frame.source_context and frame.source_context.lines), None)
    if frame is None or frame.source_context is None:
        return []
    lines = [
        f"{'>' if line.number == frame.line else ' '} {line.number:5} {line.text}"
        for line in frame.source_context.lines
    ]
    return [f"## {text(place_of(frame))}\n\n" + fenced(lines)]


def _stack(thread: Thread) -> list[str]:
    left_out = recursion_line(thread)
    lines = []
    for frame in thread.frames[:_FRAMES]:
        if left_out is not None and frame.frame == left_out[0]:
            lines.append(f"     … {left_out[1]}")
        lines.append(f"#{frame.frame:<3} {frame.function or '??'}({arguments_of(frame)}) at {place_of(frame)}")
    if len(thread.frames) > _FRAMES:
        lines.append(f"     … {len(thread.frames) - _FRAMES} more frames")
    return lines


def _python(report: CrashReport) -> list[str]:
    python = report.runtime.python if report.runtime else None
    if python is None:
        return []
    parts = []
    if python.py_stack:
        parts.append(f"## Python {text(python.version or '')} stack\n\n" + fenced(python_lines(python, _FRAMES)))
        if python.exception:
            parts.append(f"Raised or handled: {text(python.exception)}")
    if python.threads:
        shown = "\n".join(f"- {text(line)}" for line in python_threads(python, _GROUPS))
        parts.append(f"## Other threads in Python\n\n{shown}")
    return parts


def _timeline(diagnosis: Diagnosis) -> list[str]:
    lines = []
    for moment in around_onset(diagnosis.timeline, _MOMENTS):
        until = f" to {moment.until:%Y-%m-%d %H:%M:%S}" if moment.until else ""
        times = f", {moment.count} times" if moment.count > 1 else ""
        first = " **(first seen)**" if moment.onset else ""
        lines.append(f"- {moment.at:%Y-%m-%d %H:%M:%S}{until} UTC{times}: {text(moment.text)}{first}")
    return lines


def _findings(diagnosis: Diagnosis) -> list[str]:
    sources = {item.id: item.source for item in diagnosis.evidence}
    lines = []
    for finding in diagnosis.findings:
        lines.append(f"- {text(finding.claim)}")
        lines += [f"  - {text(key)}: {text(sources.get(key, ''))}" for key in finding.evidence_ids]
    return lines
