"""CrashReport: what a core says, in rust-minidump's field names where it has one.

Rules copied from that schema (rust-minidump, minidump-processor/json-schema.md): every field may be null or absent,
numbers that are addresses are hexadecimal strings, enumerations are open. Sizes are in bytes.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Variable(_Part):
    """An argument or a local variable of a frame, as gdb prints it (cut to a bounded length)."""

    name: str
    type: str | None = None
    value: str | None = None


class Frame(_Part):
    """One physical or inlined frame; `frame` counts from the innermost, 0."""

    frame: int
    trust: str | None = Field(default=None, description="context (registers) | gdb (unwound by gdb)")
    offset: str | None = Field(default=None, description="Program counter")
    module: str | None = None
    module_offset: str | None = None
    build_id: str | None = None
    function: str | None = None
    file: str | None = None
    line: int | None = None
    args: list[Variable] = Field(default_factory=list)
    locals: list[Variable] = Field(default_factory=list)
    in_app: bool | None = Field(default=None, description="In the executable itself, not in a library")


class Thread(_Part):
    thread_id: int | None = Field(default=None, description="Kernel thread id (LWP)")
    thread_name: str | None = None
    frame_count: int = 0
    truncated: bool = Field(default=False, description="There are more frames than are listed")
    frames: list[Frame] = Field(default_factory=list)


class Module(_Part):
    filename: str
    base_addr: str | None = None
    end_addr: str | None = None
    build_id: str | None = Field(default=None, description="From the first page of the mapping in the core")
    build_id_match: str | None = Field(default=None, description="exact | mismatch | absent | unchecked")
    file_used: str | None = Field(default=None, description="The local file that gdb was given for it")


class Instruction(_Part):
    address: str
    text: str
    function: str | None = None
    offset: int | None = None
    is_pc: bool = False


class Sender(_Part):
    """Who sent the signal, for signals sent by a process (si_code <= 0)."""

    pid: int | None = None
    uid: int | None = None


class CxxException(_Part):
    type: str | None = None
    what: str | None = None
    source: str | None = Field(default=None, description="symbols | memory_scan")


class CrashInfo(_Part):
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


class CoreFile(_Part):
    sha256: str | None = None
    size: int | None = None
    truncated: bool = False
    missing_bytes: int = 0


class Process(_Part):
    pid: int | None = None
    exe: str | None = None
    comm: str | None = None
    cmdline: str | None = None
    uid: int | None = None


class CrashReport(_Part):
    """Everything Paramedic says about one core dump."""

    schema_version: str = "1.0"
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
