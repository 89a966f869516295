"""Cores of programs of other machines: run by qemu's user emulation, and written as Linux on that machine writes them.

qemu 7 writes a core of its own for aarch64 (without NT_SIGINFO, NT_FILE and code) and none for riscv64. Here the
program stops in qemu's debug stub at its fatal signal; registers come from the stub, memory from the emulator's own
process, and what the signal said from its log. Layouts: elf(5), core(5), <linux/elfcore.h>.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

_GUEST_END = 1 << 40
"""qemu maps a guest of 64 bits at its own addresses, all of them below its own."""
_PAGE = 4096
_LIMIT = 60
_ELF_MACHINE = {"aarch64": 183, "riscv64": 243}
_R, _W, _X = 4, 2, 1
_SIGNAL = re.compile(r"--- SIG(?:SEGV|BUS|ABRT|IOT|ILL|FPE|TRAP) .* ---")
_WORDS = {"NULL": 0, "SI_TKILL": -6, "SI_USER": 0}
_FROM_GDB = {10: signal.SIGBUS, 30: signal.SIGUSR1, 12: signal.SIGSYS}
"""Signals to which gdb's protocol gives numbers of its own (gdb/signals.def)."""


@dataclass
class _Mapping:
    start: int
    end: int
    flags: int
    offset: int
    path: str
    data: bytes = b""


@dataclass
class _Stopped:
    signo: int
    threads: dict[int, bytes]
    """NT_PRSTATUS's registers by thread, the one that crashed first."""
    mappings: list[_Mapping]
    auxv: bytes
    pid: int
    siginfo: tuple[int, int, int] = (0, 0, 0)
    """si_code, si_addr, si_pid."""
    command: list[str] = field(default_factory=list)


def core_of(machine: str, program: Path, mode: str, where: Path) -> Path:
    """Run `program` of `machine` in `where` until its first fatal signal; the core as its own kernel writes it."""
    where.mkdir(parents=True, exist_ok=True)
    stub, log = where / "stub", where / "signals.log"
    command = [f"qemu-{machine}", "-L", f"/usr/{machine}-linux-gnu", "-g", str(stub), "-D", str(log), "-strace"]
    process = subprocess.Popen(
        [*command, str(program), mode],
        cwd=where,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_forbid_cores,
    )
    try:
        with _Stub(stub, process) as debugger:
            stopped = _stopped(machine, debugger, process.pid)
            for _ in range(200):
                text = log.read_text(errors="replace")
                if _SIGNAL.search(text):
                    break
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.05)
    finally:
        process.kill()
        process.wait()
    stopped.siginfo = _signal_in(text)
    stopped.command = [str(program), mode]
    target = where / "core"
    target.write_bytes(_elf(machine, stopped))
    return target


def _forbid_cores() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Stub:
    """The remote serial protocol of gdb (its manual, appendix E), as much of it as is needed."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes]) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_LIMIT)
        for _ in range(200):
            with suppress(OSError):
                self._socket.connect(str(path))
                break
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        self._buffer = b""

    def ask(self, text: str) -> str:
        self.tell(text)
        while True:
            found = re.search(rb"\$([^#]*)#..", self._buffer, re.DOTALL)
            if found:
                self._buffer = self._buffer[found.end() :]
                self._socket.sendall(b"+")
                return found[1].decode("latin-1")
            more = self._socket.recv(65536)
            if not more:
                raise EOFError(text)
            self._buffer += more

    def tell(self, text: str) -> None:
        self._socket.sendall(f"${text}#{sum(text.encode()) % 256:02x}".encode())

    def binary(self, text: str) -> bytes:
        answer = self.ask(text)[1:].encode("latin-1")
        return re.sub(rb"\}(.)", lambda found: bytes([found[1][0] ^ 0x20]), answer, flags=re.DOTALL)

    def __enter__(self) -> _Stub:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _stopped(machine: str, stub: _Stub, pid: int) -> _Stopped:
    stub.ask("qSupported:multiprocess+")
    answer = stub.ask("c")
    number = int(answer[1:3], 16)
    signo = int(_FROM_GDB.get(number, number))
    found = re.search(r"thread:(?:p[0-9a-f]+\.)?([0-9a-f]+)", answer)
    crashed = int(found[1], 16) if found else pid
    names, more = [], stub.ask("qfThreadInfo")
    while more.startswith("m"):
        names += more[1:].split(",")
        more = stub.ask("qsThreadInfo")
    threads: dict[int, bytes] = {}
    for name in sorted(names, key=lambda name: int(name.split(".")[-1], 16) != crashed):
        stub.ask(f"Hg{name}")
        threads[int(name.split(".")[-1], 16)] = _registers(machine, bytes.fromhex(stub.ask("g").replace("x", "0")))
    auxv = stub.binary("qXfer:auxv:read::0,1000")
    stopped = _Stopped(signo, threads, list(_mappings(pid)), auxv, pid)
    stub.tell(f"C{number:02x}")  # let it go on with the signal: only then is the log told what it was
    return stopped


def _registers(machine: str, data: bytes) -> bytes:
    """From the stub's order to that of the machine's `user_regs_struct`."""
    if machine == "aarch64":  # x0 … x30, sp, pc; the state has 32 bits there
        return data[:264] + data[264:268] + bytes(4)
    return data[256:264] + data[8:256]  # x0 … x31, pc: the note has pc in the place of x0


def _mappings(pid: int) -> Iterator[_Mapping]:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, offset, _, inode, *path = line.split(maxsplit=5)
            start, end = (int(part, 16) for part in span.split("-"))
            if end > _GUEST_END:
                continue
            name = path[0] if path and inode != "0" else ""
            flags = (_R if "r" in rights else 0) | (_W if "w" in rights else 0)
            at = int(offset, 16)
            if flags == _R and _is_code(name, at, end - start):
                flags |= _X
            found = _Mapping(start, end, flags, at, name)
            if flags:
                memory.seek(start)
                with suppress(OSError):
                    found.data = _dumped(found, memory.read(end - start))
            yield found


def _dumped(mapping: _Mapping, data: bytes) -> bytes:
    """What the kernel dumps of a mapping: all that may differ from the file, and the first page of an ELF file."""
    if mapping.flags & _W or not mapping.path:
        return data
    with Path(mapping.path).open("rb") as file:
        file.seek(mapping.offset)
        same = file.read(len(data)) == data[: Path(mapping.path).stat().st_size - mapping.offset]
    if not same:
        return data
    return data[:_PAGE] if mapping.offset == 0 else b""


def _is_code(path: str, offset: int, size: int) -> bool:
    """The emulator maps code readable only: what the file says of it. Without a file: qemu's return from signals."""
    return any(start <= offset < end for start, end in _code(path)) if path else size == _PAGE


@cache
def _code(path: str) -> tuple[tuple[int, int], ...]:
    data = Path(path).read_bytes()
    if data[:4] != b"\x7fELF":
        return ()
    (table,) = struct.unpack_from("<Q", data, 32)
    (count,) = struct.unpack_from("<H", data, 56)
    found = []
    for index in range(count):
        kind, flags, offset, _, _, size = struct.unpack_from("<IIQQQQ", data, table + 56 * index)
        if kind == 1 and flags & _X:
            found.append((offset & -_PAGE, offset + size))
    return tuple(found)


def _signal_in(log: str) -> tuple[int, int, int]:
    found = _SIGNAL.search(log)
    text = found[0] if found else ""

    def number(name: str) -> int:
        value = re.search(rf"{name}\s*=\s*(-?\w+)", text)
        word = value[1] if value else "0"
        return _WORDS[word] if word in _WORDS else int(word, 0)

    return number("si_code"), number("si_addr"), number("si_pid")


def _elf(machine: str, stopped: _Stopped) -> bytes:
    notes = _notes(stopped)
    segments = stopped.mappings
    table = 64 + 56 * (len(segments) + 1)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\2\1\1",
        4,
        _ELF_MACHINE[machine],
        1,
        0,
        64,
        0,
        0,
        64,
        56,
        len(segments) + 1,
        0,
        0,
        0,
    )
    rows = [struct.pack("<IIQQQQQQ", 4, 0, table, 0, 0, len(notes), 0, 4)]
    at = (table + len(notes) + _PAGE - 1) & -_PAGE
    body = bytearray(at - table - len(notes))
    for each in segments:
        size = each.end - each.start
        rows.append(struct.pack("<IIQQQQQQ", 1, each.flags, at, each.start, 0, len(each.data), size, _PAGE))
        body += each.data
        at += len(each.data)
    return header + b"".join(rows) + notes + bytes(body)


def _notes(stopped: _Stopped) -> bytes:
    """In the kernel's order: the crashed thread, the process, the signal, the auxiliary vector, the files, others."""
    statuses = [
        struct.pack("<iiihxxQQiiii64x", stopped.signo, 0, 0, stopped.signo, 0, 0, tid, 0, 0, 0) + registers + bytes(8)
        for tid, registers in stopped.threads.items()
    ]
    name = os.path.basename(stopped.command[0]).encode()[:15]
    line = " ".join(stopped.command).encode()[:79]
    process = struct.pack("<bbbbxxxxQIIiiii16s80s", 0, 82, 0, 0, 0, 0, 0, stopped.pid, 1, 0, 0, name, line)
    code, address, sender = stopped.siginfo
    place = struct.pack("<iI", sender, 0) if code <= 0 else struct.pack("<Q", address)
    information = struct.pack("<iiixxxx", stopped.signo, 0, code) + place + bytes(128 - 24)
    files = [each for each in stopped.mappings if each.path]
    table = struct.pack("<QQ", len(files), _PAGE)
    table += b"".join(struct.pack("<QQQ", each.start, each.end, each.offset // _PAGE) for each in files)
    table += b"".join(each.path.encode() + b"\0" for each in files)
    parts = [(1, statuses[0]), (3, process), (0x53494749, information), (6, stopped.auxv), (0x46494C45, table)]
    parts += [(1, status) for status in statuses[1:]]
    return b"".join(
        struct.pack("<III8s", 5, len(data), kind, b"CORE") + data + bytes(-len(data) % 4) for kind, data in parts
    )
