"""A crash that is known: its own notes and memory, with the names that a debugger gave an identical one before."""

from __future__ import annotations

from collections.abc import Iterable

from diagnosis.crashes.causes.python.told import told, with_place, without_place
from incidents.crash_report import CrashReport, Frame, Thread
from incidents.crash_verdicts import RootCause, Runtime
from incidents.models import Cause, Diagnosis, Evidence, EvidenceKind, Fact, Finding, Severity

_LISTED = 16
_OWN = frozenset({"crash.signal", "crash.python"})
_OF_ONE_CORE = frozenset({"crash.history", "crash.known", "past_incidents"})
_NOT_READ = (
    "values of variables in this core: names, and the addresses in sentences, are those of incident {}; "
    "ask with force to have this core read by a debugger"
)


def recalled(own: Diagnosis, known: Diagnosis, incident_id: str) -> Diagnosis | None:
    """`known`, the diagnosis of an identical crash, as the diagnosis of this core; None when either has no report.

    Process, times, registers, addresses and hashes are this core's. Frames of this core that lie at the same place of
    the same build are named as there; values of variables are left out, for they were another process's. Every claim
    keeps the evidence it was made on, and one more says what makes the crashes the same.
    """
    if own.crash is None or known.crash is None or own.crash.signatures is None or not own.evidence:
        return None
    same_file = own.crash.core.sha256 is not None and own.crash.core.sha256 == known.crash.core.sha256
    report = known.crash.model_copy(update={"history": None}) if same_file else _report(own.crash, known.crash)
    frames = report.threads[0].frames if report.threads else []
    places = "\n".join(
        f"#{frame.frame} {frame.build_id}+{frame.module_offset}" for frame in frames[:_LISTED] if not frame.inlined
    )
    seen = Evidence.of(
        EvidenceKind.CORE,
        f"core registers and stack of thread {own.crash.crash_info.crashing_thread}, as build-id+offset",
        places,
        own.evidence[0].observed_at,
    )
    where = known.causes[0].object if known.causes else None
    finding = Finding.of(
        "crash.known",
        f"This is the crash of incident {incident_id}: the same build-ids, signal and return addresses "
        f"(address signature {own.crash.signatures.address_sig or 'none: the same file'})",
        [seen, own.evidence[0]],
        severity=Severity.INFO,
        object=where,
    )
    mine = {item.id for item in own.evidence}
    signal = [item for item in own.findings if item.rule in _OWN]
    # the same native code is called from other Python code, too
    replaced = {"crash.python", *(item.rule for item in signal)}
    theirs = {item.id for item in known.findings if item.rule in replaced}
    kept = [item for item in known.findings if item.rule not in _OF_ONE_CORE and item.id not in theirs]
    causes = [
        cause.model_copy(
            update={
                "finding_ids": [finding.id, *(item for item in cause.finding_ids if item not in theirs)],
                "summary": _placed(cause.summary, own.crash, known.crash),
                "facts": _facts(cause, own.crash),
            }
        )
        for cause in known.causes
    ]
    return known.model_copy(
        update={
            "causes": causes,
            "findings": [*signal, finding, *kept],
            "evidence": [*own.evidence, seen, *(item for item in known.evidence if item.id not in {*mine, seen.id})],
            "unseen": list(known.unseen) if same_file else _unique([*known.unseen, _NOT_READ.format(incident_id)]),
            "recalled": [],  # what memory said then
            "crash": report,
        }
    )


def _report(own: CrashReport, known: CrashReport) -> CrashReport:
    """The conclusions of `known` around the facts of `own`."""
    names: dict[tuple[str, str], list[Frame]] = {}
    for thread in known.threads:
        for frame in thread.frames:
            if frame.build_id and frame.module_offset:
                calls = names.setdefault((frame.build_id, frame.module_offset), [])
                if all(frame.function != other.function for other in calls):
                    calls.append(frame)
    matches = {(module.filename, module.build_id): module for module in known.modules}
    modules = [
        module.model_copy(
            update={
                "build_id_match": other.build_id_match,
                "symbols": other.symbols,
                "debug_source": other.debug_source,
            }
        )
        if (other := matches.get((module.filename, module.build_id)))
        else module
        for module in own.modules
    ]
    return known.model_copy(
        update={
            "status": known.status,
            "soft_errors": known.soft_errors,
            "core": own.core,
            "process": own.process,
            "crash_info": own.crash_info.model_copy(
                update={
                    "instruction": known.crash_info.instruction,
                    "abort_message": known.crash_info.abort_message,
                    "assertion": known.crash_info.assertion,
                    "exception": known.crash_info.exception,
                }
            ),
            "threads": _threads(own, known, names),
            "modules": modules,
            "disassembly": [],
            "memory_near": own.memory_near,
            "unwinding": own.unwinding,
            "history": None,
            "runtime": _runtime(own, known),
            "mechanism": _placed(known.mechanism, own, known) if known.mechanism else None,
            "root_cause": _root_cause(own, known),
            "stage_timings_ms": own.stage_timings_ms,
            "signatures": known.signatures,
        }
    )


def _placed(sentence: str, own: CrashReport, known: CrashReport) -> str:
    """What `known` says of the native code, with the place in Python of this core."""
    return with_place(without_place(sentence, known), own)


def _root_cause(own: CrashReport, known: CrashReport) -> RootCause | None:
    root = known.root_cause
    if root is None or root.mechanism != known.mechanism:
        return root
    return root.model_copy(update={"mechanism": _placed(root.mechanism, own, known)})


def _facts(cause: Cause, own: CrashReport) -> dict[str, Fact]:
    facts = {name: value for name, value in cause.facts.items() if name != "python"}
    where = told(own.runtime.python if own.runtime else None)
    return facts | {"python": where} if where else facts


def _runtime(own: CrashReport, known: CrashReport) -> Runtime | None:
    python = own.runtime.python if own.runtime else None
    if known.runtime is None:
        return Runtime(python=python) if python else None
    return known.runtime.model_copy(update={"python": python})


def _threads(own: CrashReport, known: CrashReport, names: dict[tuple[str, str], list[Frame]]) -> list[Thread]:
    """This core's stacks with the known names. Where the debugger saw another stack than the walk, as with goroutines
    and handlers, the crashing thread has the frames that it saw, at this core's addresses."""
    threads = [_named(thread, names) for thread in own.threads]
    if not threads or not known.threads:
        return threads
    seen = known.threads[0]
    if _told(threads[0]) < _told(seen):
        bases = {
            module.build_id: int(module.base_addr, 16) for module in own.modules if module.build_id and module.base_addr
        }
        frames = [
            frame.model_copy(
                update={
                    "args": [],
                    "locals": [],
                    "offset": hex(bases[frame.build_id] + int(frame.module_offset, 16))
                    if frame.build_id in bases and frame.module_offset
                    else None,
                }
            )
            for frame in seen.frames
        ]
        update = {"frames": frames, "frame_count": seen.frame_count, "recursion": seen.recursion}
        threads[0] = threads[0].model_copy(update=update)
    return threads


def _told(thread: Thread) -> int:
    return sum(frame.function is not None for frame in thread.frames[:_LISTED])


def _named(thread: Thread, names: dict[tuple[str, str], list[Frame]]) -> Thread:
    frames: list[Frame] = []
    for frame in thread.frames:
        known = names.get((frame.build_id or "", frame.module_offset or ""))
        if not known or frame.inlined:
            frames.append(frame.model_copy(update={"frame": len(frames)}))
            continue
        for other in known:
            said = {
                name: getattr(other, name)
                for name in ("function", "function_offset", "file", "line", "inlined", "in_app", "source_context")
            }
            said |= {"build_id_match": other.build_id_match, "missing_symbols": other.missing_symbols}
            frames.append(frame.model_copy(update={"frame": len(frames), **said}))
    return thread.model_copy(update={"frames": frames})


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
