"""Is one flipped bit of memory or of a register the reason? rust-minidump's test, for cores.

An address that nothing is mapped at, but that becomes a good one by changing a single bit, may come from faulty
hardware. Programs make bad addresses too, so that the test is narrow: neighbours of a mapping, which overruns reach,
and addresses near zero do not count, and a pattern that debugging allocators leave in memory lowers the confidence.
"""

from __future__ import annotations

from collections.abc import Mapping

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.faults import NEAR_NULL, Fault, FaultKind
from diagnosis.crashes.operands import is_canonical
from diagnosis.crashes.poison import poison_of
from incidents.crash_report import BitFlip

_LOWEST_BIT = 24
"""A flip below this moves the address by less than 16 MiB: that is what indexes and overruns do."""

_PLAIN, _NOT_CANONICAL, _NEARBY, _POISONED = 0.25, 0.5, 0.25, 0.2
_PAGE = 4096
MAX_FLIPS = 8


def bit_flips(core: CoreFile, fault: Fault | None) -> list[BitFlip]:
    """Single bits whose change gives an address that the access could have used; the most likely first.

    Confidence (0 to 1): 0.25, or 0.5 for an address that no program can have; more when another register points into
    the same page; a fifth of it when a register holds a poison pattern.
    """
    if fault is None or fault.address is None or fault.kind not in (FaultKind.UNMAPPED, FaultKind.NON_CANONICAL):
        return []
    if fault.address < NEAR_NULL or poison_of(fault.address) is not None:
        return []
    machine = core.header.machine
    registers = core.crashed.registers
    writes = fault.operand is not None and fault.operand.writes
    name = fault.operand.registers[0][0] if fault.operand and len(fault.operand.registers) == 1 else None
    found = []
    for bit in range(_LOWEST_BIT, core.header.bits):
        candidate = fault.address ^ (1 << bit)
        segment = core.memory.segment(candidate)
        if segment is None or not segment.flags or not is_canonical(candidate, machine):
            continue
        if (writes and not segment.writable) or (fault.at_pc and not segment.executable):
            continue
        confidence = _PLAIN if fault.kind is FaultKind.UNMAPPED else _NOT_CANONICAL
        if _near(candidate, registers, name):
            confidence += _NEARBY
        if any(poison_of(value) is not None for value in registers.values()):
            confidence *= _POISONED
        found.append(
            BitFlip(address=hex(candidate), bit=bit, register_name=name, confidence=round(min(confidence, 1.0), 2))
        )
    return sorted(found, key=lambda flip: -flip.confidence)[:MAX_FLIPS]


def _near(candidate: int, registers: Mapping[str, int], own: str | None) -> bool:
    return any(name != own and abs(value - candidate) < _PAGE for name, value in registers.items())
