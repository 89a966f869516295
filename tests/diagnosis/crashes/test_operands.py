"""Addresses computed from machine code and registers."""

from __future__ import annotations

import pytest

from diagnosis.crashes.code import decode
from diagnosis.crashes.operands import is_canonical, operands

REGISTERS = {"rax": 0x10, "rbx": 0xFFFFFFFFFFFFFFF0, "rsp": 0x7FFE0000, "rip": 0x1000, "rdi": 0x123456789, "r8": 4}
REGISTERS |= {"rsi": 0x2000, "fs_base": 0x7000}
ARM = {"x0": 0, "x1": 0x1000, "x2": 2, "sp": 0x8000}
RISCV = {"a0": 0, "a1": 0x1000, "sp": 0x8000}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("895018", [(0x28, "write", 4)]),  # mov [rax+0x18],edx
        ("8b50f8", [(0x8, "read", 4)]),  # mov edx,[rax-8]
        ("488b0403", [(0x0, "read", 8)]),  # mov rax,[rbx+rax]
        ("42c644c00100", [(0x31, "write", 1)]),  # mov byte [rax+r8*8+1],0
        ("0f29442410", [(0x7FFE0010, "write", 16)]),  # movaps [rsp+0x10],xmm0
        ("833801", [(0x10, "read", 4)]),  # cmp dword [rax],1
        ("830701", [(0x123456789, "read_write", 4)]),  # add dword [rdi],1
        ("f00fb10f", [(0x123456789, "read_write", 4)]),  # lock cmpxchg [rdi],ecx
        ("678b07", [(0x23456789, "read", 4)]),  # mov eax,[edi]
        ("f348ab", [(0x123456789, "write", 8)]),  # rep stosq
        ("f3a4", [(0x123456789, "write", 1), (0x2000, "read", 1)]),  # rep movsb
        ("c704251800000001000000", [(0x18, "write", 4)]),  # mov dword [0x18],1
        ("8b0d10000000", [(0x1016, "read", 4)]),  # mov ecx,[rip+0x10]
        ("64488b042528000000", [(0x7028, "read", 8)]),  # mov rax,fs:[0x28]
        ("ff5010", [(0x20, "read", 8), (0x7FFDFFF8, "write", 8)]),  # call [rax+0x10]: it also pushes
        ("ff30", [(0x10, "read", 8), (0x7FFDFFF8, "write", 8)]),  # push [rax]
        ("50", [(0x7FFDFFF8, "write", 8)]),  # push rax
        ("c3", [(0x7FFE0000, "read", 8)]),  # ret
        ("f30fb8c3", []),  # popcnt eax,ebx
        ("488d4308", []),  # lea rax,[rbx+8]
        ("89d8", []),  # mov eax,ebx
        ("0f1f4000", []),  # nop dword [rax]
        ("0f1808", []),  # prefetcht0 [rax]
        ("06", []),  # no instruction of 64-bit code
        ("", []),
    ],
)
def test_x86(code: str, found: list[tuple[int, str, int]]) -> None:
    instruction = next(decode(bytes.fromhex(code), 0x1000, "x86_64"), None)
    touched = operands(instruction, REGISTERS, "x86_64")
    assert [(operand.address, operand.access, operand.size) for operand in touched] == found


@pytest.mark.parametrize(
    ("machine", "registers", "code", "found"),
    [
        ("i386", {"eax": 0x10, "esp": 0x100}, "8b5018", [(0x28, "read", 4)]),  # mov edx,[eax+0x18]
        ("i386", {"eax": 0x10, "esp": 0x100}, "50", [(0xFC, "write", 4)]),  # push eax
        ("aarch64", ARM, "001840b9", [(0x18, "read", 4)]),  # ldr w0,[x0,#24]
        ("aarch64", ARM, "010000b9", [(0, "write", 4)]),  # str w1,[x0]
        ("aarch64", ARM, "227862f8", [(0x1010, "read", 8)]),  # ldr x2,[x1,x2,lsl #3]
        ("aarch64", ARM, "fd7bbfa9", [(0x7FF0, "write", 16)]),  # stp x29,x30,[sp,#-16]!
        ("aarch64", ARM | {"x2": 0xFFFFFFFF}, "20d862b8", [(0xFFC, "read", 4)]),  # ldr w0,[x1,w2,sxtw #2]
        ("aarch64", ARM | {"x0": 0xB400007F12345678}, "000040b9", [(0x7F12345678, "read", 4)]),  # ldr w0,[x0], tagged
        ("riscv64", RISCV, "03a50500", [(0x1000, "read", 4)]),  # lw a0,0(a1)
        ("riscv64", RISCV, "23a0a500", [(0x1000, "write", 4)]),  # sw a0,0(a1)
        ("riscv64", RISCV, "0c41", [(0, "read", 4)]),  # c.lw a1,0(a0)
        ("riscv64", RISCV, "2fa0b500", [(0x1000, "read_write", 4)]),  # amoadd.w zero,a1,(a1)
        ("s390x", {}, "0c41", []),
    ],
)
def test_other_machines(machine: str, registers: dict[str, int], code: str, found: list[tuple[int, str, int]]) -> None:
    instruction = next(decode(bytes.fromhex(code), 0x1000, machine), None)
    touched = operands(instruction, registers, machine)
    assert [(operand.address, operand.access, operand.size) for operand in touched] == found


@pytest.mark.parametrize(
    ("address", "canonical"),
    [(0, True), ((1 << 47) - 1, True), (1 << 47, False), (0x4141414141414141, False), (0xFFFF800000000000, True)],
)
def test_canonical_addresses(address: int, canonical: bool) -> None:
    assert is_canonical(address, "x86_64") is canonical
    assert is_canonical(address, "aarch64")
