"""Which crash it is: all its names, and what it is worth, added to a report that is otherwise complete."""

from __future__ import annotations

import hashlib

from diagnosis.crashes.frames import relevant
from diagnosis.crashes.groups.hashes import address_signature, duphash
from diagnosis.crashes.groups.reason import reason_of
from diagnosis.crashes.groups.stack import VERSION, NormalStack, named_frames, normal_stack, outside
from diagnosis.crashes.signals import tells_place
from diagnosis.crashes.value import value_score
from incidents.crash_frames import Frame
from incidents.crash_report import CrashReport
from incidents.crash_verdicts import Signatures
from incidents.models import CauseClass

_NEAR_NULL = 1 << 16


def identified(report: CrashReport) -> CrashReport:
    """`report` with `signatures` and `value_score`.

    `group_id` is that of the group which this crash founds where it is the first; a record that knows earlier crashes
    may put another one there.
    """
    frames = report.threads[0].frames if report.threads else []
    stack = stack_of(report)
    _, names = named_frames(frames)
    external = _by_chance(report)
    signatures = Signatures(
        siggen=report.signature,
        duphash=None if external else duphash(names),
        address_sig=None if external else address_signature(_told(report, frames)),
        group_id=stack.key if stack else None,
        version=VERSION,
    )
    return report.model_copy(update={"signatures": signatures, "value_score": value_score(report)})


def _told(report: CrashReport, frames: list[Frame]) -> list[Frame]:
    """Without the way from a Go panic to the signal: delve and Go's own tables show different frames of it."""
    inner = relevant(frames) if report.runtime and report.runtime.go else []
    return frames[frames.index(inner[0]) :] if inner else frames


def stack_of(report: CrashReport) -> NormalStack | None:
    """The crashing thread's stack as groups see it; of a signal from outside, only who was hit."""
    if not report.threads:
        return None
    signal = (report.crash_info.type or "").split(" / ")[0] or None
    if _by_chance(report):
        return outside(report.process.exe, signal)
    thread = report.threads[0]
    return normal_stack(
        thread.frames,
        signal=signal,
        program=report.process.exe,
        overflow=report.cause_class == CauseClass.STACK_OVERFLOW,
        round_of=thread.recursion.functions if thread.recursion else (),
        reason=why(report),
    )


def _by_chance(report: CrashReport) -> bool:
    """Where the program was when it ended is chance."""
    return report.cause_class == CauseClass.EXTERNAL_SIGNAL and not tells_place(report.crash_info.type)


def why(report: CrashReport) -> str | None:
    """The reason that the program gave for ending itself; see groups/reason.py."""
    info, rust = report.crash_info, report.runtime.rust if report.runtime else None
    exception = info.exception.type if info.exception else None
    return reason_of(report.cause_class, info.abort_message, exception, rust.location if rust else None)


def identity_of(report: CrashReport) -> str | None:
    """A hash that is equal for the same crash of the same build; it needs no symbols. None when too little is known.

    It covers the build-ids and offsets of the crashing thread's return addresses (`address_sig`), signal and code, and
    the address that was accessed where it is near null. Without such a stack only the same file is the same crash.
    """
    info, names = report.crash_info, report.signatures
    if names is not None and names.address_sig is not None:
        address = int(info.address, 16) if info.address else -1
        near = info.address if 0 <= address < _NEAR_NULL else "far"
        parts = ["stack", str(names.version), names.address_sig, str(info.si_signo), str(info.si_code), str(near)]
    elif report.core.sha256 is not None:
        parts = ["file", report.core.sha256]
    else:
        return None
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:40]
