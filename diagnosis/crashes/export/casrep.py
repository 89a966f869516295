"""A crash report as CASR's `.casrep`: the JSON that casr-cli, casr-dojo and casr-cluster read (libcasr, report.rs).

CASR's lists of lines hold text in gdb's form; what a core does not tell stays empty.
"""

from __future__ import annotations

from typing import Any

from diagnosis.crashes.causes.python.told import as_text
from diagnosis.crashes.export.lines import arguments_of
from incidents.crash_report import CrashReport, Frame

_LANGUAGES = ("Asan", "Msan", "Ubsan", "Lua", "Python", "Go", "Java", "Rust", "Js", "CSharp")


def to_casrep(report: CrashReport, date: str | None = None) -> dict[str, Any]:
    """The document. `date` is that of the crash, ISO 8601, when it is known."""
    system, process = report.system_info, report.process
    document: dict[str, Any] = {
        "Date": date or "",
        "Uname": (system.kernel if system else None) or "",
        "OS": (system.os if system else None) or "",
        "OSRelease": (system.os_ver if system else None) or "",
        "Architecture": report.architecture or "",
        "ExecutablePath": process.exe or "",
        "ProcEnviron": [],
        "ProcCmdline": process.cmdline or "",
        "Stdin": "",
        "ProcStatus": "",
        "ProcMaps": [f"{m.base_addr}-{m.end_addr} {m.filename}" for m in report.modules],
        "ProcFiles": [],
        "NetworkConnections": [],
        "CrashSeverity": _severity(report),
        "Stacktrace": [_frame(frame) for frame in (report.threads[0].frames if report.threads else [])],
        "Registers": {name: int(value, 16) for name, value in report.crash_info.registers.items()},
        "Disassembly": [f"{'=>' if item.is_pc else '  '} {item.address}: {item.text}" for item in report.disassembly],
        "Package": "",
        "PackageVersion": "",
        "PackageArchitecture": "",
        "PackageDescription": "",
        "CrashLine": report.crash_line or "",
        "Source": _source(report),
    }
    reports: dict[str, list[str]] = {f"{name}Report": [] for name in _LANGUAGES}
    if report.runtime and report.runtime.rust:
        rust = report.runtime.rust
        reports["RustReport"] = [f"panicked at {rust.location}:", rust.panic_message or ""]
    if report.runtime and report.runtime.go:
        go = report.runtime.go
        reports["GoReport"] = [f"fatal error: {go.fatal}" if go.fatal else f"panic: {go.panic or ''}"]
    if report.runtime and report.runtime.python:
        reports["PythonReport"] = [as_text(frame) for frame in report.runtime.python.py_stack]
    return document | reports


def _severity(report: CrashReport) -> dict[str, str]:
    found = report.severity
    return {
        "Type": found.type if found else "UNDEFINED",
        "ShortDescription": found.short_description if found else "",
        "Description": found.description if found else "",
        "Explanation": found.explanation if found else "",
    }


def _frame(frame: Frame) -> str:
    where = f" at {frame.file}:{frame.line}" if frame.file and frame.line else ""
    inside = f" from {frame.module}" if frame.module and not where else ""
    return (
        f"#{frame.frame:<3} {frame.offset or '0x0'} in {frame.function or '??'} ({arguments_of(frame)}){where}{inside}"
    )


def _source(report: CrashReport) -> list[str]:
    for frame in report.threads[0].frames if report.threads else []:
        if frame.source_context:
            return [
                f"{'--->' if line.number == frame.line else '    '}{line.number} {line.text}"
                for line in frame.source_context.lines
            ]
    return []
