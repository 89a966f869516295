"""Which crash it is: all its names, and what it is worth, added to a report that is otherwise complete."""

from __future__ import annotations

from diagnosis.crashes.groups.hashes import address_signature, duphash
from diagnosis.crashes.groups.stack import VERSION, NormalStack, named_frames, normal_stack
from diagnosis.crashes.value import value_score
from incidents.crash_report import CrashReport
from incidents.crash_verdicts import Signatures
from incidents.models import CauseClass


def identified(report: CrashReport) -> CrashReport:
    """`report` with `signatures` and `value_score`.

    `group_id` is that of the group which this crash founds where it is the first; a record that knows earlier crashes
    may put another one there.
    """
    frames = report.threads[0].frames if report.threads else []
    stack = stack_of(report)
    _, names = named_frames(frames)
    external = report.cause_class == CauseClass.EXTERNAL_SIGNAL
    signatures = Signatures(
        siggen=report.signature,
        duphash=None if external else duphash(names),
        address_sig=None if external else address_signature(frames),
        group_id=stack.key if stack else None,
        version=VERSION,
    )
    return report.model_copy(update={"signatures": signatures, "value_score": value_score(report)})


def stack_of(report: CrashReport) -> NormalStack | None:
    """The crashing thread's stack as groups see it; of a signal from outside, only who was hit."""
    if not report.threads:
        return None
    signal = (report.crash_info.type or "").split(" / ")[0] or None
    if report.cause_class == CauseClass.EXTERNAL_SIGNAL:
        return NormalStack(("sent from outside", report.process.exe or ""), 0, f"|{signal or ''}")
    thread = report.threads[0]
    return normal_stack(
        thread.frames,
        signal=signal,
        program=report.process.exe,
        overflow=report.cause_class == CauseClass.STACK_OVERFLOW,
        round_of=thread.recursion.functions if thread.recursion else (),
    )
