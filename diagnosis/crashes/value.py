"""What a core is worth to an engineer, 0 to 10: which of many crashes to open first.

The sum of what can be measured, clamped to 0 … 10:

| component | range | from |
| --- | --- | --- |
| evidence | 0 to 2.5 | satyr's quality: 0.25 × all frames + 0.35 × crashing thread + 0.4 × top 5, that have a name |
| novelty | 0 or 2 | 2 when no earlier crash of the group is known |
| severity | 0 to 2.5 | EXPLOITABLE 2.5, PROBABLY_EXPLOITABLE 1.75, NOT_EXPLOITABLE 0.75, anything else 0.5 |
| in_app | 0 to 1.5 | innermost frame of the program: with source line 1.5, with a name 1, without 0.5 |
| blast_radius | 0 to 1.5 | 0.5 × log2(pods that crashed this way within the hour) |
| external_kill | -4 | the signal was sent from outside: the stack is where the program happened to be |
| truncated | -0.5 to -1.5 | 0.5 + the share of the core that is missing |
| known_group | -0.5 to -2 | 0.5 + 0.25 × log2(earlier crashes of the group) |

A fresh, ordinary null dereference with symbols has 2.5 + 2 + 0.75 + 1.5 = 6.75. What is above needs a control-flow
hijack, a write through a wild pointer, or a spreading crash; the same crash for the tenth time has 3.5. The only
public score for cores (milvus-coredump-agent, pkg/analyzer) gives any fresh SIGSEGV 10, which ranks nothing. No model
has a say in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

from diagnosis.crashes.frames import in_application, relevant
from diagnosis.crashes.signals import tells_place
from incidents.crash_report import CrashReport, Frame
from incidents.crash_verdicts import ValueScore
from incidents.models import CauseClass

_SEVERITY = {"EXPLOITABLE": 2.5, "PROBABLY_EXPLOITABLE": 1.75, "NOT_EXPLOITABLE": 0.75}
_EVIDENCE, _NOVELTY, _UNRATED, _BLAST, _EXTERNAL = 2.5, 2.0, 0.5, 1.5, -4.0


def value_score(report: CrashReport, *, earlier: int = 0, pods_last_hour: int | None = None) -> ValueScore:
    """The score of a crash of whose group `earlier` crashes are on record.

    `pods_last_hour` counts different pods that crashed the same way within an hour, this one included; None: unknown.
    """
    parts = {
        "evidence": _EVIDENCE * evidence_quality(report),
        "novelty": 0.0 if earlier else _NOVELTY,
        "severity": _SEVERITY.get(report.severity.type, _UNRATED) if report.severity else _UNRATED,
        "in_app": _in_app(report),
    }
    if pods_last_hour is not None and pods_last_hour > 1:
        parts["blast_radius"] = min(0.5 * log2(pods_last_hour), _BLAST)
    if report.cause_class == CauseClass.EXTERNAL_SIGNAL and not tells_place(report.crash_info.type):
        parts["external_kill"] = _EXTERNAL
    if report.core.truncated:
        whole = (report.core.size or 0) + report.core.missing_bytes
        parts["truncated"] = -0.5 - (report.core.missing_bytes / whole if whole else 1.0)
    if earlier:
        parts["known_group"] = -min(0.5 + 0.25 * log2(earlier), 2.0)
    rounded = {name: round(value, 2) for name, value in parts.items()}
    return ValueScore(total=round(min(max(sum(rounded.values()), 0.0), 10.0), 2), components=rounded)


def evidence_quality(report: CrashReport) -> float:
    """0 to 1: how much of the stacks has names. satyr, lib/gdb_stacktrace.c, `quality_complex`."""
    if not report.threads:
        return 0.0
    crashed = report.threads[0].frames
    every = [frame for thread in report.threads for frame in thread.frames]
    return 0.25 * _named(every) + 0.35 * _named(crashed) + 0.4 * _named(relevant(crashed)[:5])


def _named(frames: Sequence[Frame]) -> float:
    return sum(frame.function is not None for frame in frames) / len(frames) if frames else 0.0


def _in_app(report: CrashReport) -> float:
    frame = in_application(report.threads[0].frames) if report.threads else None
    if frame is None:
        return 0.0
    if frame.file is not None and frame.line is not None:
        return 1.5
    return 1.0 if frame.function else 0.5
