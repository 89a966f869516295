"""The commands of one look at a core, and what their answers mean."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.frames import HANDLER_FRAME, relevant
from diagnosis.crashes.handled import was_raised_by_itself
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.notes import ThreadStatus
from diagnosis.crashes.unwind.walk import Walk
from diagnosis.crashes.view import DebuggerView, render_frames
from incidents.crash_report import Frame, Variable
from tools.gdb.deep import deeper
from tools.gdb.frames import arguments_of, disassembly_of, frames_of, number, variables_of
from tools.gdb.layout import layouts, rendered
from tools.gdb.opened import OpenedCore
from tools.gdb.session import Answer, GdbSession, GdbStopped
from tools.gdb.unread import LIST, WAIT, Unread, unread

_LOCALS_FRAMES = 8
_CODE_AFTER, _CODE_BEFORE = 48, 512
DEEP_FRAMES = 64
"""Frames of a stack that is deeper than is listed; the walk has the others."""
_ARGUMENT_THREADS = 64
"""Arguments of all frames are read for so many threads; they cost as much again as the frames."""

_STD_PRINTERS = (
    "python import sys; sys.path.insert(0, '/usr/share/gcc/python'); "
    "from libstdcxx.v6 import register_libstdcxx_printers; register_libstdcxx_printers(None)"
)


@dataclass(frozen=True)
class Depth:
    """How much to ask for. A second try after gdb hit a limit asks for less."""

    frames: int
    threads: int
    variables: bool


async def look(
    session: GdbSession, opened: OpenedCore, walk: Walk | None, depth: Depth, deadline: float, view: DebuggerView
) -> None:
    """Fill `view`. Raises GdbStopped when gdb did not get through; what had been answered is in `view` then.

    `walk` saves most of the work: gdb is asked for one thread of each group with the same stack, and of a deep stack
    only for the innermost frames; an unlimited backtrace of a stack overflow takes gdb 2 GB.
    """
    core, modules = opened.core, opened.modules
    crashed_stack = walk.stacks.get(core.crashed.tid) if walk else None
    if crashed_stack is not None and len(crashed_stack.pcs) > depth.frames:
        depth = replace(depth, frames=min(depth.frames, DEEP_FRAMES))
    left = await asyncio.to_thread(unread, opened, walk)
    ids = await load(session, opened, depth.frames, deadline, printers=depth.variables, left=left)
    crashed = ids.get(core.crashed.tid, 1)
    await _crash_thread(session, core, modules, depth, deadline, view, crashed)
    if depth.variables:
        await layouts(session, core, crashed, deadline, view)
        view.texts += rendered(view.layouts)
    await _other_threads(session, opened, depth, deadline, view, _representatives(core, walk, ids, depth))
    await deeper(session, modules, walk, deadline, view)
    view.soft_errors += _warnings(session.warnings)


async def load(
    session: GdbSession, opened: OpenedCore, frames: int, deadline: float, *, printers: bool, left: Unread | None = None
) -> dict[int, int]:
    """Open the core in gdb; gdb's own thread numbers by kernel thread id. Raises GdbStopped.

    The symbols of the libraries `left` wait until an answer needs them. gdb numbers threads in the order of their
    notes. Its `-thread-info` takes longer than all stacks together.
    """
    core = opened.core
    commands = [f"-gdb-set backtrace limit {frames}"]
    if printers and any("libstdc++" in module.path for module in opened.modules.all):
        commands.append(f'-interpreter-exec console "{_STD_PRINTERS}"')
    if opened.case.executable is not None:
        commands.append("-file-exec-and-symbols exe")
    if left:
        commands.append(WAIT)
    await session.run([*commands, "-target-select core core"], deadline)
    if left:
        (listed,) = await session.run([LIST], deadline)
        if others := left.others(listed.payload, opened.modules):
            await session.run(others, deadline)
        session.unread = left
    return {status.tid: index for index, status in enumerate(core.threads, 1)}


def _representatives(core: CoreFile, walk: Walk | None, ids: dict[int, int], depth: Depth) -> dict[int, int]:
    """gdb's numbers of the threads to ask for, by kernel thread id: one of each stack but the crashed thread's."""
    seen: set[bytes] = set()
    if walk is not None and core.crashed.tid in walk.stacks:
        seen.add(walk.stacks[core.crashed.tid].pcs.tobytes())
    chosen: dict[int, int] = {}
    for status in core.threads[1:]:
        stack = walk.stacks.get(status.tid) if walk else None
        if stack is not None and stack.pcs:
            key = stack.pcs.tobytes()
            if key in seen:
                continue
            seen.add(key)
        if len(chosen) >= depth.threads - 1:
            break
        if status.tid in ids:
            chosen[status.tid] = ids[status.tid]
    return chosen


async def _crash_thread(
    session: GdbSession,
    core: CoreFile,
    modules: Modules,
    depth: Depth,
    deadline: float,
    view: DebuggerView,
    thread: int,
) -> None:
    at = f"--thread {thread}"
    last = depth.frames - 1
    code = f"-data-disassemble -s $pc -e $pc+{_CODE_AFTER} -- 0"
    stack = f"-stack-list-frames {at} 0 {last}"
    arguments = f"-stack-list-arguments {at} --simple-values 0 {last}"
    signal = f"-data-evaluate-expression {at} $_siginfo"
    commands = [f"-thread-select {thread}", stack, code, signal]
    if depth.variables:
        commands.append(arguments)
    answers: list[Answer | None]
    stopped: GdbStopped | None = None
    try:
        answers = list(await session.run(commands, deadline))
    except GdbStopped as error:
        answers, stopped = error.answers, error
    tid, pc = core.crashed.tid, core.crashed.pc or 0
    frames = frames_of(answers[1].payload, modules) if answers[1] else []
    source = stack
    if len(answers) > 4 and answers[4]:
        frames = _with_arguments(frames, arguments_of(answers[4].payload))
        source = f"{stack}; {arguments}"
    if answers[2]:
        view.disassembly = disassembly_of(answers[2].payload, pc)
    frames = _keep(view, core.crashed, frames, depth)
    if stopped is None and frames:
        handler = next((i for i, frame in enumerate(frames) if frame.function == HANDLER_FRAME), None)
        if handler is not None and handler + 1 < len(frames) and was_raised_by_itself(core):
            code = await _interrupted(session, view, at, frames[handler : handler + 2], deadline)
        else:
            await _code_before(session, view, pc, deadline)
        if depth.variables:
            await _locals(session, at, deadline, view, tid)
    view.texts.insert(0, (source, render_frames(view.frames.get(tid, []))))
    if view.disassembly:
        lines = [
            f"{'=> ' if item.is_pc else '   '}{item.address} <+{item.offset}> {item.text}" for item in view.disassembly
        ]
        view.texts.insert(1, (code, "\n".join(lines)))
    if answers[3] and answers[3].ok:
        view.texts.append((signal, str(answers[3].payload.get("value", ""))))
    if stopped is not None:
        raise stopped


async def _interrupted(session: GdbSession, view: DebuggerView, at: str, frames: list[Frame], deadline: float) -> str:
    """Where a signal handler was called from: its context, and the code of the interrupted function instead."""
    handler, interrupted = frames
    code = f"-data-disassemble {at} --frame {interrupted.frame} -s $pc -e $pc+{_CODE_AFTER} -- 0"
    context = f'-data-evaluate-expression {at} --frame {handler.frame} --language c "(unsigned long)$sp"'
    listing, pointer = await session.run([code, context], deadline)
    view.handler_context = number(pointer.payload.get("value"))
    view.disassembly = disassembly_of(listing.payload, number(interrupted.offset) or 0)
    return code


async def _code_before(session: GdbSession, view: DebuggerView, pc: int, deadline: float) -> None:
    """Instructions before the crash: from the start of the function, where instructions surely begin."""
    current = next((item for item in view.disassembly if item.is_pc), None)
    if current is None or not current.offset or current.offset > _CODE_BEFORE:
        return
    command = f"-data-disassemble -s $pc-{current.offset} -e $pc -- 0"
    answer = (await session.run([command], deadline))[0]
    view.disassembly = disassembly_of(answer.payload, pc)[-12:] + view.disassembly


async def _locals(session: GdbSession, at: str, deadline: float, view: DebuggerView, tid: int) -> None:
    frames = view.frames[tid]
    telling = [*relevant(frames), *frames]  # the way into abort last
    wanted = list(dict.fromkeys(frame.frame for frame in telling if frame.function and frame.line))[:_LOCALS_FRAMES]
    commands = [
        f"-stack-list-variables {at} --frame {level} {kind}"
        for level in wanted
        for kind in ("--simple-values", "--all-values")
    ]
    answers = await session.run(commands, deadline) if commands else []
    for index, level in enumerate(wanted):
        simple, full = answers[2 * index], answers[2 * index + 1]
        arguments, local = variables_of(simple.payload, full.payload)
        for position, frame in enumerate(frames):
            if frame.frame == level:
                frames[position] = frame.model_copy(update={"args": arguments or frame.args, "locals": local})
        shown = [_shown(variable) for variable in (*arguments, *local)]
        if shown:
            view.texts.append((full.command, "\n".join(shown)))


async def _other_threads(
    session: GdbSession, opened: OpenedCore, depth: Depth, deadline: float, view: DebuggerView, ids: dict[int, int]
) -> None:
    last = depth.frames - 1
    modules, statuses = opened.modules, {status.tid: status for status in opened.core.threads}
    with_arguments = depth.variables and len(ids) < _ARGUMENT_THREADS
    stacks = {tid: f"-stack-list-frames --thread {own} 0 {last}" for tid, own in ids.items()}
    arguments = {tid: f"-stack-list-arguments --thread {own} --simple-values 0 {last}" for tid, own in ids.items()}
    commands = [*stacks.values(), *(arguments.values() if with_arguments else ())]
    stopped: GdbStopped | None = None
    try:
        answers: list[Answer | None] = list(await session.run(commands, deadline)) if commands else []
    except GdbStopped as error:
        answers, stopped = error.answers, error
    groups: dict[str, list[int]] = {}
    for index, tid in enumerate(ids):
        answer = answers[index]
        if answer is None or not answer.ok:
            continue
        frames = frames_of(answer.payload, modules)
        groups.setdefault(render_frames(frames), []).append(tid)
        extra = answers[len(ids) + index] if with_arguments else None
        _keep(view, statuses[tid], _with_arguments(frames, arguments_of(extra.payload)) if extra else frames, depth)
    for text, tids in groups.items():
        view.texts.append((stacks[tids[0]], f"threads {', '.join(map(str, tids))}:\n{text}"))
    if stopped is not None:
        raise stopped


def _keep(view: DebuggerView, status: ThreadStatus, frames: list[Frame], depth: Depth) -> list[Frame]:
    """Take the frames of a thread, unless their first is not where the thread's own note says it was."""
    if not frames:
        return []
    if status.pc is not None and number(frames[0].offset) != status.pc:
        view.soft_errors.append(
            f"gdb's stack of thread {status.tid} begins elsewhere than its registers; it is left out"
        )
        return []
    view.frames[status.tid] = frames
    if len(frames) >= depth.frames:
        view.truncated.add(status.tid)
    return frames


def _with_arguments(frames: list[Frame], arguments: dict[int, list[Variable]]) -> list[Frame]:
    return [frame.model_copy(update={"args": arguments.get(frame.frame, [])}) for frame in frames]


def _shown(variable: Variable) -> str:
    return f"{variable.name}: {variable.type or '?'} = {variable.value if variable.value is not None else '…'}"


def _warnings(lines: list[str]) -> list[str]:
    """gdb's warnings that a reader of the report needs; the rest repeats what the core's own notes say."""
    kept = []
    for line in lines:
        text = line.strip()
        if text.startswith("warning: ") and not text.startswith(_EXPECTED):
            kept.append(f"gdb: {text.removeprefix('warning: ')}"[:300])
    return list(dict.fromkeys(kept))[:10]


_EXPECTED = (
    "warning: Section `.reg-xstate",  # gdb 13 on kernels since 6.x, for each thread
    "warning: Can't open file",  # libraries that are not at hand, already listed with their build-ids
    "warning: Could not load shared library symbols",
    "warning: Unable to find libthread_db",
    "warning: Unable to find dynamic linker",
    "warning: .dynamic section for",
    "warning: Missing auto-load script",
    "warning: core file may not match",  # it compares names; build-ids were compared before
    "warning: File ",
    "warning: (Internal error: pc 0x",  # gdb 13 on optimised Rust; the frame is right all the same
    "warning: (Error: pc 0x",
)
