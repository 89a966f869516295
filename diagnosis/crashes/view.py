"""What a debugger saw of a core; empty when there was none."""

from __future__ import annotations

from dataclasses import dataclass, field

from diagnosis.crashes.layouts import Layout
from diagnosis.crashes.unwind.symbols import NamedAddress
from incidents.crash_report import Frame, Instruction


@dataclass
class DebuggerView:
    """`frames` by kernel thread id, innermost first; `texts` are (exact command, what it showed)."""

    frames: dict[int, list[Frame]] = field(default_factory=dict)
    truncated: set[int] = field(default_factory=set)
    """Threads that have more frames than are listed."""
    at: dict[int, Frame] = field(default_factory=dict)
    """Frames known by their program counter alone: depths that were not listed."""
    names: dict[int, NamedAddress] = field(default_factory=dict)
    """Functions by an address in each, for frames that nobody else names."""
    disassembly: list[Instruction] = field(default_factory=list)
    layouts: list[Layout] = field(default_factory=list)
    """Of what the pointers at the crash point to."""
    texts: list[tuple[str, str]] = field(default_factory=list)
    handler_context: int | None = None
    """Stack pointer in the frame of a signal handler; the interrupted function is the frame after it."""
    soft_errors: list[str] = field(default_factory=list)
    complete: bool = True

    @property
    def instruction(self) -> str | None:
        """Text of the instruction at the crash."""
        return next((item.text for item in self.disassembly if item.is_pc), None)


def render_frame(frame: Frame) -> str:
    """One line as a debugger prints it."""
    arguments = ", ".join(f"{item.name}={item.value if item.value is not None else '…'}" for item in frame.args)
    where = f" at {frame.file}:{frame.line}" if frame.file and frame.line else ""
    inside = f" from {frame.module}+{frame.module_offset}" if not where and frame.module else ""
    return f"#{frame.frame:<3} {frame.offset or '?'} in {frame.function or '??'} ({arguments}){where}{inside}"


def render_frames(frames: list[Frame]) -> str:
    return "\n".join(render_frame(frame) for frame in frames)
