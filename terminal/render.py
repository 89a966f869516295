"""A diagnosis for people: causes with what they rest on, each quotation with its source, and what to do next.

Everything shown comes from outside (logs, names, messages), so it is printed as plain text: no markup, no control
characters.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from diagnosis.closure import closure_line, hypothesis_line
from diagnosis.workloads.timeline.onset import around_onset, began
from incidents.models import Cause, CauseClass, Diagnosis, DiagnosisStatus, Evidence, Finding, Moment

_EXCERPT_CHARS = 300
_FINDINGS_SHOWN = 6
_MOMENTS_SHOWN = 20
_STYLES = {
    DiagnosisStatus.DIAGNOSED: "bold red",
    DiagnosisStatus.UNKNOWN: "bold yellow",
    DiagnosisStatus.HEALTHY: "bold green",
    DiagnosisStatus.FAILED: "bold red",
}


def plain(text: str) -> str:
    """`text` with control and direction characters shown as escapes, so that a log cannot drive the terminal."""
    return "".join(
        char
        if char == "\n" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
        else "    "
        if char == "\t"
        else char.encode("unicode_escape").decode()
        for char in text
    )


def show_diagnosis(console: Console, diagnosis: Diagnosis) -> None:
    """Print a diagnosis of workloads."""
    console.print(Text(_headline(diagnosis), style=_STYLES[diagnosis.status]))
    findings = {finding.id: finding for finding in diagnosis.findings}
    evidence = {item.id: item for item in diagnosis.evidence}
    for number, cause in enumerate(diagnosis.causes, start=1):
        console.print()
        _show_cause(console, number, cause, findings, evidence)
    if not diagnosis.causes:
        for finding in diagnosis.findings[:_FINDINGS_SHOWN]:
            _show_finding(console, finding, evidence)
    _show_timeline(console, diagnosis.timeline)
    _show_list(console, "Hypotheses of a model", map(hypothesis_line, diagnosis.hypotheses))
    _show_list(console, "Explanation", [diagnosis.explanation] if diagnosis.explanation else [])
    _show_list(console, "Next steps", diagnosis.next_steps)
    _show_list(console, "Ruled out", diagnosis.ruled_out)
    _show_list(console, "Not seen", diagnosis.unseen)
    if line := closure_line(diagnosis):
        console.print()
        console.print(Text(line, style="dim"))


def _headline(diagnosis: Diagnosis) -> str:
    known = [cause for cause in diagnosis.causes if cause.cause_class is not CauseClass.UNKNOWN]
    if diagnosis.status is DiagnosisStatus.DIAGNOSED:
        return f"Diagnosed: {len(known)} cause{'s' if len(known) != 1 else ''}, likeliest first"
    return {
        DiagnosisStatus.UNKNOWN: "Unknown: something is wrong, and nothing observed says why",
        DiagnosisStatus.HEALTHY: "Healthy: nothing is wrong with what was looked at",
    }.get(diagnosis.status, "Failed: nothing could be looked at")


def _show_cause(
    console: Console, number: int, cause: Cause, findings: dict[str, Finding], evidence: dict[str, Evidence]
) -> None:
    title = Text(f"{number}. {cause.cause_class.value}", style="bold")
    title.append(plain(f"  {cause.object}"), style="cyan")
    title.append(f"  confidence {cause.confidence:.0%}", style="dim")
    console.print(title)
    _print(console, plain(cause.summary), 3)
    if len(cause.chain) > 1:
        _print(console, plain("From symptom to cause: " + " → ".join(cause.chain)), 3)
    for finding_id in cause.finding_ids[:_FINDINGS_SHOWN]:
        if finding_id in findings:
            _show_finding(console, findings[finding_id], evidence)
    if len(cause.finding_ids) > _FINDINGS_SHOWN:
        more = len(cause.finding_ids) - _FINDINGS_SHOWN
        _print(console, f"and {more} more findings (--json has all)", 3, "dim")


def _show_finding(console: Console, finding: Finding, evidence: dict[str, Evidence]) -> None:
    _print(console, f"- {plain(finding.claim)}", 3)
    for evidence_id in finding.evidence_ids:
        item = evidence.get(evidence_id)
        if item is None:
            continue
        _print(console, plain(item.source), 5, "dim")
        excerpt = plain(_telling_part(item.excerpt, finding.claim))
        if excerpt.strip() and excerpt.strip() not in plain(finding.claim):
            _print(console, excerpt, 7, "italic dim")


def _show_timeline(console: Console, moments: Sequence[Moment]) -> None:
    if not moments:
        return
    shown = around_onset(moments, _MOMENTS_SHOWN)
    console.print()
    more = f"  {len(shown)} of {len(moments)} entries; --json has all" if len(shown) < len(moments) else ""
    console.print(Text.assemble(("Timeline (UTC)", "bold"), (more, "dim")))
    if (sentence := began(moments)) is not None:
        _print(console, plain(sentence), 3)
    day = None
    for moment in shown:
        if moment.at.date() != day:
            day = moment.at.date()
            _print(console, f"{day}", 3, "dim")
        until = f" to {moment.until:%H:%M:%S}" if moment.until else ""
        times = f" ({moment.count} times)" if moment.count > 1 else ""
        mark = ">" if moment.onset else " "
        line = f"{mark} {moment.at:%H:%M:%S}  {moment.kind.value:8}  {moment.text}{times}{until}"
        _print(console, plain(line), 3, "bold red" if moment.onset else "")


def _telling_part(excerpt: str, claim: str) -> str:
    """The part of an excerpt around what the claim quotes; else its start."""
    excerpt = excerpt.strip("\n")
    if len(excerpt) <= _EXCERPT_CHARS:
        return excerpt
    quoted = claim.partition("«")[2].partition("»")[0]
    at = excerpt.find(quoted) if quoted else 0
    start = max(0, at - 60)
    part = excerpt[start : start + _EXCERPT_CHARS]
    return f"{'…' if start else ''}{part}{'…' if start + _EXCERPT_CHARS < len(excerpt) else ''}"


def _show_list(console: Console, title: str, lines: Iterable[str]) -> None:
    shown = list(lines)
    if not shown:
        return
    console.print()
    console.print(Text(title, style="bold"))
    for line in shown:
        _print(console, f"- {plain(line)}", 3)


def _print(console: Console, text: str, indent: int, style: str = "") -> None:
    """Whole lines, never cut: a source that was cut cannot be looked at again."""
    console.print(Text(textwrap.indent(text, " " * indent), style=style), soft_wrap=True)
