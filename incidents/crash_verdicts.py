"""What Paramedic concludes from a core: severity, root cause, identity, worth. Parts of the crash report."""

from __future__ import annotations

from pydantic import Field

from incidents.crash_frames import Part


class CrashSeverity(Part):
    """CASR's CrashSeverity: `type` is EXPLOITABLE, PROBABLY_EXPLOITABLE, NOT_EXPLOITABLE or UNDEFINED."""

    type: str
    short_description: str = Field(description="CASR's class, such as DestAv, or one of ours, such as ExternalSignal")
    description: str
    explanation: str = Field(description="One sentence with the instruction, the register and the address")


class RootCause(Part):
    """The most specific mechanism that the core proves. Each claim is backed by evidence of the diagnosis."""

    cause_class: str = Field(alias="class", description="From a closed list, such as use_after_free")
    cwe: list[str] = Field(default_factory=list, description="Such as CWE-416, most specific first")
    confidence: float = Field(ge=0, le=1)
    mechanism: str
    object: str | None = Field(default=None, description="What was broken: a variable, a member of a type, a chunk")
    origin_frame: int | None = Field(default=None, description="The frame that handed in the bad value")
    evidence_ids: list[str] = Field(default_factory=list)


class Signatures(Part):
    """Names of the same crash. `version` changes when the rules do: signatures of two versions do not compare."""

    siggen: str | None = None
    duphash: str | None = Field(default=None, description="SHA-1 of the normalised frames, with function names")
    address_sig: str | None = Field(default=None, description="SHA-1 of build-ids and offsets: needs no symbols")
    group_id: str | None = None
    similarity: float | None = Field(default=None, description="To the group's first crash, 0 to 1")
    version: int = 1


class ValueScore(Part):
    """What the core is worth to an engineer, 0 to 10; `components` add up to it before it is clamped."""

    total: float = Field(ge=0, le=10)
    components: dict[str, float] = Field(default_factory=dict)


class History(Part):
    """What the record knows of the same crash. Times are ISO 8601 in UTC."""

    count: int = Field(default=1, description="Crashes of this group so far, this one included")
    first_seen: str | None = None
    last_seen: str | None = None
    first_revision: str | None = None
    absent_in: str | None = Field(default=None, description="The revision before, in which it was not seen")
    nodes: list[str] = Field(default_factory=list)
    sentence: str | None = None


class GoRuntime(Part):
    goroutines: int | None = None
    panic: str | None = None
    fatal: str | None = None


class RustRuntime(Part):
    panic_message: str | None = None
    location: str | None = Field(default=None, description="file:line:column")
    thread: str | None = None


class CxxRuntime(Part):
    exception_type: str | None = None
    what: str | None = None
    source: str | None = Field(default=None, description="symbols | memory_scan")


class GlibcRuntime(Part):
    abort_message: str | None = None
    heap_corruption: str | None = None
    fortify: str | None = None
    stack_smashing: bool | None = None


class PythonFrame(Part):
    frame: int | None = Field(default=None, description="From the innermost, which is 0")
    function: str | None = Field(default=None, description="Qualified name; before Python 3.11 the name alone")
    file: str | None = None
    line: int | None = None
    in_app: bool | None = Field(default=None, description="Not of the standard library or an installed package")


class PythonThread(Part):
    native_tid: int | None = Field(default=None, description="Kernel thread id, as in `threads`")
    frames: list[PythonFrame] = Field(default_factory=list, description="The innermost")
    truncated: bool = False


class PythonRuntime(Part):
    """CPython. Frames are read from memory; what could not be read is in the report's `soft_errors`."""

    py_stack: list[PythonFrame] = Field(
        default_factory=list,
        description="Of the crashing thread, innermost first; of a deep stack the first and the last",
    )
    frame_count: int | None = Field(default=None, description="Of the crashing thread, as far as they were read")
    truncated: bool | None = Field(default=None, description="The crashing thread has more frames than were read")
    version: str | None = None
    exception: str | None = Field(
        default=None, description="What the crashing thread raised or handled, as `Type: text`"
    )
    threads: list[PythonThread] = Field(default_factory=list, description="The others that run Python")


class Runtime(Part):
    """What a language's runtime left in memory."""

    go: GoRuntime | None = None
    rust: RustRuntime | None = None
    cxx: CxxRuntime | None = None
    glibc: GlibcRuntime | None = None
    python: PythonRuntime | None = None
