"""Layouts of what the pointers at the crash point to, asked of gdb by typed queries.

Only names of variables and members that are plain identifiers are put into a command: they come from debug
information, which the core's owner wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.faults import implied_fault, memory_fault
from diagnosis.crashes.frames import relevant
from diagnosis.crashes.layouts import Layout, Member
from diagnosis.crashes.root_cause.pointers import bad_value
from diagnosis.crashes.root_cause.variables import pointer_of
from diagnosis.crashes.signals import FAULTS, was_sent
from diagnosis.crashes.view import DebuggerView
from incidents.crash_frames import Frame, Variable
from tools.gdb.session import GdbSession

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_HEAD = re.compile(r"type = (?P<type>(?:const |volatile )*(?:struct |class |union )?[^{:]*)")
_ROW = re.compile(r"^/\*\s*(?P<offset>\d+)(?:\s*:\s*\d+)?\s*\|\s*(?P<size>\d+)\s*\*/\s+(?P<text>.*)$")
_TOTAL = re.compile(r"/\* total size(?: \(bytes\))?:\s*(\d+)(?: bytes)? \*/")  # gdb 12 on, and before
_CLOSED = re.compile(r"^\s*\}\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)?(?:\[\d+\])*;")
_POINTERS, _MEMBERS, _ROWS = 8, 4, 2000


async def layouts(session: GdbSession, core: CoreFile, thread: int, deadline: float, view: DebuggerView) -> None:
    """Fill `view.layouts` for the innermost frame of the program, where a memory fault is to be explained.

    First what its pointers point to, then what the members point to that hold the bad value. Raises GdbStopped.
    """
    if core.signo not in FAULTS or not core.crashed.tid or core.crashed.tid not in view.frames:
        return
    sent = core.signal is None or was_sent(core.signal.code)
    fault = implied_fault(core) if sent else memory_fault(core)
    value = bad_value(fault) if fault is not None and not fault.at_pc else None
    if value is None:
        return
    frame = next(iter(relevant(view.frames[core.crashed.tid])), None)
    if frame is None:
        return
    named = {variable.name: address for variable, address in _pointers(frame)}
    first = await _ask(session, thread, frame.frame, named, deadline)
    members = {
        f"{layout.expression}->{member.name}": value for layout in first for member in _bad_members(core, layout, value)
    }
    second = await _ask(session, thread, frame.frame, dict(list(members.items())[:_MEMBERS]), deadline)
    view.layouts = [*first, *second]


async def _ask(
    session: GdbSession, thread: int, frame: int, expressions: dict[str, int], deadline: float
) -> list[Layout]:
    if not expressions:
        return []
    at = f"--thread {thread} --frame {frame}"
    commands = [f'-interpreter-exec {at} console "ptype /o *{expression}"' for expression in expressions]
    answers = await session.run(commands, deadline)
    return [
        layout
        for (expression, address), answer in zip(expressions.items(), answers, strict=True)
        if answer.ok and (layout := parsed(answer.console, expression, frame, address)) is not None
    ]


def _pointers(frame: Frame) -> Iterator[tuple[Variable, int]]:
    """Pointers to objects (not to characters or numbers) whose names can be said, at most eight."""
    found = 0
    for variable in (*frame.args, *frame.locals):
        address = pointer_of(variable)
        if address is None or found >= _POINTERS or _IDENTIFIER.fullmatch(variable.name) is None:
            continue
        if "(*)" in (variable.type or "") or (variable.type or "").count("*") > 1:
            continue
        found += 1
        yield variable, address


def _bad_members(core: CoreFile, layout: Layout, value: int) -> list[Member]:
    if not layout.address:
        return []
    return [
        member
        for member in layout.members
        if member.type.endswith("*")
        and _IDENTIFIER.fullmatch(member.name)
        and core.memory.pointer(layout.address + member.offset) == value
    ]


def parsed(text: str, expression: str, frame: int, address: int | None) -> Layout | None:
    """One answer of `ptype /o`: offsets and sizes in bytes; None for what is no structure."""
    head = _HEAD.search(text)
    rows = text.splitlines()[:_ROWS]
    total = [int(found[1]) for row in rows if (found := _TOTAL.search(row))]
    if head is None or not total:
        return None
    members: list[Member] = []
    opened: list[int] = []
    for row in rows[1:]:
        found = _ROW.match(row)
        body = found["text"] if found else row
        if closed := _CLOSED.match(body if found is None else ""):
            start = opened.pop() if opened else 0
            if closed["name"]:
                members[start:] = [_inside(closed["name"], member) for member in members[start:]]
        elif found is not None and body.rstrip().endswith("{"):
            opened.append(len(members))
        elif found is not None and (member := _member(body, int(found["offset"]), int(found["size"]))) is not None:
            members.append(member)
    return Layout(expression, frame, head["type"].strip()[:200], total[-1], tuple(members), address)


def _inside(outer: str, member: Member) -> Member:
    return Member(f"{outer}.{member.name}", member.type, member.offset, member.size)


def _member(text: str, offset: int, size: int) -> Member | None:
    found = re.match(
        r"(?P<type>.*?[\s*&])(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<array>(?:\[\d+\])*)(?:\s*:\s*\d+)?;", text
    )
    if found is None:
        pointer = re.match(r"(?P<type>.*)\(\*(?P<name>[A-Za-z_][A-Za-z0-9_]*)\)(?P<rest>\(.*\));", text)
        return (
            Member(pointer["name"], f"{pointer['type']}(*){pointer['rest']}"[:200], offset, size) if pointer else None
        )
    return Member(found["name"], (found["type"].strip() + found["array"])[:200], offset, size)


def rendered(found: Sequence[Layout]) -> list[tuple[str, str]]:
    """The exact commands and what they told, for evidence."""
    return [
        (
            f'-interpreter-exec --frame {layout.frame} console "ptype /o *{layout.expression}"',
            f"{layout.type}, {layout.size} bytes\n"
            + "\n".join(f"{member.offset:6} {member.size:6} {member.type} {member.name}" for member in layout.members),
        )
        for layout in found
        if layout.members
    ]
