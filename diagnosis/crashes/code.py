"""Machine code around a crash, decoded by capstone: what an instruction touches, and where control goes after it.

x86-64, i386, AArch64 and 64-bit RISC-V. capstone's access flags are corrected where it is known to be wrong or silent:
stores of AArch64 are called read-write, RISC-V has none, a compare-and-exchange and AVX-512 stores are called reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import capstone

from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.notes import REGISTER_NAMES

Access = Literal["read", "write", "read_write"]
Flow = Literal["call", "jump", "return"]

CODE_BYTES = 64
"""So far after the program counter code is read: CASR's window for what becomes of a loaded value."""

_LONGEST = 16
_REGISTER, _MEMORY = 1, 3  # CS_OP_REG, CS_OP_MEM, the same on all machines in capstone 5
_UNTOUCHED = re.compile(r"^(?:lea|nop|prefetch|endbr|prfm)")
_STORES = re.compile(r"^v?(?:mov|extract|pextr|pcompress|compress)")
"""Of x86, where memory comes first."""
_SHOWN = re.compile(r"(?:\w+ ptr )?(?:\w+:)?\[[^\]]*\]")
_NUMBERED, _LETTERED = re.compile(r"(r\d+)[dwb]"), re.compile(r"[er]?([abcd])x|([abcd])[lh]")
_INDEX, _AARCH64_HALF = re.compile(r"[er]?(si|di|bp|sp)l?"), re.compile(r"w\d+")
_RISCV_MEMORY = re.compile(r"(?P<offset>-?(?:0x)?[0-9a-f]+)?\((?P<base>[a-z][a-z0-9]*)\)")
_RISCV_SIZE = {"b": 1, "h": 2, "w": 4, "d": 8}
_RISCV_ALIAS = {"fp": "s0"}
_ARM_SIZE = {"b": 1, "h": 2, "s": 4, "w": 4, "d": 8, "x": 8, "q": 16}
_NOT_TARGETS = frozenset({"rip", "eip", "rsp", "esp", "sp", "pc", "rflags", "eflags", "nzcv"})
_ARM_INDIRECT = ("br", "blr", "bra", "blra")
_BRANCHES = frozenset({"jr", "c.jr", "jalr", "c.jalr"})


@dataclass(frozen=True)
class MemoryReference:
    """Where an instruction reads or writes: base + index * scale + displacement. `size` is in bytes.

    `implicit` for the stack that push, pop, call and return use without naming it; `segment` is a register of x86.
    """

    text: str
    access: Access
    size: int | None
    base: str | None = None
    index: str | None = None
    scale: int = 1
    displacement: int = 0
    segment: str | None = None
    implicit: bool = False
    signed_index: bool = False
    """The index is a 32-bit number with a sign (AArch64, `sxtw`)."""


@dataclass(frozen=True)
class MachineInstruction:
    """One instruction. Registers are whole ones: `eax` on x86-64 is named `rax`, `w0` is `x0`."""

    address: int
    size: int
    mnemonic: str
    text: str
    flow: Flow | None
    memory: tuple[MemoryReference, ...]
    reads: frozenset[str]
    writes: frozenset[str]
    indirect: bool = False
    """Where a call or jump goes is in a register or in memory."""
    privileged: bool = False
    """For the kernel only: `hlt`, access to ports."""

    @property
    def through(self) -> frozenset[str]:
        """Registers that decide where an indirect call or jump goes."""
        return self.reads - _NOT_TARGETS if self.indirect else frozenset()


def instruction_at(core: CoreFile, address: int | None) -> MachineInstruction | None:
    """The instruction at `address`; None when its bytes are not at hand or are none of this machine."""
    return next(instructions_at(core, address, _LONGEST), None)


def instructions_at(core: CoreFile, address: int | None, count: int = CODE_BYTES) -> Iterator[MachineInstruction]:
    """Instructions in the `count` bytes from `address`, from the core or the verified file behind it."""
    if address is None or core.header.order != "<":
        return iter(())
    return decode(core.memory.read(address, min(count, 4096)), address, core.header.machine)


def decode(code: bytes, address: int, machine: str) -> Iterator[MachineInstruction]:
    """Instructions in `code`; ends at the first that is none. Machines that are not known give nothing."""
    engine = _engine(machine)
    if engine is None or not code:
        return
    for raw in engine.disasm(code, address):
        yield _instruction(raw, machine)


@cache
def _engine(machine: str) -> Any:
    kinds = {
        "x86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
        "i386": (capstone.CS_ARCH_X86, capstone.CS_MODE_32),
        "aarch64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
        "riscv64": (capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC),
    }
    if machine not in kinds:
        return None
    engine = capstone.Cs(*kinds[machine])
    engine.detail = True
    return engine


def _instruction(raw: Any, machine: str) -> MachineInstruction:
    text = f"{raw.mnemonic} {raw.op_str}".strip()
    mnemonic = raw.mnemonic.rsplit(" ", 1)[-1]
    memory: Iterable[MemoryReference]
    if machine == "riscv64":
        memory, reads, writes, flow = _riscv(raw, mnemonic)
    else:
        reads, writes = (
            frozenset(whole_register(raw.reg_name(number), machine) for number in numbers)
            for numbers in raw.regs_access()
        )
        flow = _flow({raw.group_name(group) for group in raw.groups}, mnemonic)
        memory = _aarch64(raw, mnemonic) if machine == "aarch64" else _x86(raw, mnemonic, machine)
    indirect = flow in ("call", "jump") and _is_indirect(raw, mnemonic, machine)
    privileged = any(raw.group_name(group) == "privilege" for group in raw.groups)
    return MachineInstruction(
        raw.address, raw.size, mnemonic, text, flow, tuple(memory), reads, writes, indirect, privileged
    )


def _is_indirect(raw: Any, mnemonic: str, machine: str) -> bool:
    if machine == "aarch64":
        return mnemonic.startswith(_ARM_INDIRECT)
    if machine == "riscv64":
        return mnemonic in _BRANCHES
    return any(operand.type in (_REGISTER, _MEMORY) for operand in raw.operands)


def _flow(groups: set[str | None], mnemonic: str) -> Flow | None:
    if mnemonic.startswith("ret") or "ret" in groups or "return" in groups:
        return "return"
    if "call" in groups:
        return "call"
    return "jump" if "jump" in groups else None


def _x86(raw: Any, mnemonic: str, machine: str) -> Iterator[MemoryReference]:
    if not _UNTOUCHED.match(mnemonic):
        shown = _SHOWN.findall(raw.op_str)
        for index, operand in enumerate(raw.operands):
            if operand.type != _MEMORY:
                continue
            place = operand.mem
            access: Access = {2: "write", 3: "read_write"}.get(operand.access, "read")  # type: ignore[assignment]
            if mnemonic.startswith("cmpxchg"):
                access = "read_write"
            elif index == 0 and _STORES.match(mnemonic):
                access = "write"
            base, displacement = raw.reg_name(place.base), place.disp
            if base in ("rip", "eip"):
                base, displacement = None, raw.address + raw.size + displacement
            yield MemoryReference(
                shown.pop(0) if shown else raw.op_str,
                access,
                operand.size or None,
                base,
                raw.reg_name(place.index),
                place.scale,
                displacement,
                raw.reg_name(place.segment),
            )
    word = 8 if machine == "x86_64" else 4
    stack, frame = ("rsp", "rbp") if word == 8 else ("esp", "ebp")
    if mnemonic.startswith(("push", "call")):
        yield MemoryReference(f"[{stack}-{word:#x}]", "write", word, stack, displacement=-word, implicit=True)
    elif mnemonic.startswith(("pop", "ret")) and not mnemonic.startswith("popcnt"):
        yield MemoryReference(f"[{stack}]", "read", word, stack, implicit=True)
    elif mnemonic == "leave":
        yield MemoryReference(f"[{frame}]", "read", word, frame, implicit=True)


def _aarch64(raw: Any, mnemonic: str) -> Iterator[MemoryReference]:
    if _UNTOUCHED.match(mnemonic):
        return
    for operand in raw.operands:
        if operand.type != _MEMORY:
            continue
        place, names = operand.mem, re.findall(r"^\w+", raw.op_str)
        size = _RISCV_SIZE.get(mnemonic[-1]) if mnemonic[-1] in "bh" else _ARM_SIZE.get(names[0][0] if names else "")
        if mnemonic in ("stp", "ldp", "stnp", "ldnp") and size:
            size *= 2
        access: Access = "write" if mnemonic.startswith("st") else "read"
        if mnemonic.startswith(("cas", "swp", "ldadd", "ldclr", "ldset", "ldeor")):
            access = "read_write"
        inside = re.search(r"\[[^\]]*\]", raw.op_str)
        scale = 1 << operand.shift.value if operand.shift.type else 1
        yield MemoryReference(
            inside[0] if inside else raw.op_str,
            access,
            size,
            raw.reg_name(place.base),
            raw.reg_name(place.index),
            scale,
            place.disp,
            signed_index=inside is not None and "sxtw" in inside[0],
        )


def _riscv(raw: Any, mnemonic: str) -> tuple[list[MemoryReference], frozenset[str], frozenset[str], Flow | None]:
    """capstone 5 gives no access and no operands of compressed instructions: they are read from its text."""
    known = REGISTER_NAMES["riscv64"]
    plain = mnemonic.removeprefix("c.")
    named = [_RISCV_ALIAS.get(word, word) for word in re.findall(r"[a-z]+\d*", raw.op_str)]
    registers = [word for word in named if word in known]
    stores = re.match(r"^(?:f?s[bhwdq](?:sp)?|sc\.)", plain) is not None
    flow: Flow | None = None
    if plain in ("ret",) or (mnemonic in _BRANCHES and registers[:1] == ["ra"] and len(registers) == 1):
        flow = "return"
    elif plain in ("jal", "jalr", "call"):
        flow = "call"
    elif plain.startswith(("j", "b")) and not plain.startswith("bset"):
        flow = "jump"
    memory = []
    found = _RISCV_MEMORY.search(raw.op_str)
    if found is not None and flow is None:
        access: Access = "read_write" if plain.startswith(("amo", "sc.")) else "write" if stores else "read"
        letter = re.search(r"([bhwd])u?(?:sp)?(?:\.(?:aq|rl|aqrl))?$", plain.removesuffix(".aqrl"))
        memory.append(
            MemoryReference(
                found[0],
                access,
                _RISCV_SIZE[letter[1]] if letter else None,
                _RISCV_ALIAS.get(found["base"], found["base"]),
                displacement=int(found["offset"] or "0", 0),
            )
        )
    writes = frozenset(registers[:1]) if registers and not stores and flow is None else frozenset()
    reads = frozenset(registers if stores or flow is not None else registers[1:])
    return memory, reads, writes, flow


def whole_register(name: str | None, machine: str) -> str:
    """The register that `name` is a part of."""
    name = name or ""
    if machine == "aarch64":
        return (
            "x" + name[1:] if _AARCH64_HALF.fullmatch(name) else {"wsp": "sp", "fp": "x29", "lr": "x30"}.get(name, name)
        )
    if machine not in ("x86_64", "i386"):
        return name
    if found := _NUMBERED.fullmatch(name):
        return found[1]
    wide = "r" if machine == "x86_64" else "e"
    if found := _LETTERED.fullmatch(name):
        return f"{wide}{found[1] or found[2]}x"
    if found := _INDEX.fullmatch(name):
        return wide + found[1]
    return name
