"""A crash diagnosis for people, in a terminal. All outside text is shown without control characters."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from diagnosis.closure import closure_line, hypothesis_line
from diagnosis.crashes.export.lines import module_problems, score_line
from incidents.crash_report import CrashReport
from incidents.models import Diagnosis
from terminal.crash_stack import show_others, show_python, show_source, show_stack
from terminal.plain import plain

_SEVERITY_STYLE = {"EXPLOITABLE": "bold red", "PROBABLY_EXPLOITABLE": "red"}


def show_crash(console: Console, diagnosis: Diagnosis) -> None:
    """Print `diagnosis`, which must hold a crash report, to `console`. Sections that say nothing are left out."""
    report = diagnosis.crash
    if report is None:
        raise ValueError("a diagnosis of a core holds a crash report")
    _headline(console, report, diagnosis)
    _facts(console, report)
    show_source(console, report)
    if report.threads:
        show_stack(console, report.threads[0])
        show_python(console, report)
        show_others(console, report.threads[1:])
    _evidence(console, diagnosis)
    _list(console, "Modules", module_problems(report), "yellow")
    _list(console, "Could not be seen", diagnosis.unseen, "yellow")
    _list(console, "Ruled out", diagnosis.ruled_out, "dim")
    _list(console, "Hypotheses of a model", [hypothesis_line(item) for item in diagnosis.hypotheses], "")
    _list(console, "Next", diagnosis.next_steps, "")
    if line := closure_line(diagnosis):
        console.print()
        console.print(Text(line, style="dim"))


def _headline(console: Console, report: CrashReport, diagnosis: Diagnosis) -> None:
    """What, where, why, how sure."""
    cause = diagnosis.causes[0]
    console.print(
        Text.assemble(
            (plain(report.crash_info.type or "unknown signal"), "bold red"),
            f" in {plain(cause.object.name)}",
            f" (pid {report.process.pid})" if report.process.pid else "",
            f": {cause.cause_class.value.replace('_', ' ')}, confidence {cause.confidence:.0%}",
        )
    )
    console.print(Text(plain(report.mechanism or ""), style="bold"))
    root = report.root_cause
    if root is not None and root.mechanism != report.mechanism:
        cwe = f" ({', '.join(root.cwe)})" if root.cwe else ""
        label = f"{root.cause_class.replace('_', ' ')}{cwe}: "
        console.print(Text.assemble((plain(label), "bold"), plain(root.mechanism)))
    if report.severity is not None:
        rated = report.severity
        style = _SEVERITY_STYLE.get(rated.type, "")
        kind = f"{rated.type.replace('_', ' ').lower()}, {rated.short_description}: "
        console.print(Text.assemble((kind, style), plain(rated.explanation)))


def _facts(console: Console, report: CrashReport) -> None:
    core, names = report.core, report.signatures
    packed = f", packed with {core.compression}" if core.compression else ""
    reduced = ", reduced" if core.minimised else ""
    rows = [
        ("history", report.history.sentence if report.history else None),
        ("signature", report.signature),
        ("group", names.group_id if names else None),
        ("value", score_line(report)),
        ("command", report.process.cmdline),
        ("executable", f"{report.executable} ({report.executable_match})" if report.executable else "not at hand"),
        ("core", f"{core.size} bytes{packed}{reduced}, sha256 {(core.sha256 or 'not computed')[:16]}, {report.status}"),
        *_runtime(report),
    ]
    for name, value in rows:
        if value:
            console.print(Text.assemble((f"  {name:<11}", "dim"), plain(value)))


def _runtime(report: CrashReport) -> list[tuple[str, str | None]]:
    found = report.runtime
    if found is None:
        return []
    rows: list[tuple[str, str | None]] = []
    if found.go is not None:
        rows.append(("goroutines", str(found.go.goroutines) if found.go.goroutines is not None else None))
        rows.append(("fatal", found.go.fatal) if found.go.fatal else ("panic", found.go.panic))
    if found.python is not None:
        rows.append(("python", found.python.version))
        rows.append(("exception", found.python.exception))
    return rows


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
