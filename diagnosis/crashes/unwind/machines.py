"""What unwinding must know of a machine: DWARF's register numbers, frame records and what a call looks like.

Sources: the psABIs of x86-64, i386, AArch64 (aadwarf64, aapcs64) and RISC-V.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_X86_CALL_BYTES = 7


@dataclass(frozen=True)
class Machine:
    """`names` are NT_PRSTATUS's, by DWARF number. The frame record lies at the frame pointer plus these offsets."""

    name: str
    word: int
    names: tuple[str | None, ...]
    pc: str
    sp: int
    fp: int
    link: int | None
    """Register that holds the return address of a function that has not saved it; None where it is on the stack."""
    record_fp: int
    record_return: int
    record_size: int
    """From the frame pointer to the caller's stack pointer."""
    call_bytes: int
    """Bytes before a return address that a call may take."""
    ends_call: Callable[[bytes], bool]
    address_mask: int


def _x86_call(code: bytes) -> bool:
    """Does `code` end in a near call? (Intel SDM: E8 rel32, FF /2)"""
    if len(code) >= 5 and code[-5] == 0xE8:
        return True
    for length in range(2, min(len(code), _X86_CALL_BYTES) + 1):
        if code[-length] != 0xFF:
            continue
        modrm = code[-length + 1]
        mode, operation, base = modrm >> 6, modrm >> 3 & 7, modrm & 7
        if operation != 2:
            continue
        size = 2 + {0: 4 if base == 5 else 0, 1: 1, 2: 4, 3: 0}[mode]
        if mode != 3 and base == 4:
            size += 1
            if mode == 0 and length > 2 and code[-length + 2] & 7 == 5:
                size += 4
        if size == length:
            return True
    return False


def _aarch64_call(code: bytes) -> bool:
    """BL, or BLR with or without pointer authentication."""
    if len(code) < 4:
        return False
    word = int.from_bytes(code[-4:], "little")
    return word & 0xFC000000 == 0x94000000 or word & 0xFEFFF000 == 0xD63F0000


def _riscv_call(code: bytes) -> bool:
    """JAL and JALR that link to ra or t0, and C.JALR."""
    if len(code) >= 4:
        word = int.from_bytes(code[-4:], "little")
        if word & 0x7F in (0x6F, 0x67) and word >> 7 & 0x1F in (1, 5):
            return True
    if len(code) >= 2:
        half = int.from_bytes(code[-2:], "little")
        return half & 0xF07F == 0x9002 and half >> 7 & 0x1F != 0
    return False


_X86_64 = "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip"
_I386 = "eax ecx edx ebx esp ebp esi edi eip"
_RISCV = "ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6"

MACHINES: dict[str, Machine] = {
    "x86_64": Machine("x86_64", 8, tuple(_X86_64.split()), "rip", 7, 6, None, 0, 8, 16, 7, _x86_call, (1 << 64) - 1),
    "i386": Machine("i386", 4, tuple(_I386.split()), "eip", 4, 5, None, 0, 4, 8, 7, _x86_call, (1 << 32) - 1),
    "aarch64": Machine(
        "aarch64", 8, (*(f"x{n}" for n in range(31)), "sp"), "pc", 31, 29, 30, 0, 8, 16, 4, _aarch64_call,
        (1 << 48) - 1,  # without pointer authentication codes and tags
    ),
    "riscv64": Machine("riscv64", 8, (None, *_RISCV.split()), "pc", 2, 8, 1, -16, -8, 0, 4, _riscv_call, (1 << 64) - 1),
}  # fmt: skip
