"""What the registers point to at the crash: which mapping, what kind of memory, and the bytes that matter."""

from __future__ import annotations

from diagnosis.crashes.accesses import is_guard_page
from diagnosis.crashes.code import instruction_at
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.operands import operands
from diagnosis.crashes.poison import poison_of
from diagnosis.crashes.process_secrets import ProcessSecrets
from incidents.crash_report import MemoryNear

MAX_DUMP = 256
_BEFORE, _AFTER = 32, 96
_MOST = 24
_NOT_POINTERS = frozenset({"orig_rax", "orig_eax", "eflags", "cs", "ss", "ds", "es", "fs", "gs", "pstate", "orig_r0"})


def memory_near(core: CoreFile, secrets: ProcessSecrets) -> list[MemoryNear]:
    """One entry for each register that points somewhere, or holds a poison pattern; at most 24.

    Bytes are given for the registers of the crashing instruction and for the stack pointer, 128 of each.
    """
    thread = core.crashed
    instruction = instruction_at(core, thread.pc)
    touched = operands(instruction, thread.registers, core.header.machine)
    telling = {name for operand in touched for name, _ in operand.registers} | {"rsp", "esp", "sp"}
    found = []
    for name, value in thread.registers.items():
        if name in _NOT_POINTERS or value < 4096:
            continue
        kind = classification(core, value)
        if kind == "unmapped" and name not in telling:
            continue
        shown = name in telling and kind in ("stack", "heap", "global")
        found.append(
            MemoryNear(
                register_name=name,
                address=hex(value),
                mapping=mapping_of(core, value),
                hexdump=hexdump(core, value, secrets) if shown else None,
                classification=kind,
            )
        )
    return found[:_MOST]


def classification(core: CoreFile, address: int) -> str:
    """stack, heap, global, text, guard, poison or unmapped. Anonymous writable memory that is no stack is heap."""
    segment = core.memory.segment(address)
    mapped = core.mapped_at(address)
    if segment is None and mapped is None:
        return "poison" if poison_of(address) else "unmapped"
    if is_guard_page(core, address):
        return "guard"
    if segment is not None and any(
        thread.sp is not None and segment.vaddr <= thread.sp < segment.end for thread in core.threads[:1000]
    ):
        return "stack"
    if segment is not None and segment.executable:
        return "text"
    if mapped is not None or segment is None:
        return "global"
    beside = core.mapped_at(segment.vaddr - 1)
    # what a program has beyond its file, zeroed at the start (.bss), follows its last mapping without a gap
    return "global" if beside is not None and beside.end == segment.vaddr else "heap"


def mapping_of(core: CoreFile, address: int) -> str | None:
    """The file that is mapped at `address`, or the bounds and rights of the mapping."""
    mapped, segment = core.mapped_at(address), core.memory.segment(address)
    if mapped is not None:
        return mapped.path.encode("utf-8", "replace").decode()[:1000]
    if segment is None:
        return None
    rights = "".join(letter if segment.flags & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))
    return f"{hex(segment.vaddr)}-{hex(segment.end)} {rights}"


def hexdump(core: CoreFile, address: int, secrets: ProcessSecrets) -> str | None:
    """Rows of 16 bytes and their text from the row 32 bytes below `address` on, without `secrets`; at most 256."""
    start = max(0, (address - _BEFORE) & ~15)
    segment = core.memory.segment(address)
    if segment is not None:
        start = max(start, segment.vaddr & ~15)
    data = core.memory.read(start, min(address + _AFTER - start, MAX_DUMP))
    data = secrets.hide_bytes(data)
    rows = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        rows.append(f"{hex(start + at)}  {row.hex(' '):<47}  {text}")
    return "\n".join(rows) or None
