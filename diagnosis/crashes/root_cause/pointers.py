"""The pointer that is to blame for a bad access: its value, its name, and where in memory it was read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.faults import NEAR_NULL, Fault
from diagnosis.crashes.layouts import Layout, layout_of
from diagnosis.crashes.root_cause.classes import Proof
from diagnosis.crashes.root_cause.heap import bytes_at
from diagnosis.crashes.root_cause.variables import Held, holding, origin, pointer_of, variables_of
from incidents.crash_report import Frame

_SEARCHED = 512
"""Bytes of an object in which the bad value is looked for."""
_SLOT = 0x400
"""How far into a table of virtual functions a call may reach."""


@dataclass(frozen=True)
class Blamed:
    """`expression` is how the program says it (`order->next`); `layout` of the type that it should point to."""

    value: int
    expression: str | None = None
    held: Held | None = None
    layout: Layout | None = None
    came_from: str | None = None
    origin_frame: int | None = None
    handed_in: str | None = None
    proofs: tuple[Proof, ...] = ()
    source: int | None = None
    """Where memory holds the value, found by a register that points near it."""


def bad_value(fault: Fault) -> int | None:
    """What the bad pointer holds: the register that is no good address itself, else the address."""
    if fault.at_pc or fault.operand is None or not fault.operand.registers:
        return fault.address
    values = [value for _, value in fault.operand.registers]
    if fault.address is not None and fault.address < NEAR_NULL:
        return 0 if 0 in values or len(values) > 1 else values[0]
    return values[0]


def blamed_pointer(core: CoreFile, fault: Fault, frames: Sequence[Frame], layouts: Sequence[Layout]) -> Blamed | None:
    """The variable that holds the bad value, or the member of an object that it was read from; None when unknown."""
    value = bad_value(fault)
    if value is None or (value == 0 and fault.operand is not None and not fault.operand.registers):
        return None  # a null that is written into the instruction is no variable's
    names = holding(frames, value)
    member = _member(core, value, layouts)
    if not value and member is not None and names:
        return None  # each of them is null, and either may be what was followed
    if len(names) == 1 or (names and value):
        held = names[0]
        where, how = origin(frames, held)
        layout = layout_of(layouts, held.variable.name, held.frame.frame)
        return Blamed(value, held.variable.name, held, layout, None, where, how)
    if member is not None:
        owner, name, offset = member
        expression = f"{owner.expression}->{name}"
        proof = bytes_at(core.memory, (owner.address or 0) + offset, 16, f"`{expression}`")
        return Blamed(
            value,
            expression,
            None,
            layout_of(layouts, expression, owner.frame),
            f"read from `{expression}`",
            owner.frame,
            None,
            (proof,) if proof else (),
        )
    if value >= NEAR_NULL and (found := _first_word(core, value, frames)) is not None:
        return found
    source, told = _register_source(core, value)
    return Blamed(value, came_from=told, source=source) if value else None


def _member(core: CoreFile, value: int, layouts: Sequence[Layout]) -> tuple[Layout, str, int] | None:
    """A pointer member with the bad value; only a single one can be blamed."""
    found = []
    for layout in layouts:
        if layout.address is None or "->" in layout.expression:
            continue
        for member in layout.members:
            if member.type.rstrip().endswith("*") and core.memory.pointer(layout.address + member.offset) == value:
                found.append((layout, member.name, member.offset))
    return found[0] if len(found) == 1 else None


def _first_word(core: CoreFile, value: int, frames: Sequence[Frame]) -> Blamed | None:
    """An object of the innermost frame whose first word leads to the bad value, a table's slot or a member further on.

    In C++ the first word of an object with virtual functions is the address of their table.
    """
    for held in variables_of(frames[0]) if frames else ():
        address = pointer_of(held.variable)
        word = core.memory.pointer(address) if address else None
        if word is not None and word >= NEAR_NULL and 0 < value - word < _SLOT:
            proof = bytes_at(core.memory, address or 0, 16, f"the first words of `*{held.variable.name}`")
            told = f"it is the first word of what `{held.variable.name}` points to"
            return Blamed(word, came_from=told, proofs=(proof,) if proof else ())
    return None


def _register_source(core: CoreFile, value: int) -> tuple[int | None, str | None]:
    """A register that points to memory in which the bad value lies: where, and in words."""
    wanted = value.to_bytes(core.memory.word, "little" if core.memory.order == "<" else "big")
    for name, base in core.crashed.registers.items():
        segment = core.memory.segment(base)
        if segment is None or not segment.writable or name in ("rsp", "esp", "sp", "rip", "pc"):
            continue
        at = core.memory.read(base, _SEARCHED).find(wanted)
        if at >= 0 and at % core.memory.word == 0:
            return base + at, f"{hex(base + at)} holds it ({name} + {hex(at)})"
    return None, None
