"""Read-only questions about a core for a model: typed, checked, and rendered to gdb commands by us.

No text of a caller reaches gdb: see query_arguments.py for what can be said.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from diagnosis.crashes.view import render_frames
from errors import InvalidInput, ToolFailed
from settings import GdbSettings
from tools.gdb.frames import arguments_of, disassembly_of, frames_of, number, variables_of
from tools.gdb.opened import OpenedCore, opened_core
from tools.gdb.plan import load
from tools.gdb.query_arguments import (
    BacktraceArguments,
    ExpressionArguments,
    FrameArguments,
    MemoryArguments,
    NoArguments,
    SymbolArguments,
    ThreadArguments,
    TypeArguments,
)
from tools.gdb.sandbox import launch, private_folder
from tools.gdb.session import OPTIONS, Answer, GdbSession, open_session
from tools.gdb.source_lines import excerpt

ANSWER_CHARS = 8000
"""An answer is cut here."""

_SECONDS = 60.0


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
    executable_dirs: Sequence[Path] = (),
) -> str:
    """The answer to query `name`, at most ANSWER_CHARS characters of outside text.

    It is found in a confined process of its own (see worker.py).

    Raises InvalidInput for an unknown query or wrong arguments, UnusableCore, ToolMissing, ToolFailed.
    """
    from tools.gdb.contained import Request, run

    _validated(name, args)
    request = Request(
        "query",
        core,
        settings,
        executable=executable,
        sysroot=sysroot,
        debug_dirs=debug_dirs,
        executable_dirs=executable_dirs,
        more={"name": name, "values": args},
    )
    text = str(json.loads(await run(request)))
    text = "".join(char if char.isprintable() or char == "\n" else "." for char in text[: ANSWER_CHARS + 1])
    return text if len(text) <= ANSWER_CHARS else text[:ANSWER_CHARS] + "\n… (cut)"


def _validated(name: str, args: dict[str, object]) -> tuple[QuerySpec, BaseModel]:
    spec = QUERIES.get(name)
    if spec is None:
        raise InvalidInput(f"there is no query {name[:50]!a}; there are {', '.join(QUERIES)}")
    try:
        return spec, spec.arguments.model_validate(args)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


async def answer_query(
    name: str,
    args: dict[str, object],
    *,
    core: Path,
    executable: Path | None,
    settings: GdbSettings,
    sysroot: Path | None,
    debug_dirs: Sequence[Path],
    executable_dirs: Sequence[Path],
    fetched: Path | None,
) -> str:
    """What `run_query` has done, inside the confined process."""
    spec, arguments = _validated(name, args)
    async with opened_core(
        core,
        executable=executable,
        sysroot=sysroot,
        debug_dirs=debug_dirs,
        executable_dirs=executable_dirs,
        fetched=fetched,
    ) as opened:

        async def with_gdb(ask: Callable[[GdbSession, dict[int, int], float], Awaitable[str]]) -> str:
            deadline = asyncio.get_running_loop().time() + min(_SECONDS, settings.deadline)
            async with private_folder() as folder:
                start = await launch(opened.case, settings, folder, OPTIONS)
                async with open_session(start, settings.output_bytes) as session:
                    ids = await load(session, opened, settings.max_frames, deadline, printers=True)
                    return await ask(session, ids, deadline)

        roots = [folder for folder in (sysroot, *debug_dirs) if folder is not None]
        text = await spec.answer(_Asked(opened, with_gdb, roots), arguments)
    return text[: ANSWER_CHARS + 1]


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


async def _arguments(asked: _Asked, arguments: FrameArguments) -> str:
    async def ask(session: GdbSession, ids: dict[int, int], deadline: float) -> str:
        at = f"--thread {asked.thread(arguments, ids)}"
        span = f"{arguments.frame} {arguments.frame}"
        (answer,) = await session.run([f"-stack-list-arguments {at} --all-values {span}"], deadline)
        given = arguments_of(_payload(answer)).get(arguments.frame, [])
        return "\n".join(f"{item.name} = {item.value}" for item in given) or "no arguments are known of this frame"

    return await asked.gdb(ask)


async def _type(asked: _Asked, arguments: TypeArguments) -> str:
    async def ask(session: GdbSession, ids: dict[int, int], deadline: float) -> str:
        at = f"--thread {asked.thread(arguments, ids)} --frame {arguments.frame}"
        command = f'-interpreter-exec {at} console "ptype /o {arguments.type}"'
        (answer,) = await session.run([command], deadline)
        _payload(answer)
        return answer.console.rstrip()

    return await asked.gdb(ask)


async def _symbol(asked: _Asked, arguments: SymbolArguments) -> str:
    """What is at an address: module and mapping by ourselves, names by gdb."""
    address = int(arguments.address, 16)
    core, module = asked.opened.core, asked.opened.modules.at(address)
    segment = core.memory.segment(address)
    if segment is None and module is None:
        return f"nothing is mapped at {arguments.address}"
    lines = []
    if module is not None:
        lines.append(f"{module.path!a} + {hex(address - module.base)}")
    if segment is not None:
        rights = "".join(letter for letter, bit in zip("rwx", (4, 2, 1), strict=True) if segment.flags & bit)
        lines.append(f"mapping {hex(segment.vaddr)}-{hex(segment.end)} {rights or 'no access'}")

    async def ask(session: GdbSession, ids: dict[int, int], deadline: float) -> str:
        commands = [f'-interpreter-exec console "info {what}{hex(address)}"' for what in ("symbol ", "line *")]
        answers = await session.run(commands, deadline)
        return "\n".join(answer.console.strip() for answer in answers if answer.ok)

    return "\n".join([*lines, *filter(None, [await asked.gdb(ask)])])


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
        text = await asyncio.to_thread(excerpt, file, line, asked.source_roots)
        return f"{file}:{line}\n{text or '(the source is not below the sysroot or a debug directory)'}"

    return await asked.gdb(ask)


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
        QuerySpec("arguments", "Arguments of a frame, whole structures included", FrameArguments, _arguments),
        QuerySpec("type", "Layout of a type: members with offsets and sizes", TypeArguments, _type),
        QuerySpec("symbol", "The symbol, line, module and mapping at an address", SymbolArguments, _symbol),
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
