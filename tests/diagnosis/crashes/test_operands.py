"""Addresses computed from instructions and registers."""

from __future__ import annotations

import pytest

from diagnosis.crashes.operands import is_canonical, operands

REGISTERS = {"rax": 0x10, "rbx": 0xFFFFFFFFFFFFFFF0, "rsp": 0x7FFE0000, "rip": 0x401000, "rdi": 0x123456789, "r8": 4}


@pytest.mark.parametrize(
    ("instruction", "address", "access", "size"),
    [
        ("mov DWORD PTR [rax+0x18],edx", 0x28, "write", 4),
        ("mov edx,DWORD PTR [rax-0x8]", 0x8, "read", 4),
        ("mov rax,QWORD PTR [rbx+rax*1]", 0x0, "read", 8),
        ("mov BYTE PTR [rax+r8*8+0x1],0x0", 0x31, "write", 1),
        ("movaps XMMWORD PTR [rsp+0x10],xmm0", 0x7FFE0010, "write", 16),
        ("cmp DWORD PTR [rax],0x1", 0x10, "read", 4),
        ("call QWORD PTR [rax+0x10]", 0x20, "read", 8),
        ("push QWORD PTR [rax]", 0x10, "read", 8),
        ("add DWORD PTR [rdi],0x1", 0x123456789, "write", 4),
        ("mov eax,DWORD PTR [edi]", 0x23456789, "read", 4),
        ("rep stos QWORD PTR es:[rdi],rax", 0x123456789, "write", 8),
        ("mov DWORD PTR ds:0x18,0x1", 0x18, "write", 4),
        ("ret", 0x7FFE0000, "read", 8),
    ],
)
def test_x86(instruction: str, address: int, access: str, size: int) -> None:
    (operand,) = operands(instruction, REGISTERS, "x86_64")
    assert (operand.address, operand.access, operand.size) == (address, access, size)


@pytest.mark.parametrize(
    "instruction", ["lea rax,[rbx+0x8]", "mov rax,QWORD PTR fs:0x28", "mov eax,ebx", "nop", "", "["]
)
def test_no_memory_is_touched(instruction: str) -> None:
    assert operands(instruction, REGISTERS, "x86_64") == []


@pytest.mark.parametrize(
    ("instruction", "address", "access"),
    [
        ("ldr w0, [x0, #24]", 24, "read"),
        ("str w1, [x0]", 0, "write"),
        ("ldr x2, [x1, x2, lsl #3]", 0x1010, "read"),
    ],
)
def test_aarch64(instruction: str, address: int, access: str) -> None:
    (operand,) = operands(instruction, {"x0": 0, "x1": 0x1000, "x2": 2, "sp": 0x8000}, "aarch64")
    assert (operand.address, operand.access) == (address, access)


@pytest.mark.parametrize(
    ("address", "canonical"),
    [(0, True), ((1 << 47) - 1, True), (1 << 47, False), (0x4141414141414141, False), (0xFFFF800000000000, True)],
)
def test_canonical_addresses(address: int, canonical: bool) -> None:
    assert is_canonical(address, "x86_64") is canonical
    assert is_canonical(address, "aarch64")
