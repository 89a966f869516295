"""Which register made the bad address: the faulting instruction's memory operand, computed from the registers.

Reads gdb's text of one instruction (Intel syntax on x86, the standard one on AArch64). A register is blamed only when
the computed address agrees with what the kernel reported, or when it cannot be an address at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Access = Literal["read", "write", "execute", "access"]

_ABSOLUTE = re.compile(r"(?:(?P<size>[A-Z]+) PTR )?ds:(?P<address>0x[0-9a-f]+)")
_SIZES = {"BYTE": 1, "WORD": 2, "DWORD": 4, "QWORD": 8, "TBYTE": 10, "XMMWORD": 16, "YMMWORD": 32, "ZMMWORD": 64}
_OPERAND = re.compile(r"(?:(?P<size>[A-Z]+) PTR )?(?:(?P<segment>[a-z]s):)?\[(?P<inside>[^\]]*)\]")
_ARM_OPERAND = re.compile(
    r"\[(?P<base>x\d+|sp)(?:, *#(?P<offset>-?(?:0x)?[0-9a-f]+))?"
    r"(?:, *(?P<index>x\d+)(?:, lsl #(?P<shift>\d+))?)?\]"
)
_LOW_32 = {"e" + name: "r" + name for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")}
_READ_ONLY = ("cmp", "test", "push", "jmp", "call", "ucomis", "comis", "bt", "scas", "lods", "prefetch")
_WORD_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Operand:
    """A memory operand: `registers` with their values, the address they make, and how it was used."""

    text: str
    address: int
    registers: tuple[tuple[str, int], ...]
    displacement: int
    access: Access
    size: int | None


def operands(instruction: str, registers: Mapping[str, int], machine: str) -> list[Operand]:
    """Memory operands of `instruction` whose registers are all known."""
    if machine == "x86_64":
        return list(_x86(instruction, registers))
    if machine == "aarch64":
        return list(_aarch64(instruction, registers))
    return []


def is_canonical(address: int, machine: str) -> bool:
    """On x86-64 bits 47 to 63 must be equal; others raise #GP, and the kernel then reports no address."""
    if machine != "x86_64":
        return True
    return address < 1 << 47 or address >= (1 << 64) - (1 << 47)


def _x86(instruction: str, registers: Mapping[str, int]) -> Iterator[Operand]:
    words = instruction.split(None, 1)
    if len(words) < 2 or words[0] in ("lea", "nop"):
        if words and words[0] == "ret" and "rsp" in registers:
            yield Operand("[rsp]", registers["rsp"], (("rsp", registers["rsp"]),), 0, "read", 8)
        return
    name, arguments = words[0], words[1]
    if name.startswith(("rep", "lock")) and " " in arguments:
        name, arguments = arguments.split(None, 1)
    if (found := _ABSOLUTE.search(arguments)) is not None:  # what compilers make of a constant null pointer
        yield _x86_operand(found, name, int(found["address"], 16), ())
    for found in _OPERAND.finditer(arguments):
        if found["segment"] in ("fs", "gs"):
            continue
        address, used, displacement = 0, [], 0
        for sign, term in re.findall(r"([+-]?)([^+\-]+)", found["inside"]):
            factor = -1 if sign == "-" else 1
            register, _, scale = term.strip().partition("*")
            value = registers.get(register)
            if value is None and register in _LOW_32 and _LOW_32[register] in registers:
                value = registers[_LOW_32[register]] & 0xFFFFFFFF
            if value is not None:
                used.append((register, value))
                address += factor * value * _number(scale or "1")
            else:
                number = _number(register)
                displacement += factor * number
                address += factor * number
        if not used:
            continue
        yield _x86_operand(found, name, address & _WORD_MASK, tuple(used), displacement)


def _x86_operand(
    found: re.Match[str], name: str, address: int, used: tuple[tuple[str, int], ...], displacement: int = 0
) -> Operand:
    """The first operand of an Intel instruction is the one written, unless the instruction only reads."""
    access: Access = "write" if found.start() == 0 and not name.startswith(_READ_ONLY) else "read"
    return Operand(found[0], address, used, displacement, access, _SIZES.get(found["size"] or ""))


def _aarch64(instruction: str, registers: Mapping[str, int]) -> Iterator[Operand]:
    found = _ARM_OPERAND.search(instruction)
    if found is None or found["base"] not in registers:
        return
    used = [(found["base"], registers[found["base"]])]
    displacement = _number(found["offset"] or "0")
    address = used[0][1] + displacement
    if found["index"] and found["index"] in registers:
        used.append((found["index"], registers[found["index"]]))
        address += registers[found["index"]] << int(found["shift"] or "0")
    access: Access = "write" if instruction.startswith("st") else "read"
    yield Operand(found[0], address & _WORD_MASK, tuple(used), displacement, access, None)


def _number(text: str) -> int:
    try:
        return int(text.strip().lstrip("#"), 0)
    except ValueError:
        return 0
