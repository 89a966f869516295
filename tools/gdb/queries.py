"""Read-only questions about a core for a model: typed, checked, and rendered to gdb commands by us.

With a core loaded, gdb can still run a shell, Python and other programs. So no text of a caller reaches it: numbers
are numbers, and an expression is an identifier with `->`, `.`, `[number]` and leading `*`, or a number.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from diagnosis.crashes.view import render_frames
from errors import InvalidInput, ToolFailed
from settings import GdbSettings
from tools.gdb.frames import arguments_of, disassembly_of, frames_of, number, variables_of
from tools.gdb.opened import OpenedCore, opened_core
from tools.gdb.plan import load
from tools.gdb.resolve import in_root
from tools.gdb.sandbox import launch, private_folder
from tools.gdb.session import OPTIONS, Answer, GdbSession, open_session

ANSWER_CHARS = 8000
"""An answer is cut here."""

_SECONDS = 60.0
_MEMORY_LIMIT = 512
_SOURCE_BYTES = 4 << 20
_SOURCE_SUFFIXES = {".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".hxx", ".inl", ".rs", ".go", ".s", ".S"}

Expression = Annotated[
    str,
    StringConstraints(
        max_length=200,
        pattern=r"^(?:\*{0,3}[A-Za-z_][A-Za-z0-9_]*(?:(?:->|\.)[A-Za-z_][A-Za-z0-9_]*|\[(?:0x[0-9a-fA-F]{1,16}|[0-9]{1,9})\])*"
        r"|0x[0-9a-fA-F]{1,16}|[0-9]{1,19})$",
    ),
]
Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{1,16}$")]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NoArguments(_Arguments):
    pass


class ThreadArguments(_Arguments):
    thread: int | None = Field(default=None, ge=0, description="Kernel thread id; default: the thread that crashed")


class BacktraceArguments(ThreadArguments):
    frames: int = Field(default=32, ge=1, le=256)


class FrameArguments(ThreadArguments):
    frame: int = Field(default=0, ge=0, le=255, description="0 is the innermost")


class ExpressionArguments(FrameArguments):
    expression: Expression = Field(description="Such as `node->next`, `*item.list[3]`; no calls, no arithmetic")


class MemoryArguments(_Arguments):
    address: Address = Field(description="Hexadecimal, with 0x")
    count: int = Field(default=64, ge=1, le=_MEMORY_LIMIT, description="Bytes")


@dataclass(frozen=True)
class QuerySpec:
    """One question: what it answers and the model of its arguments (its JSON schema describes them to a model)."""

    name: str
    description: str
    arguments: type[BaseModel]
    answer: Callable[[_Asked, Any], Awaitable[str]]

    def schema(self) -> dict[str, Any]:
        return self.arguments.model_json_schema()


@dataclass(frozen=True)
class _Asked:
    """An open core; `gdb` only where the question needs it."""

    opened: OpenedCore
    gdb: Callable[[Callable[[GdbSession, dict[int, int], float], Awaitable[str]]], Awaitable[str]]
    source_roots: Sequence[Path]

    def thread(self, arguments: ThreadArguments, ids: dict[int, int]) -> int:
        """gdb's number of the thread that is meant. Raises InvalidInput when there is none."""
        wanted = self.opened.core.crashed.tid if arguments.thread is None else arguments.thread
        if wanted not in ids:
            raise InvalidInput(f"the core has no thread {wanted}")
        return ids[wanted]


async def run_query(
    name: str,
    args: dict[str, object],
    *,
    core: Path,
    executable: Path | None,
    settings: GdbSettings,
    sysroot: Path | None = None,
    debug_dirs: Sequence[Path] = (),
) -> str:
    """The answer to query `name`, at most ANSWER_CHARS characters of outside text.

    Raises InvalidInput for an unknown query or wrong arguments, UnusableCore, ToolMissing, ToolFailed.
    """
    spec = QUERIES.get(name)
    if spec is None:
        raise InvalidInput(f"there is no query {name[:50]!a}; there are {', '.join(QUERIES)}")
    try:
        arguments = spec.arguments.model_validate(args)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    async with opened_core(core, executable=executable, sysroot=sysroot, debug_dirs=debug_dirs) as opened:

        async def with_gdb(ask: Callable[[GdbSession, dict[int, int], float], Awaitable[str]]) -> str:
            deadline = asyncio.get_running_loop().time() + min(_SECONDS, settings.deadline)
            async with private_folder() as folder:
                start = await launch(opened.case, settings, folder, OPTIONS)
                async with open_session(start, settings.output_bytes) as session:
                    ids = await load(session, opened, settings.max_frames, deadline, printers=True)
                    return await ask(session, ids, deadline)

        roots = [folder for folder in (sysroot, *debug_dirs) if folder is not None]
        text = await spec.answer(_Asked(opened, with_gdb, roots), arguments)
    return text if len(text) <= ANSWER_CHARS else text[:ANSWER_CHARS] + "\n… (cut)"


async def _backtrace(asked: _Asked, arguments: BacktraceArguments) -> str:
    async def ask(session: GdbSession, ids: dict[int, int], deadline: float) -> str:
        at = f"--thread {asked.thread(arguments, ids)}"
        span = f"0 {arguments.frames - 1}"
        commands = [f"-stack-list-frames {at} {span}", f"-stack-list-arguments {at} --simple-values {span}"]
        stack, values = await session.run(commands, deadline)
        frames = frames_of(_payload(stack), asked.opened.modules)
        given = arguments_of(values.payload)
        return render_frames([frame.model_copy(update={"args": given.get(frame.frame, [])}) for frame in frames])

    return await asked.gdb(ask)


async def _frame(asked: _Asked, arguments: FrameArguments) -> str:
    async def ask(session: GdbSession, ids: dict[int, int], deadline: float) -> str:
        number_of = arguments.frame
        command = f"-stack-list-frames --thread {asked.thread(arguments, ids)} {number_of} {number_of}"
        (answer,) = await session.run([command], deadline)
        return render_frames(frames_of(_payload(answer), asked.opened.modules))

    return await asked.gdb(ask)


async def _locals(asked: _Asked, arguments: FrameArguments) -> str:
    async def ask(session: GdbSession, ids: dict[int, int], deadline: float) -> str:
        at = f"--thread {asked.thread(arguments, ids)} --frame {arguments.frame}"
        commands = [f"-stack-list-variables {at} {kind}" for kind in ("--simple-values", "--all-values")]
        simple, full = await session.run(commands, deadline)
        given, local = variables_of(_payload(simple), _payload(full))
        lines = [f"{item.name}: {item.type or '?'} = {item.value}" for item in (*given, *local)]
        return "\n".join(lines) or "no variables are known in this frame"

    return await asked.gdb(ask)


async def _expression(asked: _Asked, arguments: ExpressionArguments) -> str:
    async def ask(session: GdbSession, ids: dict[int, int], deadline: float) -> str:
        at = f"--thread {asked.thread(arguments, ids)} --frame {arguments.frame}"
        (answer,) = await session.run([f"-data-evaluate-expression {at} {arguments.expression}"], deadline)
        return str(_payload(answer).get("value", ""))

    return await asked.gdb(ask)


async def _disassemble(asked: _Asked, arguments: FrameArguments) -> str:
    async def ask(session: GdbSession, ids: dict[int, int], deadline: float) -> str:
        at = f"--thread {asked.thread(arguments, ids)} --frame {arguments.frame}"
        commands = [f"-data-evaluate-expression {at} (long)$pc", f"-data-disassemble {at} -s $pc -e $pc+96 -- 0"]
        current, code = await session.run(commands, deadline)
        pc = number(_payload(current).get("value")) or 0
        lines = disassembly_of(_payload(code), pc)
        return "\n".join(f"{'=> ' if line.is_pc else '   '}{line.address} {line.text}" for line in lines)

    return await asked.gdb(ask)


async def _registers(asked: _Asked, arguments: ThreadArguments) -> str:
    core = asked.opened.core
    wanted = core.crashed.tid if arguments.thread is None else arguments.thread
    status = next((thread for thread in core.threads if thread.tid == wanted), None)
    if status is None:
        raise InvalidInput(f"the core has no thread {wanted}")
    return "\n".join(f"{name} = {hex(value)}" for name, value in status.registers.items())


async def _threads(asked: _Asked, arguments: NoArguments) -> str:
    async def ask(session: GdbSession, ids: dict[int, int], deadline: float) -> str:
        listed = [thread.tid for thread in asked.opened.core.threads if thread.tid in ids][:200]
        commands = [f"-stack-list-frames --thread {ids[tid]} 0 0" for tid in listed]
        answers = await session.run(commands, deadline)
        lines = []
        for tid, answer in zip(listed, answers, strict=True):
            mark = " (crashed)" if tid == asked.opened.core.crashed.tid else ""
            lines.append(f"thread {tid}{mark}: {render_frames(frames_of(answer.payload, asked.opened.modules))}")
        return "\n".join(lines)

    return await asked.gdb(ask)


async def _modules(asked: _Asked, arguments: NoArguments) -> str:
    matches = asked.opened.resolved.matches
    return "\n".join(
        f"{hex(module.base)}-{hex(module.end)} {module.path!a} build-id {module.build_id} "
        f"local file: {matches.get(module.path)}"
        for module in asked.opened.modules.all
    )


async def _memory(asked: _Asked, arguments: MemoryArguments) -> str:
    start = int(arguments.address, 16)
    data = await asyncio.to_thread(asked.opened.core.memory.read, start, arguments.count)
    if not data:
        return f"the core holds no memory at {arguments.address}"
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{hex(start + at)}  {row.hex(' '):<47}  {text}")
    return "\n".join(lines)


async def _source(asked: _Asked, arguments: FrameArguments) -> str:
    async def ask(session: GdbSession, ids: dict[int, int], deadline: float) -> str:
        span = f"{arguments.frame} {arguments.frame}"
        (answer,) = await session.run([f"-stack-list-frames --thread {asked.thread(arguments, ids)} {span}"], deadline)
        frames = frames_of(_payload(answer), asked.opened.modules)
        if not frames or not frames[0].file or not frames[0].line:
            return "no source position is known for this frame"
        file, line = frames[0].file, frames[0].line
        text = await asyncio.to_thread(_excerpt, file, line, asked.source_roots)
        return f"{file}:{line}\n{text or '(the source is not below the sysroot or a debug directory)'}"

    return await asked.gdb(ask)


def _excerpt(file: str, line: int, roots: Sequence[Path]) -> str | None:
    """Lines around `line`. Debug information names any file it likes: only sources inside `roots` are read."""
    if Path(file).suffix not in _SOURCE_SUFFIXES:
        return None
    for root in roots:
        found = in_root(root, file)
        if found is not None and found.stat().st_size <= _SOURCE_BYTES:
            lines = found.read_text("utf-8", "replace").splitlines()
            first = max(0, line - 8)
            shown = enumerate(lines[first : line + 7], first + 1)
            return "\n".join(f"{'=>' if at == line else '  '} {at:5} {text[:300]}" for at, text in shown)
    return None


def _payload(answer: Answer) -> dict[str, Any]:
    if not answer.ok:
        raise ToolFailed(f"gdb: {re.sub(r'[^ -~]+', ' ', answer.message)[:300]}")
    return answer.payload


QUERIES: dict[str, QuerySpec] = {
    spec.name: spec
    for spec in (
        QuerySpec("backtrace", "Frames of a thread with arguments", BacktraceArguments, _backtrace),
        QuerySpec("frame", "One frame: function, file, line, module", FrameArguments, _frame),
        QuerySpec("locals", "Arguments and local variables of a frame", FrameArguments, _locals),
        QuerySpec("expression", "The value of a variable or member in a frame", ExpressionArguments, _expression),
        QuerySpec("memory", "Bytes at an address", MemoryArguments, _memory),
        QuerySpec("disassemble", "Instructions from a frame's program counter", FrameArguments, _disassemble),
        QuerySpec("registers", "Registers of a thread at the crash", ThreadArguments, _registers),
        QuerySpec("threads", "All threads with their innermost frame", NoArguments, _threads),
        QuerySpec("modules", "Mapped files with build-ids", NoArguments, _modules),
        QuerySpec("source", "Source lines around a frame, where the source is at hand", FrameArguments, _source),
    )
}
"""The whole set: nothing else can be asked."""
