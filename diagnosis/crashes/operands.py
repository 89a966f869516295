"""Which register made the bad address: the faulting instruction's memory operands, computed from the registers.

A register is blamed only when the computed address agrees with what the kernel reported, or when it cannot be an
address at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diagnosis.crashes.code import Access, MachineInstruction, MemoryReference, whole_register
from diagnosis.crashes.notes import REGISTER_NAMES

_SEGMENTS = {"fs": "fs_base", "gs": "gs_base"}


@dataclass(frozen=True)
class Operand:
    """A memory operand: `registers` with their values, the address they make, and how it was used."""

    text: str
    address: int
    registers: tuple[tuple[str, int], ...]
    displacement: int
    access: Access
    size: int | None
    implicit: bool = False

    @property
    def writes(self) -> bool:
        return self.access != "read"


def operands(instruction: MachineInstruction | None, registers: Mapping[str, int], machine: str) -> list[Operand]:
    """Memory operands of `instruction` whose registers are all known; those that it names come first."""
    if instruction is None:
        return []
    computed = (_operand(reference, registers, machine) for reference in instruction.memory)
    return [operand for operand in computed if operand is not None]


def is_canonical(address: int, machine: str) -> bool:
    """On x86-64 bits 47 to 63 must be equal; others raise #GP, and the kernel then reports no address."""
    if machine != "x86_64":
        return True
    return address < 1 << 47 or address >= (1 << 64) - (1 << 47)


def _operand(reference: MemoryReference, registers: Mapping[str, int], machine: str) -> Operand | None:
    mask = 0xFFFFFFFF if machine == "i386" else (1 << 64) - 1
    address, used = reference.displacement, []
    if reference.segment is not None and reference.segment in _SEGMENTS:
        base = registers.get(_SEGMENTS[reference.segment])
        if base is None:
            return None
        address += base
    for name, scale in ((reference.base, 1), (reference.index, reference.scale)):
        if name is None or name in ("riz", "eiz", "xzr", "wzr", "zero"):
            continue
        value = _value(name, registers, machine)
        if value is None:
            return None
        if name == reference.index and reference.signed_index and value >> 31 == 1:
            value -= 1 << 32
        used.append((name if name in registers else whole_register(name, machine), value))
        address += value * scale
    address &= mask
    if machine == "aarch64" and not address >> 55 & 1:
        address &= (1 << 56) - 1  # the top byte is a tag: no part of the address, and not in what the kernel reports
    return Operand(
        reference.text,
        address,
        tuple(used),
        reference.displacement,
        reference.access,
        reference.size,
        reference.implicit,
    )


def _value(name: str, registers: Mapping[str, int], machine: str) -> int | None:
    if name in registers:
        return registers[name]
    whole = whole_register(name, machine)
    if whole not in registers or whole not in REGISTER_NAMES.get(machine, ()):
        return None
    return registers[whole] & 0xFFFFFFFF  # a 32-bit part: smaller ones make no addresses
