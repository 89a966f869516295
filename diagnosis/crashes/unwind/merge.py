"""One list of frames from two engines: our own walk, and what a debugger made of the same stack.

The walk knows every depth and how far it can be trusted; the debugger knows names, lines, variables and inlined calls.
Where they differ both are told, and the one with more proof is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from diagnosis.crashes.frames import HANDLER_FRAME
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.unwind.stack import CFI, CONTEXT, Repeat, WalkedStack, repeat_in
from diagnosis.crashes.unwind.symbols import NamedAddress
from incidents.crash_frames import Disagreement, Frame, Recursion

LISTED_ROUNDS = 2
LISTED_TAIL = 24
MAX_LISTED = 256
_MAX_INLINED = 32
_MAX_TAIL_CALLS = 8


@dataclass
class Merged:
    """`depth` is the number of physical frames; `omitted` of them are not in `frames`."""

    frames: list[Frame] = field(default_factory=list)
    depth: int = 0
    omitted: int = 0
    recursion: Recursion | None = None
    disagreement: Disagreement | None = None
    walked: bool = False
    compared: bool = False
    cut: str | None = None
    """Why frames of the debugger were left out, or None."""


@dataclass(frozen=True)
class Physical:
    """A physical frame of the debugger with the calls inlined into it, innermost first."""

    pc: int
    frames: tuple[Frame, ...]


def physical(frames: Sequence[Frame]) -> list[Physical]:
    """`frames` by physical frame. Inlined calls share the program counter of the frame that they are part of.

    So do the frames of a direct recursion; there the same function and line come again, and one round of the names is
    one physical frame.
    """
    found: list[Physical] = []
    start = 0
    while start < len(frames):
        end = start
        while end < len(frames) and frames[end].offset == frames[start].offset:
            end += 1
        names = [(frame.function, frame.file, frame.line) for frame in frames[start:end]]
        size = next(
            (
                n
                for n in range(1, min(len(names), _MAX_INLINED) + 1)
                if all(a == b for a, b in zip(names, names[n:], strict=False))
            ),
            len(names),
        )
        pc = int(frames[start].offset or "0", 16)
        found += [Physical(pc, tuple(frames[at : min(at + size, end)])) for at in range(start, end, size)]
        start = end
    return found


def merge(
    stack: WalkedStack | None,
    frames: Sequence[Frame],
    modules: Modules,
    names: Mapping[int, NamedAddress],
    known: Mapping[int, Physical],
    is_code: Callable[[int], bool],
) -> Merged:
    """The frames to show for one thread.

    `frames` are the debugger's, perhaps fewer than there are. `known` are symbolised frames by program counter, from
    this and other threads; `names` are from symbol tables, for where no debugger looked.
    """
    groups = physical(frames)
    if stack is None or not stack.pcs:
        return Merged(list(frames), len(groups))
    groups = _with_tail_calls(stack, groups)
    depth = len(stack.pcs)
    agreed = _agreed(stack, groups)
    merged = Merged(depth=depth, walked=True, compared=bool(groups))
    shorter = min(len(groups), depth)
    if agreed < shorter:
        rest = [stack.pcs[depth] for depth in range(agreed, len(stack.pcs))][:MAX_LISTED]
        merged.disagreement = Disagreement(
            thread_id=stack.tid, frame=agreed, prewalk=hex(stack.pcs[agreed]), gdb=hex(groups[agreed].pc)
        )
        if (
            stack.weakest(agreed) not in (CFI, CONTEXT)
            and is_code(groups[agreed].pc)
            and (_reaches_program(modules, [g.pc for g in groups[agreed:]]) or not _reaches_program(modules, rest))
        ):
            # the debugger went on by its own analysis of the code, we by search: its frames are the better guess,
            # unless they end in the middle of a library
            merged.frames = [*_trusted(stack, groups[:agreed]), *(f for g in groups[agreed:] for f in g.frames)]
            merged.depth = len(groups)
            return merged
        merged.cut = f"the debugger has {hex(groups[agreed].pc)} there"
        groups = groups[:agreed]
    elif len(groups) > depth and stack.end != "limit":
        merged.frames = [*_trusted(stack, groups[:depth]), *(f for g in groups[depth:] for f in g.frames)]
        merged.depth = len(groups)
        return merged
    if groups and agreed == len(groups) and groups[-1].frames[-1].function == "main":
        depth = merged.depth = len(groups)  # what called main says nothing; debuggers end there too
    repeat = repeat_in(stack.pcs)
    listed = _listed(depth, repeat)
    merged.omitted = depth - len(listed)
    by_pc = {**known, **{group.pc: group for group in groups[1:]}}
    for position in listed:
        if position < len(groups):
            merged.frames += _one(stack, position, groups[position].frames, len(merged.frames))
        else:
            at = by_pc.get(stack.pcs[position])
            own = at.frames if at is not None and position > 0 else (_bare(stack, position, modules, names),)
            merged.frames += _one(
                stack, position, tuple(_without_variables(f) for f in own), len(merged.frames) + _gap(listed, position)
            )
            if own[-1].function == "main" and position > len(groups):
                merged.depth = position + 1
                break
    if repeat is not None and merged.omitted:
        merged.recursion = _recursion(stack, repeat, by_pc, modules, names, merged.omitted)
    return merged


def _reaches_program(modules: Modules, pcs: Sequence[int]) -> bool:
    """The program's own code is among `pcs`."""
    return any(module is not None and module.is_main for module in map(modules.at, pcs))


def _with_tail_calls(stack: WalkedStack, groups: Sequence[Physical]) -> list[Physical]:
    """`groups` with frames that are on no stack joined to their callers.

    A debugger shows a function that ended in a jump to the next one (DWARF 5, 3.4.1: DW_AT_call_tail_call), at an
    address that no return goes to.
    """
    found: list[Physical] = []
    at = 0
    while at < len(groups):
        depth = len(found)
        if depth < len(stack.pcs) and groups[at].pc != stack.pcs[depth]:
            ahead = [group.pc for group in groups[at : at + _MAX_TAIL_CALLS + 1]]
            if stack.pcs[depth] in ahead:
                end = at + ahead.index(stack.pcs[depth])
                joined = tuple(frame for group in groups[at : end + 1] for frame in group.frames)
                found.append(Physical(stack.pcs[depth], joined))
                at = end + 1
                continue
        found.append(groups[at])
        at += 1
    return found


def _agreed(stack: WalkedStack, groups: Sequence[Physical]) -> int:
    """Depth of the first difference."""
    for depth, group in enumerate(groups[: len(stack.pcs)]):
        if stack.pcs[depth] != group.pc:
            return depth
    return min(len(groups), len(stack.pcs))


def _listed(depth: int, repeat: Repeat | None) -> list[int]:
    if repeat is not None:
        head = min(repeat.first + LISTED_ROUNDS * repeat.period, repeat.end)
        if repeat.end - head > repeat.period:
            tail = [*range(repeat.end, depth)]
            return [
                *range(min(head, MAX_LISTED)),
                *tail[: LISTED_TAIL // 2],
                *tail[LISTED_TAIL // 2 :][-LISTED_TAIL // 2 :],
            ]
    if depth <= MAX_LISTED:
        return list(range(depth))
    return [*range(MAX_LISTED - LISTED_TAIL), *range(depth - LISTED_TAIL, depth)]


def _gap(listed: Sequence[int], position: int) -> int:
    """Physical frames left out above `position`."""
    return position - listed.index(position)


def _trusted(stack: WalkedStack, groups: Sequence[Physical]) -> list[Frame]:
    found: list[Frame] = []
    for position, group in enumerate(groups):
        found += _one(stack, position, group.frames, len(found))
    return found


def _one(stack: WalkedStack, position: int, frames: Sequence[Frame], number: int) -> list[Frame]:
    """`frames` of one physical frame, numbered from `number`: all but the last are inlined, or ended in a jump."""
    trust, last = stack.trust(position), len(frames) - 1
    found = []
    for index, frame in enumerate(frames):
        real = frame.offset == frames[last].offset
        update = {
            "frame": number + index,
            "trust": trust if real else "gdb",
            "inlined": True if index < last and real else None,
        }
        found.append(frame.model_copy(update=update))
    return found


def unnamed(stack: WalkedStack, known: Mapping[int, Physical], frames: Sequence[Frame]) -> list[tuple[int, int]]:
    """(program counter, address to look up) of the frames to list that are not among the debugger's `frames`."""
    seen, depth = _agreed(stack, _with_tail_calls(stack, physical(frames))), len(stack.pcs)
    return [
        (stack.pcs[position], stack.lookup(position))
        for position in _listed(depth, repeat_in(stack.pcs))
        if position >= seen and (position == 0 or stack.pcs[position] not in known)
    ]


def without_variables(frames: Sequence[Frame]) -> list[Frame]:
    """Frames of another thread with the same stack."""
    return [_without_variables(frame) for frame in frames]


def _without_variables(frame: Frame) -> Frame:
    """Of another frame of the same function: its values are not these."""
    return frame.model_copy(update={"args": [], "locals": []}) if frame.args or frame.locals else frame


def _bare(stack: WalkedStack, position: int, modules: Modules, names: Mapping[int, NamedAddress]) -> Frame:
    """A frame with what its address alone tells."""
    pc = stack.pcs[position]
    module = modules.at(pc)
    name = names.get(stack.lookup(position))
    handler = position + 1 in stack.interrupted
    return Frame(
        frame=position,
        offset=hex(pc),
        module=_text(module.path) if module else None,
        module_offset=hex(pc - module.base) if module else None,
        build_id=module.build_id if module else None,
        build_id_match=modules.matches.get(module.path, "absent") if module else None,
        function=HANDLER_FRAME if handler else name.function if name else None,
        function_offset=hex(name.offset + pc - stack.lookup(position)) if name else None,
        in_app=module.is_main if module else None,
        missing_symbols=None if name or handler else True,
    )


def _recursion(
    stack: WalkedStack,
    repeat: Repeat,
    by_pc: Mapping[int, Physical],
    modules: Modules,
    names: Mapping[int, NamedAddress],
    omitted: int,
) -> Recursion:
    functions: list[str] = []
    for position in range(repeat.first, repeat.first + repeat.period):
        known = by_pc.get(stack.pcs[position])
        for frame in known.frames if known else (_bare(stack, position, modules, names),):
            module = frame.module.rsplit("/", 1)[-1] if frame.module else "?"
            functions.append(frame.function or f"{module}+{frame.module_offset or frame.offset}")
    return Recursion(first=repeat.first, period=repeat.period, count=repeat.count, functions=functions, omitted=omitted)


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode("utf-8")
