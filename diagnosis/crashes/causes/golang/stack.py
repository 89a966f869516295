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
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.signals import FAULTS
from diagnosis.crashes.unwind.walk import walk_from

MAX_FRAMES = 128
"""The innermost; a stack that overflowed has millions."""
TRUST = "pclntab"
_MAX_SWITCHES = 8
_TOP = frozenset({"runtime.goexit", "runtime.mstart", "runtime.rt0_go", "runtime.mcall", "runtime.gogo"})
_TO_GOROUTINE = frozenset({"runtime.systemstack", "runtime.morestack"})
_INJECTED = frozenset({"runtime.sigpanic", "runtime.sigpanic0", "runtime.asyncPreempt", "runtime.debugCallV2"})
"""They return to an instruction that was interrupted, as if it had called them."""
_HANDLERS = frozenset({"runtime.sigtramp", "runtime.cgoSigtramp"})
_SIGNAL_RETURN = frozenset({"runtime.sigreturn__sigaction", "runtime.sigreturn"})
# from the stack pointer that the kernel's frame for a handler leaves to the code it returns to (asm/sigcontext.h)
_REGISTERS, _SIGINFO = 40, 304
_SAVED = "r8 r9 r10 r11 r12 r13 r14 r15 rdi rsi rbp rbx rdx rax rcx rsp rip"
_NAMES = tuple(_SAVED.split())


@dataclass(frozen=True)
class Physical:
    """A frame: `sp` is its stack pointer, `end` where its caller's frame begins; without `function` it is C code."""

    pc: int
    exact: bool
    """`pc` is an instruction that was about to run, not one that a call returns to."""
    function: Function | None
    sp: int = 0
    end: int = 0
    trust: str = TRUST

    @property
    def at(self) -> int:
        """The address to look up."""
        return self.pc if self.exact else self.pc - 1


@dataclass
class GoStack:
    """Frames, innermost first; `complete` when the bottom was reached, `lost` when code without a table was.

    `fault` is the kernel's frame for the handler of a fault: the depth of the frame that was interrupted, and where
    its registers were saved.
    """

    frames: list[Physical] = field(default_factory=list)
    complete: bool = False
    lost: bool = False
    fault: tuple[int, int] | None = None


class StackReader:
    """Walks stacks of one program on x86-64. `thread` is the one that crashed, where it is known."""

    def __init__(self, core: CoreFile, modules: Modules, program: Program, thread: RunningThread | None) -> None:
        self._core, self._modules, self._program, self._thread = core, modules, program, thread

    def crashed(self) -> GoStack:
        """The frames of the thread that crashed; none where it does not run the program's code."""
        status = self._core.crashed
        return self._walk(status.pc, status.registers.get("rsp"))

    def parked(self, pc: int, sp: int) -> GoStack:
        """The frames of a goroutine that left its stack at `pc` and `sp`."""
        return self._walk(pc, sp)

    def _walk(self, pc: int | None, sp: int | None) -> GoStack:
        stack, memory, program = GoStack(), self._core.memory, self._program
        exact, switches = True, 0
        registers: dict[str, int] | None = None  # of code that a signal interrupted
        while pc is not None and sp is not None and len(stack.frames) < MAX_FRAMES and switches <= _MAX_SWITCHES:
            function = program.function(pc if exact else pc - 1)
            size = program.frame_size(function, pc if exact else pc - 1) if function is not None else None
            if function is None or size is None:
                goroutine = self._through_c(stack, registers) if function is None else None
                if goroutine is None:
                    stack.lost = function is None
                    break
                (pc, sp), exact, registers = goroutine, True, None
                switches += 1
                continue
            name, end = function.name.removesuffix(".abi0"), sp + size + 8
            stack.frames.append(Physical(pc, exact, function, sp, end))
            registers = None
            if name in _TOP:
                stack.complete = True
                break
            context = sp if name in _SIGNAL_RETURN else end if self._handles(name, end) else None
            if context is not None:
                registers = self._saved(context)
                if registers is None:
                    break
                signo = int.from_bytes(memory.read(context + _SIGINFO, 4), "little")
                if stack.fault is None and signo in FAULTS:
                    stack.fault = len(stack.frames), context
                pc, sp, exact = registers["rip"], registers["rsp"], True
                switches += 1
            elif name in _TO_GOROUTINE and (left := self._left(sp)) is not None:
                (pc, sp), exact = left, True
                switches += 1
            elif name == "runtime.morestack":
                break
            else:
                back = memory.pointer(end - 8)
                pc, sp, exact = back, end, name in _INJECTED or name in _HANDLERS
        return stack

    def _handles(self, name: str, end: int) -> bool:
        """The frame that ends at `end` is a signal handler's that returns into the C library."""
        if name not in _HANDLERS:
            return False
        back = self._core.memory.pointer(end - 8)
        return back is not None and self._program.function(back) is None

    def _saved(self, context: int) -> dict[str, int] | None:
        data = self._core.memory.read(context + _REGISTERS, 8 * len(_NAMES))
        if len(data) < 8 * len(_NAMES):
            return None
        return dict(zip(_NAMES, struct.unpack(f"<{len(_NAMES)}Q", data), strict=True))

    def _left(self, sp: int) -> tuple[int, int] | None:
        """Where the goroutine that the thread works for left its stack, when `sp` is on another one."""
        current = self._thread.current if self._thread is not None else None
        if current is None or current.holds(sp) or not current.holds(current.sp):
            return None
        return current.pc, current.sp

    def _through_c(self, stack: GoStack, registers: dict[str, int] | None) -> tuple[int, int] | None:
        """Add the frames of C code that `registers` are in, up to the Go function that called it.

        Where that left the goroutine's stack is what it saved (runtime, `asmcgocall`); None when it did not.
        """
        left = self._left(registers["rsp"]) if registers is not None else None
        if registers is None or left is None:
            return None
        walked = walk_from(self._core, self._modules, registers, MAX_FRAMES - len(stack.frames))
        for depth, pc in enumerate(walked.pcs if walked is not None else ()):
            if walked is None or self._program.function(pc - 1 if depth else pc) is not None:
                break
            exact = depth == 0 or depth in walked.interrupted
            stack.frames.append(Physical(pc, exact, None, trust=walked.trust(depth)))
        return left
