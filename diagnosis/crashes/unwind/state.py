"""What a thread was doing: by the system call it was in, else by the function at the top of its stack."""

from __future__ import annotations

from collections.abc import Sequence

from diagnosis.crashes.notes import ThreadStatus
from incidents.crash_frames import Frame

# linux/arch/x86/entry/syscalls/syscall_64.tbl; NT_PRSTATUS keeps the number in orig_rax, -1 outside of a call
_X86_64 = {
    0: "io", 1: "io", 17: "io", 18: "io", 19: "io", 20: "io", 42: "io", 43: "io", 44: "io", 45: "io", 46: "io",
    47: "io", 288: "io", 7: "poll", 23: "poll", 270: "poll", 271: "poll", 232: "poll", 281: "poll", 441: "poll",
    35: "sleep", 230: "sleep", 34: "sleep", 202: "futex", 449: "futex", 61: "wait", 247: "wait", 128: "signal",
    130: "signal", 60: "exited", 74: "io", 75: "io",
}  # fmt: skip
_BY_NAME = {
    "futex": ("futex", "pthread_cond", "pthread_mutex", "lll_lock", "sem_wait", "pthread_join", "pthread_clockjoin"),
    "poll": ("epoll_", "poll", "ppoll", "select", "pselect"),
    "sleep": ("nanosleep", "clock_nanosleep", "usleep", "sleep", "pause"),
    "io": ("read", "write", "recv", "send", "accept", "connect", "fsync", "pread", "pwrite"),
    "wait": ("wait4", "waitpid", "waitid"),
}
_SEARCHED = 3


def state_of(thread: ThreadStatus, frames: Sequence[Frame], machine: str) -> str | None:
    """futex, poll, sleep, io, wait, signal, exited or running; None when neither registers nor names tell."""
    if machine == "x86_64" and "orig_rax" in thread.registers:
        number = thread.registers["orig_rax"]
        if number < 1 << 32:
            return _X86_64.get(number, "syscall")
        return "running"
    for frame in frames[:_SEARCHED]:
        name = (frame.function or "").lstrip("_").removeprefix("GI_").removeprefix("libc_")
        for state, starts in _BY_NAME.items():
            if name.startswith(starts):
                return state
    return None
