"""The crashed goroutine of a Go program, and what it said, without a debugger: see `crashed_goroutine`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from diagnosis.crashes.causes.go import Goroutines
from diagnosis.crashes.causes.golang.descriptors import MAIN, all_goroutines, running
from diagnosis.crashes.causes.golang.owned import owned
from diagnosis.crashes.causes.golang.panics import fatal_text, panic_values
from diagnosis.crashes.causes.golang.program import Program
from diagnosis.crashes.causes.golang.stack import Physical, StackReader
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import ElfFile, FileBytes
from diagnosis.crashes.frames import HANDLER_FRAME
from diagnosis.crashes.modules import MappedModule, Modules
from diagnosis.crashes.unwind.symbols import NamedAddress, functions_at
from diagnosis.crashes.unwind.walk import Walk
from diagnosis.crashes.view import render_frames
from errors import UnusableCore
from incidents.crash_frames import Frame

_NAMED, _ALL_NAMED = 64, 20_000
"""Frames of each other thread, and of all, whose functions are named."""
_NOBODY_RUNS = frozenset({"runtime.checkdead"})
"""All goroutines wait: the thread that noticed works for none, and the program's place is where its main one waits."""


def crashed_goroutine(
    core: CoreFile,
    modules: Modules,
    executable: Path,
    files: Mapping[str, Path] = MappingProxyType({}),
    walk: Walk | None = None,
) -> Goroutines | None:
    """What Go's own tables and the core's memory say; None where they do not lead to Go's code.

    For x86-64 and Go 1.18 or later. `executable` is the program's file, `files` are verified ones of all modules by
    their path in the core, for the names of C code; the functions on the stacks of `walk` are named, too. Blocking.
    """
    module = modules.main
    if module is None or core.header.machine != "x86_64":
        return None
    try:
        with FileBytes(executable) as file:
            program = Program(core, module, ElfFile(file))
            found = _crashed(core, modules, module, program, files)
            if found is not None and walk is not None:
                found.names = _names(program, walk)
            return found
    except (UnusableCore, ValueError):
        return None


def _crashed(
    core: CoreFile, modules: Modules, module: MappedModule, program: Program, files: Mapping[str, Path]
) -> Goroutines | None:
    thread = running(core, core.crashed)
    reader = StackReader(core, modules, program, thread)
    stack = reader.crashed()
    if not stack.frames or stack.lost:
        return None  # C code that Go did not call: the debugger's stack says more
    listed = all_goroutines(core, _globals(core, module))
    physical = stack.frames
    main = listed.get(MAIN) if listed else None
    if main is not None and any(each.function and each.function.name in _NOBODY_RUNS for each in physical):
        waiting = reader.parked(main.pc, main.sp) if main.holds(main.sp) else None
        if waiting is not None and waiting.complete:
            physical = [*physical, *waiting.frames]
    frames = _frames(program, modules, physical, stack.fault[0] if stack.fault else None, files)
    found = Goroutines(frames=frames, text=render_frames(frames), source="tables")
    found.count = len(listed) if listed else None
    found.handler_context = stack.fault[1] if stack.fault else None
    if thread is not None and thread.current is not None:
        values = panic_values(program, thread.current)
        if values:
            found.panic = "; then panic: ".join(value.text for value in values)
            found.told_at = values[-1].address
    fatal = fatal_text(program, physical)
    if fatal is not None:
        found.fatal, found.told_at = fatal.text, fatal.address
    return found


def _frames(
    program: Program, modules: Modules, stack: Sequence[Physical], fault: int | None, files: Mapping[str, Path]
) -> list[Frame]:
    """`fault` is the depth at which the kernel called the handler of a fault."""
    names = functions_at((each.at for each in stack if each.function is None), modules, files)
    found: list[Frame] = []
    for depth, physical in enumerate(stack):
        if depth == fault:
            found.append(Frame(frame=len(found), trust=physical.trust, function=HANDLER_FRAME, in_app=False))
        module = modules.at(physical.pc)
        bare = Frame(
            frame=len(found),
            trust=physical.trust,
            offset=hex(physical.pc),
            module=module.path.encode("utf-8", "replace").decode() if module else None,
            module_offset=hex(physical.pc - module.base) if module else None,
            build_id=module.build_id if module else None,
            build_id_match=modules.matches.get(module.path, "absent") if module else None,
        )
        if physical.function is None:
            name = names.get(physical.at)
            own = module.is_main if module else None
            found.append(bare.model_copy(update={"function": name.function if name else None, "in_app": own}))
            continue
        for place in program.calls(physical.function, physical.at):
            told = {
                "frame": len(found),
                "function": place.function[:1000].removesuffix(".abi0"),
                "file": place.file[:1000] if place.file else None,
                "line": place.line,
                "inlined": True if place.inlined else None,
            }
            found.append(bare.model_copy(update=told))
    return [own if frame.in_app is None else frame for frame, own in zip(found, owned(found), strict=True)]


def _names(program: Program, walk: Walk) -> dict[int, NamedAddress]:
    addresses = (stack.lookup(depth) for stack in walk.stacks.values() for depth in range(min(len(stack.pcs), _NAMED)))
    found: dict[int, NamedAddress] = {}
    for address in set(islice(addresses, _ALL_NAMED)):
        function = program.function(address)
        if function is not None:
            found[address] = NamedAddress(function.name.removesuffix(".abi0"), address - program.entry(function))
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
