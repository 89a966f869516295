"""Python frames of every thread: from the interpreter's state along its lists, as far as they can be read."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from diagnosis.crashes.causes.python.interpreter import Interpreter, interpreter_of
from diagnosis.crashes.causes.python.lines import line_at
from diagnosis.crashes.causes.python.objects import Objects
from diagnosis.crashes.core_file import CoreFile, Memory
from diagnosis.crashes.modules import Modules
from diagnosis.crashes.notes import ThreadStatus

MAX_FRAMES = 2000
"""Of the thread that crashed; of the others OTHER_FRAMES are read."""
OTHER_FRAMES = 12
MAX_THREADS = 500

_MAX_INTERPRETERS = 64
_MAX_LINE_TABLE = 1 << 20
_ALL_LINE_TABLES = 4 << 20
"""Bytes of tables that are read in all, so that a core cannot make this take long."""
_MAX_HANDLED = 100
_INT = struct.Struct("<i")
_WORD = struct.Struct("<Q")
_LIBRARY = re.compile(r"/lib(?:64)?/python\d|/site-packages/|/dist-packages/|^<frozen ")


@dataclass(frozen=True)
class PyFrame:
    """`address` is where the frame is in memory."""

    function: str
    file: str | None
    line: int | None
    address: int

    @property
    def in_app(self) -> bool:
        """Not of the standard library or an installed package."""
        return self.file is not None and not _LIBRARY.search(self.file)


@dataclass
class PyStack:
    """Of one thread, innermost frame first. `broken` says why there are no more; `truncated` that they are not read."""

    tid: int
    frames: list[PyFrame] = field(default_factory=list)
    truncated: bool = False
    broken: str | None = None


@dataclass
class PythonStacks:
    """`crashed` is None when the thread that crashed runs no Python. `exception` is what it raised or handled."""

    version: str | None = None
    crashed: PyStack | None = None
    others: list[PyStack] = field(default_factory=list)
    exception: str | None = None
    soft_errors: list[str] = field(default_factory=list)


def python_stacks(core: CoreFile, modules: Modules, files: Mapping[str, Path]) -> PythonStacks | None:
    """The stacks of a CPython process, or why they cannot be shown; None for other processes. Bounded."""
    found = interpreter_of(core, modules, files)
    if found is None:
        return None
    if isinstance(found, str):
        return PythonStacks(soft_errors=[f"the Python stack is not shown: {found}"])
    stacks = stacks_of(core, found, core.memory)
    return stacks if stacks.crashed or stacks.others or stacks.soft_errors else None


def stacks_of(core: CoreFile, interpreter: Interpreter, memory: Memory) -> PythonStacks:
    """The stacks of the threads of `core`, read from `memory`."""
    reader = _Reader(core, interpreter, memory)
    stacks = PythonStacks(version=interpreter.version)
    for state, status in reader.threads():
        crashed = status is core.crashed
        stack = reader.stack(state, status.tid, MAX_FRAMES if crashed else OTHER_FRAMES)
        if crashed:
            stacks.crashed = stack
            stacks.exception = reader.exception(state)
        elif stack.frames or stack.broken:
            stacks.others.append(stack)
        if stack.broken:
            after = f"after {len(stack.frames)} frames" if stack.frames else "at its start"
            reader.soft_errors.append(f"the Python stack of thread {stack.tid} breaks off {after}: {stack.broken}")
    stacks.soft_errors = list(dict.fromkeys(reader.soft_errors))[:20]
    return stacks


class _Reader:
    def __init__(self, core: CoreFile, interpreter: Interpreter, memory: Memory) -> None:
        self.core, self.memory = core, memory
        self.interpreter, self.layout = interpreter, interpreter.layout
        self.objects = Objects(memory, interpreter.layout)
        self.soft_errors: list[str] = []
        self._room = _ALL_LINE_TABLES
        self._codes: dict[int, tuple[str, str | None, int] | None] = {}
        self._lines: dict[tuple[int, int], int | None] = {}

    def threads(self) -> list[tuple[int, ThreadStatus]]:
        """(thread state, thread of the core). Those of other threads, as after a fork, are left out."""
        layout = self.layout
        # pthread_self() is the thread pointer in glibc and musl; ids of the kernel are of another name space in some
        by_pointer = {status.registers["fs_base"]: status for status in self.core.threads if status.registers}
        by_id = {status.tid: status for status in self.core.threads}
        found: dict[int, tuple[int, ThreadStatus, bool]] = {}
        for interpreter in self._chain(
            self.interpreter.state + layout.interpreters, layout.next_interpreter, _MAX_INTERPRETERS, "interpreters"
        ):
            for state in self._chain(interpreter + layout.threads, layout.next_thread, MAX_THREADS, "threads"):
                status = by_pointer.get(self.memory.pointer(state + layout.thread_id) or -1)
                if status is None and layout.native_id is not None:
                    status = by_id.get(self.memory.pointer(state + layout.native_id) or -1)
                if status is None or (status.tid not in found and len(found) >= MAX_THREADS):
                    continue
                # a thread has a state in each interpreter that it was in; the newest interpreter is the first
                if status.tid not in found or not found[status.tid][2]:
                    found[status.tid] = state, status, bool(self._innermost(state))
        return [(state, status) for state, status, _ in found.values()]

    def _chain(self, head: int, after: int, limit: int, what: str) -> Iterator[int]:
        """Members of a linked list, whose first is pointed to at `head`."""
        seen: set[int] = set()
        at = self.memory.pointer(head)
        while at:
            if at in seen or len(seen) >= limit:
                reason = "runs in a circle" if at in seen else f"is longer than {limit}; the rest is not read"
                self.soft_errors.append(f"Python's list of {what} {reason}")
                return
            seen.add(at)
            yield at
            at = self.memory.pointer(at + after)
        if at is None:
            self.soft_errors.append(f"Python's list of {what} breaks off: memory that it is in is not in the core")

    def _innermost(self, state: int) -> int | None:
        at = self.memory.pointer(state + self.layout.frame)
        if at and self.layout.frame_in is not None:
            at = self.memory.pointer(at + self.layout.frame_in)
        return at

    def stack(self, state: int, tid: int, limit: int) -> PyStack:
        """The frames of one thread state, at most `limit`."""
        layout, result = self.layout, PyStack(tid)
        size = max(layout.code, layout.back, layout.instruction, layout.owner or 0) + 8
        at = self._innermost(state)
        seen: set[int] = set()
        while at:
            if at in seen:
                result.broken = "its frames lead back to one before"
                return result
            if len(result.frames) >= limit or len(seen) >= 2 * limit:
                result.truncated = True
                return result
            seen.add(at)
            data = self.memory.read(at, size)
            if len(data) < size:
                result.broken = f"the frame at {hex(at)} is not in the core"
                return result
            if layout.shim is None or layout.owner is None or data[layout.owner] != layout.shim:
                frame = self._frame(at, data)
                if frame is None:
                    result.broken = f"the frame at {hex(at)} has no readable code object"
                    return result
                result.frames.append(frame)
            (at,) = _WORD.unpack_from(data, layout.back)
        if at is None:
            result.broken = "the thread's state is not in the core"
        return result

    def _frame(self, at: int, data: bytes) -> PyFrame | None:
        layout = self.layout
        (code,) = _WORD.unpack_from(data, layout.code)
        if code not in self._codes:
            self._codes[code] = self._code(code)
        known = self._codes[code]
        if known is None:
            return None
        if layout.bytecode is None:
            offset = _INT.unpack_from(data, layout.instruction)[0] * layout.unit
        else:
            offset = _WORD.unpack_from(data, layout.instruction)[0] - code - layout.bytecode
        function, file, first = known
        if (code, offset) not in self._lines:
            self._lines[code, offset] = self._line(code, first, offset)
        return PyFrame(function, file, self._lines[code, offset], at)

    def _code(self, code: int) -> tuple[str, str | None, int] | None:
        """Function, file and first line of a code object; None when there is none at `code`."""
        kind = self.objects.type_of(code)
        if kind is None or self.interpreter.code_type not in (kind, None):
            return None
        function = self.objects.text(self.memory.pointer(code + self.layout.function))
        first = self.memory.read(code + self.layout.first_line, 4)
        if function is None or len(first) < 4:
            return None
        file = self.objects.text(self.memory.pointer(code + self.layout.file), end=True)
        return function, file, _INT.unpack(first)[0]

    def _line(self, code: int, first: int, offset: int) -> int | None:
        table = self.objects.raw(self.memory.pointer(code + self.layout.line_table), min(self._room, _MAX_LINE_TABLE))
        if table is None:
            self.soft_errors.append("some lines of Python frames are unknown: their tables are not readable")
            return None
        self._room -= len(table)
        return line_at(self.layout.lines, table, first, offset)

    def exception(self, state: int) -> str | None:
        """What is being raised, else what is being handled."""
        layout, pointer = self.layout, self.memory.pointer
        value = pointer(state + layout.raised)
        if found := self.objects.exception(value):
            return found
        if layout.raised_type is not None and (kind := pointer(state + layout.raised_type)):
            name, said = self.objects.type_name(kind), self.objects.text(value)
            return f"{name}: {said}" if name and said else name
        item = pointer(state + layout.handled)
        for _ in range(_MAX_HANDLED):
            if not item:
                break
            if found := self.objects.exception(pointer(item + layout.handled_value)):
                return found
            item = pointer(item + layout.handled_before)
        return None
