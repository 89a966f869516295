"""The CrashReport of a core: notes and memory, completed by what a debugger saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from diagnosis.crashes.accesses import adjusted_address, inconsistencies, memory_accesses
from diagnosis.crashes.bit_flips import bit_flips
from diagnosis.crashes.causes.go import Goroutines
from diagnosis.crashes.causes.python.stack import PythonStacks
from diagnosis.crashes.causes.runtime import runtime_of
from diagnosis.crashes.causes.rust import RustPanic
from diagnosis.crashes.classify import Verdict, classify
from diagnosis.crashes.code import instruction_at, instructions_at
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.frames import CRASHED_HANDLER, HANDLER_FRAME, in_application, is_exit, normalize, relevant
from diagnosis.crashes.groups.reason import reason_of
from diagnosis.crashes.handled import ended_in_handler
from diagnosis.crashes.mechanism import mechanism, place
from diagnosis.crashes.memory_causes import MemoryText, ThrownObject
from diagnosis.crashes.modules import Match, Modules
from diagnosis.crashes.process_secrets import ProcessSecrets
from diagnosis.crashes.sections import KnownNames
from diagnosis.crashes.severity.rate import severity_of
from diagnosis.crashes.signals import FAULTS, SI_KERNEL, code_name, signal_name, was_sent
from diagnosis.crashes.signature import signature
from diagnosis.crashes.surroundings import memory_near
from diagnosis.crashes.threads import threads_of
from diagnosis.crashes.unwind.walk import Walk
from diagnosis.crashes.view import DebuggerView
from incidents.crash_report import (
    CoreFile as CoreInfo,
)
from incidents.crash_report import (
    CrashInfo,
    CrashReport,
    CxxException,
    Instruction,
    Module,
    Process,
    Sender,
    Thread,
)
from incidents.models import CauseClass


@dataclass(frozen=True)
class Observed:
    """Everything that was read of one core, before any conclusion."""

    core: CoreFile
    sha256: str | None
    modules: Modules
    matches: Mapping[str, Match]
    files_used: Mapping[str, str]
    executable: str | None
    executable_match: Match
    message: MemoryText | None
    thrown: ThrownObject | None
    view: DebuggerView
    soft_errors: tuple[str, ...]
    walk: Walk | None = None
    rust: RustPanic | None = None
    go: Goroutines | None = None
    python: PythonStacks | None = None
    names: Mapping[str, KnownNames] = field(default_factory=dict)
    """What is known of the names of each module that is at hand."""


def build_report(seen: Observed, secrets: ProcessSecrets) -> tuple[CrashReport, Verdict]:
    """The report, without the process's `secrets`, and the verdict it rests on."""
    core, view = seen.core, seen.view
    soft = list(seen.soft_errors)
    goroutine = () if seen.go is None else (core.crashed.tid,)
    stacks = threads_of(core, seen.modules, seen.files_used, view, seen.walk, goroutine)
    soft += stacks.soft_errors
    threads = stacks.listed
    if ended_in_handler(core):
        threads[0] = _in_handler(threads[0], core)
    frames = threads[0].frames
    if core.reraised:  # what the handler did afterwards is not the crash
        first = next((i for i, frame in enumerate(frames) if frame.function == HANDLER_FRAME), -1)
        frames = frames[first + 1 :]
    verdict = classify(core, frames, view.instruction, seen.message, seen.thrown, seen.rust, seen.go)
    sentence = mechanism(
        core,
        verdict,
        frames,
        view.instruction,
        seen.message,
        seen.thrown,
        threads[0].recursion,
        seen.rust,
        seen.go,
    )
    if core.reraised:
        sentence += f"; the program's own handler then raised {signal_name(core.reraised)}"
    handler = next((i for i, frame in enumerate(frames) if frame.function == CRASHED_HANDLER), None)
    if handler is not None:
        sentence += f"; this was in a signal handler that interrupted {place(frames[handler + 1 :])}"
    if core.missing_bytes:
        whole = core.origin.size if core.origin else core.file.size
        soft.append(
            f"the core is truncated: {core.missing_bytes} bytes are missing of {core.missing_bytes + whole}; "
            "stacks or memory may be incomplete (check ulimit -c, disk space and the time the pod had to write it)"
        )
    if core.note_error:
        soft.append(core.note_error)
    if seen.python is not None:
        soft += seen.python.soft_errors
    own = in_application(frames)
    reason = reason_of(
        verdict.cause,
        seen.message.text if seen.message else None,
        seen.thrown.type if seen.thrown else None,
        seen.rust.location if seen.rust else None,
    )
    partial = bool(core.missing_bytes or core.note_error or not view.complete)
    report = CrashReport(
        status="PARTIAL" if partial else "OK",
        soft_errors=list(dict.fromkeys([*soft, *view.soft_errors])),
        core=CoreInfo(
            sha256=seen.sha256,
            size=core.file.size,
            truncated=core.missing_bytes > 0,
            missing_bytes=core.missing_bytes,
            size_allocated=core.file.allocated,
            minimised=core.origin is not None,
        ),
        process=_process(core),
        architecture=core.header.machine,
        executable=_text(seen.executable),
        executable_match=seen.executable_match,
        crash_info=_crash_info(seen, verdict),
        threads=threads,
        modules=[
            Module(
                filename=_text(module.path) or "",
                base_addr=hex(module.base),
                end_addr=hex(module.end),
                build_id=module.build_id,
                build_id_match=seen.matches.get(module.path, "absent"),
                file_used=_text(seen.files_used.get(module.path)),
                symbols=names.symbols if (names := seen.names.get(module.path)) else None,
                debug_source=names.source if names else None,
            )
            for module in seen.modules.all
        ],
        unwinding=stacks.unwinding,
        runtime=runtime_of(seen.message, seen.thrown, seen.rust, seen.go, seen.python),
        disassembly=view.disassembly or _disassembly(core),
        signature=_text(signature(signal_name(core.signo), frames, verdict.cause, threads[0].recursion, reason)),
        crash_line=next(
            (f"{each.file}:{each.line}" for each in (own, *relevant(frames)) if each and each.file and each.line), None
        ),
        cause_class=verdict.cause.value,
        mechanism=_text(sentence),
        severity=severity_of(core, verdict, frames, _text(seen.message.text) if seen.message else None),
        memory_near=memory_near(core, secrets),
    )
    return secrets.hidden_in(report), verdict


def _in_handler(thread: Thread, core: CoreFile) -> Thread:
    """Marks the innermost signal frame as that of the handler in which it happened.

    A handler that the program's own abort called is not it.
    """
    first = next((i for i, frame in enumerate(thread.frames) if frame.function == HANDLER_FRAME), None)
    if first is None:
        return thread
    before = [normalize(frame.function) for frame in thread.frames[first + 1 : first + 4] if frame.function]
    if core.interrupted and any(is_exit(name) for name in before):
        return thread
    frames = list(thread.frames)
    frames[first] = frames[first].model_copy(update={"function": CRASHED_HANDLER})
    return thread.model_copy(update={"frames": frames})


def _process(core: CoreFile) -> Process:
    info = core.process
    return Process(
        pid=info.pid if info else None,
        exe=_text(core.main_path()),
        comm=_text(info.comm) if info else None,
        cmdline=_text(info.cmdline) if info else None,
        uid=info.uid if info else None,
    )


def _crash_info(seen: Observed, verdict: Verdict) -> CrashInfo:
    core, info = seen.core, seen.core.signal
    name = signal_name(core.signo)
    code = code_name(core.signo, info.code) if info else None
    sent = info is not None and was_sent(info.code)
    has_address = info is not None and not sent and info.code != SI_KERNEL and core.signo in FAULTS
    exception = None
    if seen.thrown is not None and verdict.cause is CauseClass.UNCAUGHT_EXCEPTION:
        exception = CxxException(type=_text(seen.thrown.type), what=_text(seen.thrown.what), source="memory_scan")
    message = seen.message.text if seen.message else None
    return CrashInfo(
        type=f"{name} / {code}" if code else name,
        address=hex(info.address) if info and has_address else None,
        si_signo=core.signo,
        si_code=info.code if info else None,
        si_code_name=code,
        sender=Sender(pid=info.pid, uid=info.uid) if info and sent else None,
        crashing_thread=core.crashed.tid,
        instruction=seen.view.instruction or _instruction(core),
        registers={register: hex(value) for register, value in core.crashed.registers.items()},
        assertion=_text(message) if verdict.cause is CauseClass.ASSERTION else None,
        abort_message=_text(message),
        exception=exception,
        adjusted_address=adjusted_address(verdict.fault),
        memory_accesses=memory_accesses(core, verdict.fault),
        possible_bit_flips=bit_flips(core, verdict.fault),
        crash_inconsistencies=inconsistencies(core, verdict.fault),
    )


def _instruction(core: CoreFile) -> str | None:
    """Decoded by ourselves, when no debugger was there."""
    found = instruction_at(core, core.crashed.pc)
    return found.text if found else None


def _disassembly(core: CoreFile) -> list[Instruction]:
    found = instructions_at(core, core.crashed.pc)
    return [
        Instruction(address=hex(item.address), text=item.text, is_pc=item.address == core.crashed.pc) for item in found
    ]


def _text(value: str | None) -> str | None:
    """Bytes of a program that are not UTF-8 become replacement characters: reports are JSON."""
    return None if value is None else value.encode("utf-8", "replace").decode("utf-8")
