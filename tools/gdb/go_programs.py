"""The stack of a Go program in place of gdb's, which knows nothing of goroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from diagnosis.crashes.causes.go import Goroutines
from diagnosis.crashes.causes.golang.crashed import crashed_goroutine
from diagnosis.crashes.causes.golang.told import with_words
from diagnosis.crashes.code import instructions_at
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import ElfFile, FileBytes
from diagnosis.crashes.frames import HANDLER_FRAME
from diagnosis.crashes.sections import sections_of
from diagnosis.crashes.unwind.walk import Walk
from diagnosis.crashes.view import DebuggerView
from errors import ToolFailed, ToolMissing, ToolTimeout, UnusableCore
from incidents.crash_frames import Frame, Instruction
from settings import GdbSettings
from tools.delve.goroutines import goroutines
from tools.gdb.opened import OpenedCore


async def show_goroutines(
    opened: OpenedCore,
    settings: GdbSettings,
    deadline: float,
    say: Callable[[str], None],
    view: DebuggerView,
    stacks: Walk | None,
    *,
    full: bool,
) -> Goroutines | None:
    """A Go program's stack in place of gdb's: delve's where it is `full` and can tell, else by Go's own tables."""
    executable = opened.case.executable
    found = own = None
    if executable is not None:
        files = opened.resolved.files
        own = await asyncio.to_thread(crashed_goroutine, opened.core, opened.modules, executable, files, stacks)
    if full:
        say("asking delve")
        try:
            found = await goroutines(opened, settings, deadline)
        except (ToolFailed, ToolMissing, ToolTimeout) as error:
            instead = "Go's own tables were used" if own else "goroutines are not shown"
            view.soft_errors.append(f"{error}; {instead}")
        else:
            found = with_words(found, own)
    found = found or own
    if found is not None:
        view.frames[opened.core.crashed.tid] = found.frames
        if found.handler_context is not None:
            view.handler_context = found.handler_context
            view.disassembly = _interrupted(opened.core, found.frames)
        view.complete = view.complete or full
        view.names = found.names
    return found


def _interrupted(core: CoreFile, frames: Sequence[Frame]) -> list[Instruction]:
    """The instructions around the one that a handler of a fault interrupted: gdb showed those of the last signal."""
    handler = next((index for index, frame in enumerate(frames) if frame.function == HANDLER_FRAME), len(frames))
    pc = int(frames[handler + 1].offset or "0", 16) if handler + 1 < len(frames) else None
    found = instructions_at(core, pc)
    return [Instruction(address=hex(each.address), text=each.text, is_pc=each.address == pc) for each in found]


def is_go_program(executable: Path | None) -> bool:
    """Go's linker puts the build information in a section of this name (cmd/link, debug/buildinfo)."""
    if executable is None:
        return False
    try:
        with FileBytes(executable) as file:
            return ".go.buildinfo" in sections_of(ElfFile(file))
    except UnusableCore:
        return False
