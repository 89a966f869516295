"""Frames, threads and modules of a crash report, in rust-minidump's field names.

Every field may be null; addresses are hexadecimal strings; enumerations are open (rust-minidump, json-schema.md).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A piece of a crash report."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)


class Variable(Part):
    """An argument or a local variable of a frame, as gdb prints it (cut to a bounded length)."""

    name: str
    type: str | None = None
    value: str | None = None


class SourceLine(Part):
    number: int
    text: str


class SourceContext(Part):
    """Lines around a frame's line. `commit` is set where the binary itself names the revision it was built from."""

    path: str = Field(description="The local file that was read")
    lines: list[SourceLine] = Field(default_factory=list)
    sha256: str | None = None
    commit: str | None = None
    newer_than_build: bool | None = Field(default=None, description="The file changed after the program was built")


class Frame(Part):
    """One frame; `frame` counts from the innermost, 0. An inlined call is a frame of its own with the same offset."""

    frame: int
    trust: str | None = Field(
        default=None, description="context (registers) | cfi | frame_pointer | scan | gdb | delve | pclntab (Go)"
    )
    offset: str | None = Field(default=None, description="Program counter")
    module: str | None = None
    module_offset: str | None = None
    build_id: str | None = None
    build_id_match: str | None = Field(default=None, description="Of the module: exact | mismatch | absent | unchecked")
    function: str | None = None
    function_offset: str | None = None
    file: str | None = None
    line: int | None = None
    inlined: bool | None = Field(default=None, description="Inlined into the next frame that is not")
    args: list[Variable] = Field(default_factory=list)
    locals: list[Variable] = Field(default_factory=list)
    in_app: bool | None = Field(default=None, description="In the program's own code, not in a library of the system")
    source_context: SourceContext | None = None
    missing_symbols: bool | None = None


class Recursion(Part):
    """A block of frames that repeats: frames `first` to `first + period - 1` come `count` times in a row.

    `frames` of the thread hold the first rounds and what lies below the last one; `omitted` frames are left out
    between them.
    """

    first: int = Field(description="Depth of the first repeated frame")
    period: int = Field(description="Physical frames in one round")
    count: int = Field(description="Rounds")
    functions: list[str] = Field(default_factory=list, description="Functions or module+offset of one round")
    omitted: int = Field(default=0, description="Physical frames not listed")


class Thread(Part):
    thread_id: int | None = Field(default=None, description="Kernel thread id (LWP)")
    thread_name: str | None = None
    state: str | None = Field(default=None, description="running | futex | poll | sleep | io | exited | …")
    frame_count: int = Field(default=0, description="Physical frames that were walked, listed or not")
    truncated: bool = Field(default=False, description="There are more frames than are listed")
    frames: list[Frame] = Field(default_factory=list)
    recursion: Recursion | None = None
    stack_group: int | None = Field(default=None, description="Threads with the same stack have the same number")


class Module(Part):
    filename: str
    base_addr: str | None = None
    end_addr: str | None = None
    build_id: str | None = Field(default=None, description="From the first page of the mapping in the core")
    build_id_match: str | None = Field(default=None, description="exact | mismatch | absent | unchecked")
    file_used: str | None = Field(default=None, description="The local file that gdb was given for it")
    symbols: str | None = Field(default=None, description="dwarf | symtab | none")
    debug_source: str | None = Field(default=None, description="image | debug-dir | debuginfod | none")


class Instruction(Part):
    address: str
    text: str
    function: str | None = None
    offset: int | None = None
    is_pc: bool = False


class Disagreement(Part):
    """A frame where our own unwinder and gdb say different things; addresses are program counters."""

    thread_id: int
    frame: int
    prewalk: str | None = None
    gdb: str | None = None


class Unwinding(Part):
    """How the stacks were found, by two engines that check each other."""

    threads: int = 0
    frames: int = Field(default=0, description="Physical frames of all threads")
    unique_addresses: int = 0
    by_trust: dict[str, int] = Field(default_factory=dict, description="Frames by trust")
    compared_threads: int = Field(default=0, description="Threads that gdb unwound too")
    disagreements: list[Disagreement] = Field(default_factory=list)
