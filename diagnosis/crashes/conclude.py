"""The diagnosis of a crash: evidence with its exact source, findings that cite it, one cause."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from signal import SIGABRT

from diagnosis.closure import with_closure
from diagnosis.crashes.causes.golang.told import go_evidence
from diagnosis.crashes.causes.python.told import as_text, placed, told
from diagnosis.crashes.classify import Verdict
from diagnosis.crashes.frames import in_application
from diagnosis.crashes.identity import identified
from diagnosis.crashes.mechanism import located
from diagnosis.crashes.next_steps import next_steps
from diagnosis.crashes.process_secrets import ProcessSecrets
from diagnosis.crashes.report import Observed, build_report
from diagnosis.crashes.root_cause.classes import Conclusion, RootClass
from diagnosis.crashes.root_cause.decide import root_cause_of
from diagnosis.crashes.signals import signal_name
from incidents.crash_report import CrashReport
from incidents.crash_verdicts import RootCause
from incidents.models import (
    EXCERPT_CHARS,
    Cause,
    CauseClass,
    Diagnosis,
    DiagnosisStatus,
    Evidence,
    EvidenceKind,
    Fact,
    Finding,
    ObjectRef,
    Severity,
)

_MAP_LINES = 12


@dataclass
class _Ledger:
    """Evidence and findings as they are made."""

    observed_at: datetime
    secrets: ProcessSecrets
    evidence: list[Evidence] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    whole: dict[str, str] = field(default_factory=dict)

    def see(self, kind: EvidenceKind, source: str, text: str) -> Evidence:
        text = self.secrets.hide(text.encode("utf-8", "replace").decode("utf-8"))
        item = Evidence.of(kind, source, text, self.observed_at)
        if all(item.id != other.id for other in self.evidence):
            self.evidence.append(item)
            if len(text) > EXCERPT_CHARS:
                self.whole[item.id] = text
        return item

    def find(self, rule: str, claim: str, evidence: list[Evidence], severity: Severity, where: ObjectRef) -> Finding:
        finding = Finding.of(rule, self.secrets.hide(claim), evidence, severity=severity, object=where)
        self.findings.append(finding)
        return finding


def conclude(seen: Observed) -> tuple[CrashReport, Diagnosis, dict[str, str]]:
    """Report, diagnosis, and the whole text of evidence that is longer than its excerpt.

    The time of the evidence is the core's own (its modification time), so that the same core gives the same document.
    """
    secrets = ProcessSecrets.of(seen.core)
    report, verdict = build_report(seen, secrets)
    ledger = _Ledger(datetime.fromtimestamp(seen.core.file.modified, UTC), secrets)
    where = ObjectRef(kind="Process", name=_name(seen))
    core_evidence = _core_evidence(ledger, seen, report, verdict)
    debugger = [ledger.see(EvidenceKind.GDB, f"gdb {source}", text) for source, text in seen.view.texts if text]
    signal = core_evidence[0]
    signal_finding = ledger.find("crash.signal", _signal_claim(seen, report, where), [signal], Severity.ERROR, where)
    mechanism = ledger.find(
        "crash.cause",
        report.mechanism or "",
        [*core_evidence, *debugger[:4]],
        Severity.INFO if verdict.cause is CauseClass.EXTERNAL_SIGNAL else Severity.CRITICAL,
        where,
    )
    supporting = [mechanism.id, signal_finding.id]
    own = in_application(report.threads[0].frames)
    if own is not None and debugger:
        location = ledger.find(
            "crash.location",
            f"The innermost frame of the program is {located(own)}",
            debugger[:1],
            Severity.ERROR,
            where,
        )
        supporting.append(location.id)
    supporting += _python(ledger, seen, report, where)
    found = root_cause_of(seen.core, verdict, report, seen.view.layouts)
    report = _with_root_cause(report, found, ledger, mechanism, [*core_evidence, *debugger[:4]], where)
    if ledger.findings[-1].id not in supporting:
        supporting.append(ledger.findings[-1].id)
    report = placed(report)
    if report.status == "PARTIAL":
        ledger.find("crash.partial", "; ".join(report.soft_errors[:3]), [signal], Severity.WARNING, where)
    report = secrets.hidden_in(identified(report))
    unknown = verdict.cause is CauseClass.UNKNOWN
    cause = Cause(
        cause_class=verdict.cause,
        object=where,
        confidence=round(verdict.confidence * (0.9 if report.status == "PARTIAL" else 1.0), 2),
        summary=report.mechanism or "",
        finding_ids=supporting,
        facts=_facts(seen, report),
    )
    diagnosis = Diagnosis(
        status=DiagnosisStatus.UNKNOWN if unknown else DiagnosisStatus.DIAGNOSED,
        causes=[cause],
        findings=ledger.findings,
        evidence=ledger.evidence,
        ruled_out=_ruled_out(seen, verdict),
        unseen=report.soft_errors,
        next_steps=next_steps(report, verdict),
        crash=report,
        signature=report.signature,
    )
    return report, with_closure(diagnosis), ledger.whole


def _python(ledger: _Ledger, seen: Observed, report: CrashReport, where: ObjectRef) -> list[str]:
    """The Python frames as evidence; the finding about the crashing thread's, where it runs Python."""
    python = report.runtime.python if report.runtime else None
    if python is None or seen.python is None:
        return []
    if python.threads:
        threads = (
            "\n".join([f"thread {thread.native_tid}:", *(f"  {as_text(frame)}" for frame in thread.frames)])
            for thread in python.threads
        )
        source = f"core memory: frames of CPython {python.version}, other threads"
        ledger.see(EvidenceKind.CORE, source, "\n".join(threads))
    place = told(python)
    if place is None or seen.python.crashed is None:
        return []
    first = seen.python.crashed.frames[0].address
    source = f"core memory at {hex(first)}, file offset {_hex(seen.core.memory.file_offset(first))}: "
    lines = [f"#{frame.frame} {as_text(frame)}" for frame in python.py_stack]
    if python.exception:
        lines.append(f"raised or handled: {python.exception}")
    tid = seen.core.crashed.tid
    frames = ledger.see(
        EvidenceKind.CORE, f"{source}frames of CPython {python.version}, thread {tid}", "\n".join(lines)
    )
    return [ledger.find("crash.python", f"In Python: {place}", [frames], Severity.ERROR, where).id]


def _with_root_cause(
    report: CrashReport,
    found: Conclusion,
    ledger: _Ledger,
    mechanism: Finding,
    observed: list[Evidence],
    where: ObjectRef,
) -> CrashReport:
    """The report with its root cause; the proofs become evidence, and the claim a finding where it says more."""
    claim = found.mechanism.encode("utf-8", "replace").decode()
    proofs = [
        ledger.see(EvidenceKind.GDB if each.source.startswith("gdb ") else EvidenceKind.CORE, each.source, each.text)
        for each in found.proofs
    ]
    evidence = proofs + observed
    if claim != report.mechanism:
        known = found.kind not in (RootClass.EXTERNAL, RootClass.UNKNOWN)
        mechanism = ledger.find(
            "crash.root_cause", claim, evidence, Severity.CRITICAL if known else Severity.INFO, where
        )
    cause = RootCause(
        cause_class=found.kind.value,
        cwe=found.cwe,
        confidence=found.confidence,
        mechanism=claim,
        object=found.object.encode("utf-8", "replace").decode() if found.object else None,
        origin_frame=found.origin_frame,
        evidence_ids=list(dict.fromkeys(item.id for item in evidence)) if proofs else mechanism.evidence_ids,
    )
    return report.model_copy(update={"root_cause": cause})


def _core_evidence(ledger: _Ledger, seen: Observed, report: CrashReport, verdict: Verdict) -> list[Evidence]:
    """What notes and memory say; the signal first."""
    core = seen.core
    info = core.signal
    if info is not None:
        text = (
            f"si_signo={info.signo} ({signal_name(info.signo)}) si_code={info.code} ({report.crash_info.si_code_name})"
        )
        text += f" si_addr={report.crash_info.address}" if report.crash_info.address else ""
        text += f" si_pid={info.pid} si_uid={info.uid}" if report.crash_info.sender else ""
        found = [ledger.see(EvidenceKind.CORE, f"core {info.source} at offset {hex(info.offset)}", text)]
    else:
        source = f"core note NT_PRSTATUS at offset {hex(core.crashed.offset)}"
        found = [ledger.see(EvidenceKind.CORE, source, f"pr_cursig={core.signo} ({signal_name(core.signo)})")]
    registers = " ".join(f"{name}={value}" for name, value in report.crash_info.registers.items())
    if registers:
        source = f"core {core.crashed.source} at offset {hex(core.crashed.offset)}"
        found.append(ledger.see(EvidenceKind.CORE, source, f"thread {core.crashed.tid}: {registers}"))
    if core.process is not None:
        process = core.process
        text = f"pid={process.pid} uid={process.uid} comm={process.comm!r} psargs={process.cmdline!r}"
        ledger.see(EvidenceKind.CORE, f"core note NT_PRPSINFO at offset {hex(process.offset)}", text)
    if seen.message is not None:
        source = (
            f"core memory at {hex(seen.message.address)}, file offset {_hex(seen.message.offset)}: glibc abort message"
        )
        found.append(ledger.see(EvidenceKind.CORE, source, seen.message.text))
    if seen.thrown is not None and verdict.cause is CauseClass.UNCAUGHT_EXCEPTION:
        thrown = seen.thrown
        source = f"core memory at {hex(thrown.address)}, file offset {_hex(thrown.offset)}: C++ exception object"
        found.append(ledger.see(EvidenceKind.CORE, source, f"type={thrown.type} what={thrown.what!r}"))
    if seen.rust is not None and verdict.cause is CauseClass.PANIC:
        source = f"core memory at {hex(seen.rust.address)}, file offset {_hex(seen.rust.offset)}: Rust panic location"
        found.append(ledger.see(EvidenceKind.CORE, source, f"{seen.rust.location} message={seen.rust.message!r}"))
    if seen.go is not None:
        found += [ledger.see(kind, source, text) for kind, source, text in go_evidence(seen.go, core.memory)]
    if verdict.fault is not None and verdict.fault.address is not None:
        source = "core program headers (PT_LOAD) around the address"
        found.append(ledger.see(EvidenceKind.CORE, source, _map_around(seen, verdict.fault.address)))
    modules = "\n".join(
        f"{module.base_addr} {module.filename} build-id {module.build_id} {module.build_id_match}"
        for module in report.modules
    )
    if modules:
        source = f"core note NT_FILE at offset {hex(core.files_offset)}, build-ids from the first pages of the mappings"
        ledger.see(EvidenceKind.CORE, source, modules)
    return found


def _map_around(seen: Observed, address: int) -> str:
    """The mappings nearest to `address`."""
    segments = seen.core.memory.segments
    below = [segment for segment in segments if segment.vaddr <= address][-_MAP_LINES // 2 :]
    above = [segment for segment in segments if segment.vaddr > address][: _MAP_LINES // 2]
    lines = [f"fault address {hex(address)}"]
    for segment in (*below, *above):
        rights = "".join(letter if segment.flags & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))
        held = " <- address" if segment.vaddr <= address < segment.end else ""
        lines.append(f"{hex(segment.vaddr)}-{hex(segment.end)} {rights} dumped {segment.filesz} bytes{held}")
    return "\n".join(lines)


def _signal_claim(seen: Observed, report: CrashReport, where: ObjectRef) -> str:
    info = report.crash_info
    claim = f"{where.name} was ended by {info.type}"
    if info.address:
        claim += f" at address {info.address}"
    if info.sender:
        claim += f", sent by pid {info.sender.pid} (uid {info.sender.uid})"
    return f"{claim}, in thread {info.crashing_thread} (of {len(seen.core.threads)})"


def _facts(seen: Observed, report: CrashReport) -> dict[str, Fact]:
    own = in_application(report.threads[0].frames)
    facts: dict[str, Fact] = {
        "signal": signal_name(seen.core.signo),
        "exit_code": 128 + (seen.core.reraised or seen.core.signo),
        "signature": report.signature,
        "executable": report.process.exe,
        "build_id": seen.modules.main.build_id if seen.modules.main else None,
    }
    if own is not None:
        facts |= {"function": own.function, "file": own.file, "line": own.line}
    if place := told(report.runtime.python if report.runtime else None):
        facts["python"] = place
    if report.crash_info.address:
        facts["fault_address"] = report.crash_info.address
    return facts


def _ruled_out(seen: Observed, verdict: Verdict) -> list[str]:
    excluded = list(verdict.excluded)
    info = seen.core.signal
    if verdict.cause is CauseClass.EXTERNAL_SIGNAL:
        excluded.append("a memory bug: the signal was not raised by an instruction of the program")
    elif seen.core.reraised:
        last = signal_name(seen.core.reraised)
        excluded.append(f"{last} as the cause: the program's own crash handler raised it after the fault")
    elif info is not None and info.code > 0:
        excluded.append(f"a signal from another process: si_code {info.code} means that the kernel raised it")
    glibc = any(module.path.rsplit("/", 1)[-1].startswith(("libc.so.6", "libc-2.")) for module in seen.modules.all)
    if verdict.cause is CauseClass.ABORT and seen.core.signo == SIGABRT and seen.message is None and glibc:
        excluded.append("assertion, heap corruption and stack smashing: glibc left no abort message in memory")
    return excluded


def _name(seen: Observed) -> str:
    path = seen.core.main_path()
    name = path.removesuffix(" (deleted)").rsplit("/", 1)[-1] if path else ""
    name = name or (seen.core.process.comm if seen.core.process else "") or "unknown"
    return name.encode("utf-8", "replace").decode("utf-8")


def _hex(value: int | None) -> str:
    return hex(value) if value is not None else "unknown"
