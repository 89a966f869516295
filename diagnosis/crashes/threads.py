"""The threads of a report: each stack merged from both engines, equal stacks once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.notes import ThreadStatus
from diagnosis.crashes.unwind.merge import Merged, Physical, merge, physical, unnamed, without_variables
from diagnosis.crashes.unwind.stack import CFI, CONTEXT, FRAME_POINTER, SCAN
from diagnosis.crashes.unwind.state import state_of
from diagnosis.crashes.unwind.symbols import NamedAddress, functions_at
from diagnosis.crashes.unwind.walk import Walk
from diagnosis.crashes.view import DebuggerView
from incidents.crash_frames import Disagreement, Frame, Thread, Unwinding

MAX_THREADS = 2000
"""Threads past this are counted, not listed."""
_MAX_DISAGREEMENTS = 20


@dataclass
class Threads:
    """The crashed thread first. `soft_errors` say what was left out, and where the engines differ."""

    listed: list[Thread] = field(default_factory=list)
    unwinding: Unwinding | None = None
    soft_errors: list[str] = field(default_factory=list)


def threads_of(
    core: CoreFile,
    modules: Modules,
    files: Mapping[str, str],
    view: DebuggerView,
    walk: Walk | None,
    as_they_are: Collection[int] = (),
) -> Threads:
    """Merge what was walked with what the debugger saw. `files` are verified local files by path in the core.

    The stacks of threads in `as_they_are` are taken from the debugger: it knows of stacks below those of the kernel.
    """
    result = Threads()
    known = known_frames(view)
    names = _names(modules, files, view, walk, known)
    groups: dict[bytes, tuple[int, Merged, list[Frame]]] = {}
    compared, disagreements = 0, []
    for status in core.threads[:MAX_THREADS]:
        stack = walk.stacks.get(status.tid) if walk and status.tid not in as_they_are else None
        key = stack.pcs.tobytes() if stack is not None and stack.pcs else str(status.tid).encode()
        own = status.tid in view.frames
        if key not in groups or (own and status is core.crashed):
            frames = view.frames.get(status.tid, [])
            merged = merge(stack, frames, modules, names, known, core.may_hold_code)
            if not merged.frames:
                merged.frames = _context(modules, status)
                merged.depth = len(merged.frames)
            _cut(core, status, merged, result.soft_errors)
            groups[key] = (len(groups), merged, without_variables(merged.frames))
            compared += merged.compared
            if merged.disagreement is not None:
                disagreements.append(merged.disagreement)
            shown = merged.frames
        else:
            shown = groups[key][2]
        number, merged, _ = groups[key]
        result.listed.append(_thread(core, status, merged, shown, number, view))
    result.soft_errors += _differences(core, walk, disagreements)
    if len(core.threads) > MAX_THREADS:
        result.soft_errors.append(f"{len(core.threads) - MAX_THREADS} more threads are not listed")
    if walk is not None:
        result.unwinding = _summary(walk, compared, disagreements)
    return result


def _thread(
    core: CoreFile, status: ThreadStatus, merged: Merged, frames: list[Frame], group: int, view: DebuggerView
) -> Thread:
    main = core.process is not None and core.process.pid == status.tid
    return Thread(
        thread_id=status.tid,
        thread_name=_text(core.process.comm) if main and core.process else None,
        state="crashed" if status is core.crashed else state_of(status, frames, core.header.machine),
        frame_count=merged.depth,
        truncated=merged.omitted > 0
        or (merged.depth <= len(frames) and not merged.walked and status.tid in view.truncated),
        frames=frames,
        recursion=merged.recursion,
        stack_group=group if len(core.threads) > 1 else None,
    )


def known_frames(view: DebuggerView) -> dict[int, Physical]:
    """Symbolised frames by return address, of all threads."""
    found: dict[int, Physical] = {pc: Physical(pc, (frame,)) for pc, frame in view.at.items()}
    for frames in view.frames.values():
        found.update((group.pc, group) for group in physical(frames)[1:])
    return found


def _names(
    modules: Modules,
    files: Mapping[str, str],
    view: DebuggerView,
    walk: Walk | None,
    known: Mapping[int, Physical],
) -> dict[int, NamedAddress]:
    """Names from symbol tables for frames that the debugger did not name."""
    if walk is None:
        return {}
    wanted: set[int] = set()
    seen_stacks = {walk.stacks[tid].pcs.tobytes() for tid in view.frames if tid in walk.stacks}
    done: set[bytes] = set()
    for tid, stack in walk.stacks.items():
        key = stack.pcs.tobytes()
        if key in done or (key in seen_stacks and tid not in view.frames):
            continue
        done.add(key)
        wanted.update(at for _, at in unnamed(stack, known, view.frames.get(tid, [])))
    found = functions_at(wanted, modules, {path: Path(local) for path, local in files.items()}) if wanted else {}
    return {at: view.names[at] for at in wanted if at in view.names} | found


def _context(modules: Modules, status: ThreadStatus) -> list[Frame]:
    """Where no stack could be walked the registers still give the innermost frame."""
    if status.pc is None:
        return []
    module = modules.at(status.pc)
    return [
        Frame(
            frame=0,
            trust="context",
            offset=hex(status.pc),
            module=_text(module.path) if module else None,
            module_offset=hex(status.pc - module.base) if module else None,
            build_id=module.build_id if module else None,
            build_id_match=modules.matches.get(module.path, "absent") if module else None,
            in_app=module.is_main if module else None,
            missing_symbols=True,
        )
    ]


def _cut(core: CoreFile, status: ThreadStatus, merged: Merged, soft: list[str]) -> None:
    """Leave out what the debugger put above a caller whose address is in no executable mapping.

    Data has no function: the debugger gives such an address the name of the variable that lies there.
    """
    for index, frame in enumerate(merged.frames):
        if frame.offset is not None and not core.may_hold_code(int(frame.offset, 16)):
            gone: dict[str, object] = {"function": None, "function_offset": None, "missing_symbols": True}
            if index:
                gone |= {"module": None, "module_offset": None, "build_id": None, "in_app": None}
            merged.frames[index] = frame.model_copy(update=gone)
            if index == 0:  # control went there
                continue
            if index + 1 < len(merged.frames):
                merged.frames = merged.frames[: index + 1]
                merged.depth = len(physical(merged.frames))
                soft.append(
                    f"thread {status.tid}: frame {index} is at {frame.offset}, which is no code; the stack above it "
                    "is damaged or cannot be unwound, and is left out"
                )
            return


_LEADS = {
    CONTEXT: "call frame information leads",
    CFI: "call frame information leads",
    FRAME_POINTER: "the chain of frame pointers leads",
    SCAN: "a search for return addresses leads",
}


def _differences(core: CoreFile, walk: Walk | None, disagreements: list[Disagreement]) -> list[str]:
    found = []
    for item in disagreements[:3]:
        where = "the crashing thread" if item.thread_id == core.crashed.tid else f"thread {item.thread_id}"
        stack = walk.stacks.get(item.thread_id) if walk else None
        how = _LEADS[stack.weakest(item.frame)] if stack else _LEADS[CFI]
        found.append(
            f"the two unwinders differ on {where} from frame {item.frame} on: {how} to {item.prewalk}, "
            f"gdb to {item.gdb}"
        )
    if len(disagreements) > 3:
        found.append(f"the two unwinders differ on {len(disagreements) - 3} more stacks")
    return found


def _summary(walk: Walk, compared: int, disagreements: list[Disagreement]) -> Unwinding:
    by_trust: dict[str, int] = {}
    for stack in walk.stacks.values():
        for trust, count in stack.counts().items():
            by_trust[trust] = by_trust.get(trust, 0) + count
    return Unwinding(
        threads=len(walk.stacks),
        frames=sum(by_trust.values()),
        unique_addresses=len(walk.unique()),
        by_trust=by_trust,
        compared_threads=compared,
        disagreements=disagreements[:_MAX_DISAGREEMENTS],
    )


def _text(value: str) -> str:
    """Bytes of a program that are not UTF-8 become replacement characters: reports are JSON."""
    return value.encode("utf-8", "replace").decode("utf-8")
