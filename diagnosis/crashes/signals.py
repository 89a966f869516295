"""Names of signals and of their codes: signal(7), sigaction(2), include/uapi/asm-generic/siginfo.h."""

from __future__ import annotations

import signal

SI_KERNEL = 0x80
_SENT = {0: "SI_USER", -1: "SI_QUEUE", -6: "SI_TKILL"}
_GENERIC = {**_SENT, SI_KERNEL: "SI_KERNEL", -2: "SI_TIMER", -3: "SI_MESGQ", -4: "SI_ASYNCIO", -5: "SI_SIGIO"}
_BY_SIGNAL: dict[int, tuple[str, ...]] = {
    signal.SIGSEGV: (
        "SEGV_MAPERR", "SEGV_ACCERR", "SEGV_BNDERR", "SEGV_PKUERR", "SEGV_ACCADI", "SEGV_ADIDERR", "SEGV_ADIPERR",
        "SEGV_MTEAERR", "SEGV_MTESERR", "SEGV_CPERR",
    ),
    signal.SIGBUS: ("BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR", "BUS_MCEERR_AR", "BUS_MCEERR_AO"),
    signal.SIGFPE: (
        "FPE_INTDIV", "FPE_INTOVF", "FPE_FLTDIV", "FPE_FLTOVF", "FPE_FLTUND", "FPE_FLTRES", "FPE_FLTINV", "FPE_FLTSUB",
    ),
    signal.SIGILL: (
        "ILL_ILLOPC", "ILL_ILLOPN", "ILL_ILLADR", "ILL_ILLTRP", "ILL_PRVOPC", "ILL_PRVREG", "ILL_COPROC", "ILL_BADSTK",
    ),
    signal.SIGTRAP: ("TRAP_BRKPT", "TRAP_TRACE", "TRAP_BRANCH", "TRAP_HWBKPT"),
    signal.SIGSYS: ("SYS_SECCOMP", "SYS_USER_DISPATCH"),
}  # fmt: skip

FAULTS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP})
"""Signals whose siginfo carries an address when the kernel raised them."""


_MEANING = {
    "SEGV_MAPERR": "nothing is mapped there",
    "SEGV_ACCERR": "the mapping does not allow this access",
    "BUS_ADRALN": "the address is not aligned",
    "BUS_ADRERR": "the mapping has no memory behind it; a mapped file is shorter than its mapping",
    "BUS_OBJERR": "the object behind the mapping had an error",
    "BUS_MCEERR_AR": "the hardware reported a memory error",
    "FPE_INTDIV": "integer division by zero, or a quotient that does not fit",
    "FPE_INTOVF": "integer overflow",
    "FPE_FLTDIV": "floating-point division by zero",
    "FPE_FLTINV": "invalid floating-point operation",
    "ILL_ILLOPC": "illegal opcode",
    "ILL_ILLOPN": "illegal operand",
    "ILL_PRVOPC": "privileged opcode",
}


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def tells_place(type_of_signal: str | None) -> bool:
    """Of a signal that is not the program's own fault, by `SIGNAL / CODE`: whether where the program was matters.

    A call that seccomp refuses was made at that place; for one that another process sent it is chance.
    """
    return (type_of_signal or "").partition(" ")[0] == "SIGSYS"


def code_name(number: int, code: int) -> str | None:
    """Name of si_code `code` of signal `number`, or None when it has none."""
    names = _BY_SIGNAL.get(number, ())
    if 1 <= code <= len(names):
        return names[code - 1]
    return _GENERIC.get(code)


def code_meaning(name: str | None) -> str | None:
    return _MEANING.get(name or "")


def was_sent(code: int) -> bool:
    """Sent by a process with kill, sigqueue or tgkill: only then siginfo holds its pid."""
    return code in _SENT
