"""The crashed goroutine of a Go program, and what it said, without a debugger: see `crashed_goroutine`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diagnosis.crashes.causes.go import Goroutines
from diagnosis.crashes.causes.golang.descriptors import MAIN, all_goroutines, running
from diagnosis.crashes.causes.golang.owned import owned
from diagnosis.crashes.causes.golang.panics import fatal_text, panic_values
from diagnosis.crashes.causes.golang.program import Program
from diagnosis.crashes.causes.golang.stack import Physical, go_stack, parked_stack
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import ElfFile, FileBytes
from diagnosis.crashes.modules import MappedModule, Modules
from diagnosis.crashes.view import render_frames
from errors import UnusableCore
from incidents.crash_frames import Frame

TRUST = "pclntab"
_NOBODY_RUNS = frozenset({"runtime.checkdead"})
"""All goroutines wait: the thread that noticed works for none, and the program's place is where its main one waits."""


def crashed_goroutine(core: CoreFile, modules: Modules, executable: Path) -> Goroutines | None:
    """What Go's own tables and the core's memory say; None where they do not lead to Go's code.

    For x86-64 and Go 1.18 or later. `executable` is the file that was proved to be the program's. Blocking.
    """
    module = modules.main
    if module is None or core.header.machine != "x86_64":
        return None
    try:
        with FileBytes(executable) as file:
            program = Program(core, module, ElfFile(file))
            return _crashed(core, modules, module, program)
    except (UnusableCore, ValueError):
        return None


def _crashed(core: CoreFile, modules: Modules, module: MappedModule, program: Program) -> Goroutines | None:
    thread = running(core, core.crashed)
    stack = go_stack(core, program, core.crashed, thread)
    if not stack.frames or stack.foreign:
        return None  # C code below Go's: the debugger's stack says more
    listed = all_goroutines(core, _globals(core, module))
    frames = owned(_frames(program, modules, stack.frames))
    main = listed.get(MAIN) if listed else None
    if main is not None and any(frame.function in _NOBODY_RUNS for frame in frames):
        waiting = parked_stack(core, program, main.pc, main.sp) if main.holds(main.sp) else None
        if waiting is not None and waiting.complete:
            frames = owned(_frames(program, modules, [*stack.frames, *waiting.frames]))
    found = Goroutines(frames=frames, text=render_frames(frames), source="tables")
    if thread is not None and thread.current is not None:
        values = panic_values(program, thread.current)
        if values:
            found.panic = "; then panic: ".join(value.text for value in values)
            found.told_at = values[-1].address
    fatal = fatal_text(program, stack.frames)
    if fatal is not None:
        found.fatal, found.told_at = fatal.text, fatal.address
    found.count = len(listed) if listed else None
    return found


def _frames(program: Program, modules: Modules, frames: Sequence[Physical]) -> list[Frame]:
    found: list[Frame] = []
    for physical in frames:
        module = modules.at(physical.pc)
        path = module.path.encode("utf-8", "replace").decode() if module else None
        for place in program.calls(physical.function, physical.at):
            found.append(
                Frame(
                    frame=len(found),
                    trust=TRUST,
                    offset=hex(physical.pc),
                    module=path,
                    module_offset=hex(physical.pc - module.base) if module else None,
                    build_id=module.build_id if module else None,
                    build_id_match=modules.matches.get(module.path, "absent") if module else None,
                    function=place.function[:1000].removesuffix(".abi0"),
                    file=place.file[:1000] if place.file else None,
                    line=place.line,
                    inlined=True if place.inlined else None,
                )
            )
    return found


def _globals(core: CoreFile, module: MappedModule) -> list[range]:
    """The program's writable memory: its variables, and the page-aligned rest that the loader zeroed behind them."""
    found = []
    end = module.end
    for piece in core.memory.pieces:
        if not piece.writable or not piece.filesz:
            continue
        if module.base <= piece.vaddr < module.end or piece.vaddr == end:
            found.append(range(piece.vaddr, piece.vaddr + piece.filesz))
            end = max(end, piece.vaddr + piece.filesz) if piece.vaddr == end else end
    return found
