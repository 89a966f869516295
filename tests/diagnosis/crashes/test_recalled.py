"""A known crash in another process: its own facts, the names of the first."""

from __future__ import annotations

from datetime import UTC, datetime

from diagnosis.crashes.identity import identified, identity_of
from diagnosis.crashes.recalled import recalled
from incidents.crash_report import CoreFile, CrashInfo, CrashReport, Frame, Module, Process, Thread, Variable
from incidents.models import Cause, CauseClass, Diagnosis, DiagnosisStatus, Evidence, EvidenceKind, Finding, ObjectRef

OFFSETS = [0x1234, 0x1300, 0x2000]
BUILD = "ab12"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def diagnosis(base: int, pid: int, names: list[list[str]] | None) -> Diagnosis:
    """A crash of a program mapped at `base`; `names` are the calls at each address, innermost first."""
    frames: list[Frame] = []
    for index, offset in enumerate(OFFSETS):
        place = {"offset": hex(base + offset), "module": "/srv/app", "module_offset": hex(offset), "build_id": BUILD}
        for name in names[index] if names else [None]:
            args = [Variable(name="order", value="0x0")] if name else []
            line = 10 * index if name else None
            frames.append(
                Frame(frame=len(frames), function=name, file="app.c" if name else None, line=line, args=args, **place)
            )
    report = CrashReport(
        core=CoreFile(sha256=f"{pid:064}"),
        process=Process(pid=pid, exe="/srv/app"),
        crash_info=CrashInfo(type="SIGSEGV / SEGV_MAPERR", si_signo=11, si_code=1, address="0x18", crashing_thread=pid),
        threads=[Thread(thread_id=pid, frames=frames)],
        modules=[Module(filename="/srv/app", build_id=BUILD, base_addr=hex(base))],
        cause_class="null_dereference",
    )
    seen = Evidence.of(EvidenceKind.CORE, "core note NT_SIGINFO", f"pid {pid}", NOW)
    finding = Finding.of("crash.signal", f"ended in thread {pid}", [seen])
    cause = Cause(
        cause_class=CauseClass.NULL_DEREFERENCE,
        object=ObjectRef(kind="Process", name="app"),
        confidence=0.9,
        summary="null",
        finding_ids=[finding.id],
    )
    return Diagnosis(
        status=DiagnosisStatus.DIAGNOSED, causes=[cause], findings=[finding], evidence=[seen], crash=identified(report)
    )


def test_names_are_put_on_this_cores_frames_and_no_others_values() -> None:
    first = diagnosis(0x550000000000, 7, [["inlined", "load"], ["run"], ["main"]])
    own = diagnosis(0x560000000000, 8, None)
    assert own.crash and first.crash
    assert identity_of(own.crash) == identity_of(first.crash)
    found = recalled(own, first, "inc_1")
    assert found is not None and found.crash is not None
    crash = found.crash
    assert [frame.function for frame in crash.threads[0].frames] == ["inlined", "load", "run", "main"]
    assert crash.threads[0].frames[1].offset == hex(0x560000000000 + OFFSETS[0])
    assert all(not frame.args for frame in crash.threads[0].frames)
    assert (crash.process.pid, crash.crash_info.crashing_thread, crash.core.sha256) == (8, 8, own.crash.core.sha256)
    assert [finding.rule for finding in found.findings] == ["crash.signal", "crash.known"]
    assert "thread 8" in found.findings[0].claim
    evidence = {item.id for item in found.evidence}
    assert all(set(finding.evidence_ids) <= evidence for finding in found.findings)
    assert set(found.causes[0].finding_ids) <= {finding.id for finding in found.findings}
    assert any("inc_1" in text for text in found.unseen)


def test_a_stack_that_only_the_debugger_sees_is_taken_over_at_this_cores_addresses() -> None:
    first = diagnosis(0x550000000000, 7, [["main.look"], ["main.run"], ["main.main"]])
    own = diagnosis(0x560000000000, 8, None)
    assert own.crash is not None
    elsewhere = [frame.model_copy(update={"module_offset": "0x9"}) for frame in own.crash.threads[0].frames]
    thread = own.crash.threads[0].model_copy(update={"frames": elsewhere})
    own = own.model_copy(update={"crash": own.crash.model_copy(update={"threads": [thread]})})
    found = recalled(own, first, "inc_1")
    assert found is not None and found.crash is not None
    frames = found.crash.threads[0].frames
    assert [frame.function for frame in frames] == ["main.look", "main.run", "main.main"]
    assert frames[0].offset == hex(0x560000000000 + OFFSETS[0])
    assert frames[0].args == []


def test_the_same_file_has_the_same_report() -> None:
    first = diagnosis(0x550000000000, 7, [["load"], ["run"], ["main"]])
    found = recalled(diagnosis(0x550000000000, 7, None), first, "inc_1")
    assert found is not None and found.crash is not None and first.crash is not None
    assert found.crash.threads == first.crash.threads
    assert found.unseen == []
