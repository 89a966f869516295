"""The stack on which a Go program ended, by the frame sizes of its own table: across Go's changes of stack.

The runtime ends the program on the goroutine's own stack (a panic), on the thread's (a fatal error) or on that of
signals; each leads back to the goroutine by what the runtime or the kernel saved there (runtime/traceback.go).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from diagnosis.crashes.causes.golang.descriptors import RunningThread
from diagnosis.crashes.causes.golang.pclntab import Function
from diagnosis.crashes.causes.golang.program import Program
from diagnosis.crashes.core_file import CoreFile
from diagnosis.crashes.notes import ThreadStatus

MAX_FRAMES = 128
"""The innermost; a stack that overflowed has millions."""
_MAX_SWITCHES = 8
_TOP = frozenset({"runtime.goexit", "runtime.mstart", "runtime.rt0_go", "runtime.mcall", "runtime.gogo"})
_TO_GOROUTINE = frozenset({"runtime.systemstack", "runtime.morestack"})
_INJECTED = frozenset({"runtime.sigpanic", "runtime.sigpanic0", "runtime.asyncPreempt", "runtime.debugCallV2"})
_BEFORE_EXACT = _INJECTED | {"runtime.sigtramp", "runtime.cgoSigtramp"}
"""They return to where nothing called: to an instruction that was interrupted, or to the start of a function."""
_SIGNAL_RETURN = frozenset({"runtime.sigreturn__sigaction", "runtime.sigreturn"})
_UCONTEXT_REGISTERS = 40
_RSP, _RIP = 15, 16  # words of struct sigcontext (asm/sigcontext.h)


@dataclass(frozen=True)
class Physical:
    """A frame: `sp` is its stack pointer, `end` where its caller's frame begins."""

    pc: int
    exact: bool
    """`pc` is an instruction that was about to run, not one that a call returns to."""
    function: Function
    sp: int
    end: int

    @property
    def at(self) -> int:
        """The address to look up."""
        return self.pc if self.exact else self.pc - 1


@dataclass
class GoStack:
    """Frames, innermost first; `complete` when the bottom was reached, `foreign` when code without a table was."""

    frames: list[Physical] = field(default_factory=list)
    complete: bool = False
    foreign: bool = False


def go_stack(core: CoreFile, program: Program, status: ThreadStatus, thread: RunningThread | None) -> GoStack:
    """The frames of `status`, one of the core's threads, on x86-64; none where it does not run the program's code."""
    return _walk(core, program, status.pc, status.registers.get("rsp"), thread)


def parked_stack(core: CoreFile, program: Program, pc: int, sp: int) -> GoStack:
    """The frames of a goroutine that left its stack at `pc` and `sp`."""
    return _walk(core, program, pc, sp, None)


def _walk(core: CoreFile, program: Program, pc: int | None, sp: int | None, thread: RunningThread | None) -> GoStack:
    stack, memory = GoStack(), core.memory
    exact, switches = True, 0
    while pc is not None and sp is not None and len(stack.frames) < MAX_FRAMES:
        function = program.function(pc if exact else pc - 1)
        size = program.frame_size(function, pc if exact else pc - 1) if function is not None else None
        if function is None or size is None:
            stack.foreign = function is None
            break
        name = function.name.removesuffix(".abi0")
        stack.frames.append(Physical(pc, exact, function, sp, sp + size + 8))
        if name in _TOP:
            stack.complete = True
            break
        switch = _switch(core, name, sp, thread)
        if switch is not None:
            switches += 1
            if switches > _MAX_SWITCHES:
                break
            pc, sp = switch
            exact = True
            continue
        if name == "runtime.morestack":
            break
        pc, sp, exact = memory.pointer(sp + size), sp + size + 8, name in _BEFORE_EXACT
    return stack


def _switch(core: CoreFile, name: str, sp: int, thread: RunningThread | None) -> tuple[int, int] | None:
    """Program counter and stack pointer of the frame on the other stack; None where the stack goes on."""
    if name in _SIGNAL_RETURN:
        data = core.memory.read(sp + _UCONTEXT_REGISTERS, 17 * 8)
        if len(data) < 17 * 8:
            return None
        registers = struct.unpack("<17Q", data)
        return registers[_RIP], registers[_RSP]
    if name in _TO_GOROUTINE and thread is not None:
        current = thread.current
        if current is not None and thread.scheduler.holds(sp) and current.holds(current.sp):
            return current.pc, current.sp
    return None
