"""Where each thread's stack is in use, and where its control block is."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from diagnosis.crashes import notes as n
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.elf import MAX_NOTE_BYTES, PT_NOTE, ElfFile, Segment, parse_notes
from diagnosis.crashes.reduce.kept import Range

STACK_BYTES = 32 << 20
"""Of one thread; the usual limit of a stack is 8 MiB (setrlimit(2), RLIMIT_STACK)."""
ALL_STACKS_BYTES = 512 << 20

_RED_ZONE = 1024
"""Below the stack pointer: the x86-64 ABI reserves 128 bytes, and a smashed stack is searched for 512."""
_CONTROL_BLOCK = 8 << 10
"""Of thread-local storage below and of the thread library's `struct pthread` above the thread pointer."""
_UNKNOWN_STACK = 1 << 20
"""Kept of a stack whose end is not known, such as one of a coroutine in the heap."""
_OVERRUN = 4 << 20
"""How far a frame may reach past the end of its stack: arrays on the stack are as large as that."""
_AT_RANDOM = 25
_NT_ARM_TLS, _NT_386_TLS = 0x401, 0x200  # include/uapi/linux/elf.h
_SEARCHED = 16 << 10


def thread_pointers(core: CoreFile) -> list[int]:
    """The thread pointer of each thread, 0 where the core does not tell."""
    machine = core.header.machine
    register = {"x86_64": "fs_base", "riscv64": "tp"}.get(machine)
    if register is not None:
        return [thread.registers.get(register, 0) for thread in core.threads]
    found = [0] * len(core.threads)
    wanted = {"aarch64": _NT_ARM_TLS, "i386": _NT_386_TLS}.get(machine)
    index = -1
    for segment in ElfFile(core.file).segments if wanted is not None else []:
        if segment.type != PT_NOTE:
            continue
        data = core.file.read(segment.offset, min(segment.filesz, MAX_NOTE_BYTES))
        for note in parse_notes(data, core.header.order):
            if note.owner == b"CORE" and note.type == n.NT_PRSTATUS:
                index += 1
            elif note.type == wanted and 0 <= index < len(found) and not found[index]:
                found[index] = _base(note.data, core.header.order, machine)
    return found


def _base(data: bytes, order: str, machine: str) -> int:
    """The pointer in a note of thread-local storage; i386 has `struct user_desc` entries: number, base, limit, flags"""
    layout = order + ("Q" if machine == "aarch64" else "4xI")
    return int(struct.unpack_from(layout, data, 0)[0]) if len(data) >= struct.calcsize(layout) else 0


def live_stacks(core: CoreFile, pointers: list[int]) -> list[Range]:
    """For each thread what its stack holds, from below the stack pointer; (0, 0) where there is none.

    A thread that runs on another stack (sigaltstack) has left frames on its own: see `left_behind`.
    """
    main = _main_stack(core)
    budget = ALL_STACKS_BYTES
    found: list[Range] = []
    for thread, pointer in zip(core.threads, pointers, strict=True):
        segment = _stack_of(core, thread.sp) if thread.sp else None
        if segment is None or thread.sp is None or budget <= 0:
            found.append((0, 0))
            continue
        start = max(segment.vaddr, thread.sp - _RED_ZONE)
        end = min(_end(segment, max(start, thread.sp), pointer, main), start + STACK_BYTES)
        budget -= end - start
        found.append((start, end))
    return found


def _stack_of(core: CoreFile, sp: int) -> Segment | None:
    """The mapping that `sp` is in; the one above, when the stack ran over into its guard area or past its limit."""
    segment = core.memory.segment(sp)
    if segment is not None and segment.writable:
        return segment
    above = core.memory.next_segment(sp)
    if above is not None and above.writable and above.vaddr - sp <= _OVERRUN:
        return above
    return segment


def _end(segment: Segment, sp: int, pointer: int, main: Segment | None) -> int:
    """One past the stack that `sp` is in. Mappings beside a thread's stack may have become one with it."""
    if segment is main:
        return segment.end
    if sp < pointer < min(segment.end, sp + STACK_BYTES):  # glibc and musl put the control block on top
        return min(segment.end, pointer + _CONTROL_BLOCK)
    return min(segment.end, sp + _UNKNOWN_STACK)


def left_behind(core: CoreFile, live: Range, pointer: int) -> Range | None:
    """The thread's own stack, when it runs on another: from the lowest address in it that the other one names."""
    own = [s for s in (_main_stack(core), core.memory.segment(pointer) if pointer else None) if s is not None]
    if not live[1] or any(segment.vaddr <= live[0] < segment.end for segment in own):
        return None
    for segment in own:
        top = segment.end if segment is own[0] else min(segment.end, pointer + _CONTROL_BLOCK)
        if inside := [word for word in words(core, live, _SEARCHED) if segment.vaddr <= word < top]:
            return max(segment.vaddr, min(inside) - _RED_ZONE), min(top, min(inside) + STACK_BYTES)
    return None


def control_blocks(pointers: list[int]) -> Iterator[Range]:
    for pointer in pointers:
        if pointer:
            yield max(0, pointer - _CONTROL_BLOCK // 2), pointer + _CONTROL_BLOCK // 2


def words(core: CoreFile, place: Range, limit: int) -> tuple[int, ...]:
    """The machine words at `place`, at most `limit` bytes of it."""
    word = core.header.word
    start = (place[0] + word - 1) // word * word
    data = core.memory.read(start, min(limit, place[1] - start)) if start < place[1] else b""
    count = len(data) // word
    return struct.unpack_from(f"{core.header.order}{count}{'Q' if word == 8 else 'I'}", data)


def _main_stack(core: CoreFile) -> Segment | None:
    """The mapping that the kernel made for the first thread: it holds the strings of the auxiliary vector."""
    at = core.auxv.get(n.AT_EXECFN) or core.auxv.get(_AT_RANDOM)
    segment = core.memory.segment(at) if at else None
    return segment if segment is not None and segment.writable else None
