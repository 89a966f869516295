"""Reading cores: where they may lie, and what the debugger may use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from settings.section import Section


class CoreSettings(Section):
    roots: list[Path] = Field(default_factory=list, description="Folders that API callers may name cores in")
    url_hosts: list[str] = Field(default_factory=list, description="host or host:port that cores may be fetched from")
    url_schemes: list[Literal["https", "http"]] = Field(default=["https"])
    node_dir: Path | None = Field(
        default=None, description="Folder of cores as `<namespace>/<pod>_<uid>/<container>/…`; searched for incidents"
    )
    executable_dirs: list[Path] = Field(default_factory=list, description="Searched for executables by build-id")
    debug_dirs: list[Path] = Field(default_factory=lambda: [Path("/usr/lib/debug")])
    source_dirs: list[Path] = Field(default_factory=list, description="Searched for source files; nothing else is read")
    sysroot: Path | None = None
    debuginfod_urls: list[Annotated[str, Field(pattern=r"^https?://[^@\s]+$")]] = Field(
        default_factory=list, description="Servers asked for missing programs and debug information; empty: none"
    )
    max_bytes: int = 64 << 30
    repeat_seconds: float = Field(
        default=3600.0,
        ge=0,
        description="The same crash within this time of an incident that ended with a report is counted there",
    )
    patience_seconds: float = Field(
        default=600.0,
        ge=0,
        description="How long an incident waits for a core of the store while that cannot be reached; people are told "
        "before what else was found",
    )


class GdbSettings(Section):
    program: str = "gdb"
    deadline: float = Field(default=120.0, description="Of one whole analysis")
    memory_bytes: int = 4 << 30
    cpu_seconds: int = 60
    output_bytes: int = 64 << 20
    max_frames: int = 256
    max_threads: int = 512
    sandbox: Literal["auto", "bubblewrap", "rlimits"] = Field(
        default="auto",
        description="Of what reads a core. auto: namespaces of its own where they can be made, else process limits and "
        "a filter of system calls; rlimits: these alone; bubblewrap: namespaces, or nothing is read",
    )
    index_cache: Path | None = Field(
        default=None, description="Where gdb's indexes of large debug information are kept; empty: DATA_DIR/gdb-index"
    )
    index_from_bytes: int = Field(
        default=48 << 20,
        description="Smaller debug information of a program is read faster than indexed; of libraries 1 MiB is enough",
    )
    index_cache_bytes: int = Field(default=4 << 30, description="Older indexes go when there is more; 0 keeps none")
