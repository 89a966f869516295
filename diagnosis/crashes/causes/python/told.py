"""Python frames in words, from the report: the sentence about the crash says where in Python it was."""

from __future__ import annotations

from incidents.crash_report import CrashReport
from incidents.crash_verdicts import PythonFrame, PythonRuntime

_NAME = 120
_SAID = "; in Python: "


def place(frame: PythonFrame) -> str:
    """Such as `app.py:12 in handler`."""
    file = (frame.file or "?").rsplit("/", 1)[-1][-_NAME:]
    return f"{file}:{frame.line if frame.line is not None else '?'} in {(frame.function or '?')[:_NAME]}"


def told(python: PythonRuntime | None) -> str | None:
    """Where the crashed thread was in Python; with the program's own function where that called into a library."""
    frames = python.py_stack if python is not None else []
    if not frames:
        return None
    own = next((frame for frame in frames if frame.in_app), frames[0])
    return place(frames[0]) if own is frames[0] else f"{place(frames[0])}, called from {place(own)}"


def as_text(frame: PythonFrame) -> str:
    """As a traceback has it."""
    line = f", line {frame.line}" if frame.line is not None else ""
    return f'File "{frame.file or "?"}"{line}, in {frame.function or "?"}'


def with_place(sentence: str, report: CrashReport) -> str:
    """`sentence` and where in Python the crash of `report` was."""
    where = told(report.runtime.python if report.runtime else None)
    return sentence + _SAID + where if where else sentence


def placed(report: CrashReport) -> CrashReport:
    """The report whose sentence says where in Python it was, too; claims about the native code stay without."""
    sentence, root = with_place(report.mechanism or "", report), report.root_cause
    if root is not None and root.mechanism == report.mechanism:
        root = root.model_copy(update={"mechanism": sentence})
    return report.model_copy(update={"mechanism": sentence, "root_cause": root})


def without_place(sentence: str, report: CrashReport) -> str:
    """What `with_place` was given."""
    where = told(report.runtime.python if report.runtime else None)
    return sentence.removesuffix(_SAID + where) if where else sentence
