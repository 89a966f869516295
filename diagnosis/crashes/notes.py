"""What the kernel writes into the notes of a core (fs/binfmt_elf.c, include/uapi/linux/elfcore.h)."""

from __future__ import annotations

import signal as signals
import struct
from dataclasses import dataclass

from diagnosis.crashes.elf import Header, Note

NT_PRSTATUS, NT_PRPSINFO, NT_AUXV = 1, 3, 6
NT_SIGINFO, NT_FILE = 0x53494749, 0x46494C45
AT_PHDR, AT_ENTRY, AT_RANDOM, AT_EXECFN = 3, 9, 25, 31
MAX_THREADS = 65_536
MAX_FILES = 200_000

_X86_64 = """r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss
fs_base gs_base ds es fs gs"""
_I386 = "ebx ecx edx esi edi ebp eax ds es fs gs orig_eax eip cs eflags esp ss"
_RISCV = "pc ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6"
REGISTER_NAMES: dict[str, tuple[str, ...]] = {
    "x86_64": tuple(_X86_64.split()),
    "i386": tuple(_I386.split()),
    "aarch64": (*(f"x{n}" for n in range(31)), "sp", "pc", "pstate"),
    "arm": (*(f"r{n}" for n in range(13)), "sp", "lr", "pc", "cpsr", "orig_r0"),
    "riscv64": tuple(_RISCV.split()),
}
"""Order of the general registers in NT_PRSTATUS (each architecture's user_regs_struct)."""
_SYS_SECCOMP = 1
_PC = {"x86_64": "rip", "i386": "eip"}
_SP = {"x86_64": "rsp", "i386": "esp"}


@dataclass(frozen=True)
class ThreadStatus:
    """NT_PRSTATUS of one thread."""

    tid: int
    signal: int
    registers: dict[str, int]
    pc: int | None
    sp: int | None
    offset: int
    source: str = "note NT_PRSTATUS"


@dataclass(frozen=True)
class SignalInfo:
    """NT_SIGINFO. `address` has a meaning only for fault signals, `pid` and `uid` only for sent ones."""

    signo: int
    code: int
    address: int
    pid: int
    uid: int
    offset: int
    source: str = "note NT_SIGINFO"
    system_call: int | None = None
    """The number of the call that a seccomp filter refused."""


@dataclass(frozen=True)
class ProcessInfo:
    """NT_PRPSINFO. The command line is cut at 80 bytes by the kernel."""

    pid: int
    uid: int
    comm: str
    cmdline: str
    offset: int


@dataclass(frozen=True)
class MappedFile:
    """One entry of NT_FILE; `file_offset` in bytes."""

    start: int
    end: int
    file_offset: int
    path: str


def thread_status(note: Note, header: Header) -> ThreadStatus | None:
    """NT_PRSTATUS, or None when it is too short. Unknown architectures give no registers."""
    wide = header.bits == 64
    tid_at, registers_at = (32, 112) if wide else (24, 72)
    if len(note.data) < registers_at:
        return None
    (signal,) = struct.unpack_from(header.order + "h", note.data, 12)
    (tid,) = struct.unpack_from(header.order + "i", note.data, tid_at)
    names = REGISTER_NAMES.get(header.machine, ())
    room = (len(note.data) - registers_at) // header.word
    if room < len(names):
        return ThreadStatus(tid, signal, {}, None, None, note.offset)
    layout = header.order + str(len(names)) + ("Q" if wide else "I")
    registers = dict(zip(names, struct.unpack_from(layout, note.data, registers_at), strict=True))
    pc = registers.get(_PC.get(header.machine, "pc"))
    sp = registers.get(_SP.get(header.machine, "sp"))
    return ThreadStatus(tid, signal, registers, pc, sp, note.offset)


def signal_info(note: Note, header: Header) -> SignalInfo | None:
    fields_at = 16 if header.bits == 64 else 12
    if len(note.data) < fields_at + 8:
        return None
    signo, _, code = struct.unpack_from(header.order + "iii", note.data, 0)
    (address,) = struct.unpack_from(header.order + ("Q" if header.bits == 64 else "I"), note.data, fields_at)
    pid, uid = struct.unpack_from(header.order + "iI", note.data, fields_at)
    call: int | None = None
    if signo == signals.SIGSYS and code == _SYS_SECCOMP and len(note.data) >= fields_at + header.word + 4:
        (call,) = struct.unpack_from(header.order + "i", note.data, fields_at + header.word)
    return SignalInfo(signo, code, address, pid, uid, note.offset, system_call=call)


def process_info(note: Note, header: Header) -> ProcessInfo | None:
    wide = header.bits == 64
    uid_at, pid_at, name_at, line_at = (16, 24, 40, 56) if wide else (8, 12, 28, 44)
    if len(note.data) < line_at + 80:
        return None
    (uid,) = struct.unpack_from(header.order + ("I" if wide else "H"), note.data, uid_at)
    (pid,) = struct.unpack_from(header.order + "i", note.data, pid_at)
    comm = _text(note.data[name_at : name_at + 16].split(b"\0", 1)[0])
    cmdline = _text(note.data[line_at : line_at + 80].split(b"\0", 1)[0]).strip()
    return ProcessInfo(pid, uid, comm, cmdline, note.offset)


def mapped_files(note: Note, header: Header) -> list[MappedFile]:
    """NT_FILE: count, page size, `count` triples (start, end, offset in pages), then the names."""
    word = header.word
    code = "Q" if word == 8 else "I"
    if len(note.data) < 2 * word:
        return []
    count, page = struct.unpack_from(header.order + 2 * code, note.data, 0)
    if count > MAX_FILES or (2 + 3 * count) * word > len(note.data) or not 0 < page <= 1 << 24:
        return []
    names = note.data[(2 + 3 * count) * word :].split(b"\0", count)
    entries = []
    for index, (start, end, pages) in enumerate(
        struct.iter_unpack(header.order + 3 * code, note.data[2 * word : (2 + 3 * count) * word])
    ):
        if index < len(names) and start < end:
            entries.append(MappedFile(start, end, pages * page, _text(names[index])))
    return entries


def auxiliary_vector(note: Note, header: Header) -> dict[int, int]:
    layout = header.order + ("QQ" if header.bits == 64 else "II")
    data = note.data[: len(note.data) - len(note.data) % struct.calcsize(layout)]
    return dict(struct.iter_unpack(layout, data[:8192]))


def _text(data: bytes) -> str:
    """Names are bytes chosen by a program; surrogates keep them usable as file names."""
    return data.decode("utf-8", "surrogateescape")
