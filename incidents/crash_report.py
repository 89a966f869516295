"""CrashReport: what a core says, in rust-minidump's field names where it has one.

Rules copied from that schema (rust-minidump, minidump-processor/json-schema.md): every field may be null or absent,
numbers that are addresses are hexadecimal strings, enumerations are open. Sizes are in bytes.
"""

from __future__ import annotations

from pydantic import Field

from incidents.crash_frames import Frame, Instruction, Module, Part, Thread, Unwinding, Variable
from incidents.crash_verdicts import CrashSeverity, History, RootCause, Runtime, Signatures, ValueScore


class Sender(Part):
    """Who sent the signal, for signals sent by a process (si_code <= 0)."""

    pid: int | None = None
    uid: int | None = None


class CxxException(Part):
    type: str | None = None
    what: str | None = None
    source: str | None = Field(default=None, description="symbols | memory_scan")


class AdjustedAddress(Part):
    """The address that was meant, where the kernel's is not it."""

    kind: str = Field(description="null_pointer_with_offset | non_canonical")
    address: str | None = None
    offset: str | None = None


class MemoryAccess(Part):
    """A memory operand of the crashing instruction. `size` is in bytes."""

    address: str
    size: int | None = None
    access_type: str | None = Field(default=None, description="read | write | read_write")
    operand: str | None = None
    is_likely_guard_page: bool = False


class BitFlip(Part):
    """One flipped bit would make the address a good one; `confidence` is 0 to 1."""

    address: str = Field(description="What the address would have been")
    bit: int
    register_name: str | None = None
    confidence: float = 0.0


class CrashInfo(Part):
    type: str | None = Field(default=None, description="Signal and code, such as SIGSEGV / SEGV_MAPERR")
    address: str | None = Field(default=None, description="si_addr of fault signals")
    si_signo: int | None = None
    si_code: int | None = None
    si_code_name: str | None = None
    sender: Sender | None = None
    crashing_thread: int | None = Field(default=None, description="Kernel thread id")
    instruction: str | None = None
    registers: dict[str, str] = Field(default_factory=dict)
    assertion: str | None = None
    abort_message: str | None = None
    exception: CxxException | None = None
    adjusted_address: AdjustedAddress | None = None
    memory_accesses: list[MemoryAccess] = Field(default_factory=list)
    possible_bit_flips: list[BitFlip] = Field(default_factory=list)
    crash_inconsistencies: list[str] = Field(default_factory=list)


class MemoryNear(Part):
    """Bytes around what a register points to at the crash; at most 256."""

    register_name: str
    address: str
    mapping: str | None = None
    hexdump: str | None = None
    classification: str | None = Field(default=None, description="stack|heap|global|text|unmapped|guard|poison")


class SystemInfo(Part):
    os: str | None = None
    os_ver: str | None = None
    cpu_arch: str | None = None
    cpu_info: str | None = None
    cpu_count: int | None = None
    kernel: str | None = None


class CoreFile(Part):
    sha256: str | None = None
    size: int | None = None
    truncated: bool = False
    missing_bytes: int = 0
    size_allocated: int | None = Field(default=None, description="On disk: holes of a sparse file are not counted")
    compression: str | None = Field(default=None, description="What the given file was packed with")
    minimised: bool | None = Field(default=None, description="A reduced core: most of the heap was left out before")


class Process(Part):
    pid: int | None = None
    exe: str | None = None
    comm: str | None = None
    cmdline: str | None = None
    uid: int | None = None


class CrashReport(Part):
    """Everything Paramedic says about one core dump."""

    schema_version: str = "1.1"
    status: str = Field(default="OK", description="OK | PARTIAL | ERROR")
    soft_errors: list[str] = Field(default_factory=list, description="What went wrong without ending the analysis")
    core: CoreFile = Field(default_factory=CoreFile)
    process: Process = Field(default_factory=Process)
    architecture: str | None = None
    executable: str | None = Field(default=None, description="The local file used as the executable")
    executable_match: str | None = Field(default=None, description="exact | absent | unchecked; a mismatch is refused")
    crash_info: CrashInfo = Field(default_factory=CrashInfo)
    threads: list[Thread] = Field(default_factory=list, description="The crashing thread first")
    modules: list[Module] = Field(default_factory=list)
    disassembly: list[Instruction] = Field(default_factory=list)
    signature: str | None = None
    crash_line: str | None = Field(default=None, description="file:line of the top frame in the application")
    cause_class: str | None = None
    mechanism: str | None = Field(default=None, description="One sentence: what happened, where, by which address")
    signatures: Signatures | None = None
    severity: CrashSeverity | None = None
    root_cause: RootCause | None = None
    value_score: ValueScore | None = None
    history: History | None = None
    runtime: Runtime | None = None
    unwinding: Unwinding | None = None
    system_info: SystemInfo | None = None
    memory_near: list[MemoryNear] = Field(default_factory=list)
    tool_versions: dict[str, str] = Field(default_factory=dict)
    stage_timings_ms: dict[str, float] = Field(default_factory=dict)


__all__ = [
    "AdjustedAddress", "BitFlip", "CoreFile", "CrashInfo", "CrashReport", "CxxException", "Frame", "Instruction",
    "MemoryAccess", "MemoryNear", "Module", "Part", "Process", "Sender", "SystemInfo", "Thread", "Variable",
]  # fmt: skip
