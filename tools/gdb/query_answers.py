"""How each typed question is answered: by commands to gdb that hold numbers and checked names only, or by ourselves."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnosis.crashes.view import render_frames
from errors import InvalidInput, ToolFailed
from tools.gdb.frames import arguments_of, disassembly_of, frames_of, number, variables_of
from tools.gdb.opened import OpenedCore
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
from tools.gdb.session import Answer, GdbSession
from tools.gdb.source_lines import excerpt


@dataclass(frozen=True)
class Asked:
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


async def backtrace(asked: Asked, arguments: BacktraceArguments) -> str:
    async def ask(session: GdbSession, ids: dict[int, int], deadline: float) -> str:
        at = f"--thread {asked.thread(arguments, ids)}"
        span = f"0 {arguments.frames - 1}"
        commands = [f"-stack-list-frames {at} {span}", f"-stack-list-arguments {at} --simple-values {span}"]
        stack, values = await session.run(commands, deadline)
        frames = frames_of(_payload(stack), asked.opened.modules)
        given = arguments_of(values.payload)
        return render_frames([frame.model_copy(update={"args": given.get(frame.frame, [])}) for frame in frames])

    return await asked.gdb(ask)


async def frame(asked: Asked, arguments: FrameArguments) -> str:
    async def ask(session: GdbSession, ids: dict[int, int], deadline: float) -> str:
        number_of = arguments.frame
        command = f"-stack-list-frames --thread {asked.thread(arguments, ids)} {number_of} {number_of}"
        (answer,) = await session.run([command], deadline)
        return render_frames(frames_of(_payload(answer), asked.opened.modules))

    return await asked.gdb(ask)


async def local_variables(asked: Asked, arguments: FrameArguments) -> str:
    async def ask(session: GdbSession, ids: dict[int, int], deadline: float) -> str:
        at = f"--thread {asked.thread(arguments, ids)} --frame {arguments.frame}"
        commands = [f"-stack-list-variables {at} {kind}" for kind in ("--simple-values", "--all-values")]
        simple, full = await session.run(commands, deadline)
        given, local = variables_of(_payload(simple), _payload(full))
        lines = [f"{item.name}: {item.type or '?'} = {item.value}" for item in (*given, *local)]
        return "\n".join(lines) or "no variables are known in this frame"

    return await asked.gdb(ask)


async def frame_arguments(asked: Asked, arguments: FrameArguments) -> str:
    async def ask(session: GdbSession, ids: dict[int, int], deadline: float) -> str:
        at = f"--thread {asked.thread(arguments, ids)}"
        span = f"{arguments.frame} {arguments.frame}"
        (answer,) = await session.run([f"-stack-list-arguments {at} --all-values {span}"], deadline)
        given = arguments_of(_payload(answer)).get(arguments.frame, [])
        return "\n".join(f"{item.name} = {item.value}" for item in given) or "no arguments are known of this frame"

    return await asked.gdb(ask)


async def type_layout(asked: Asked, arguments: TypeArguments) -> str:
    async def ask(session: GdbSession, ids: dict[int, int], deadline: float) -> str:
        at = f"--thread {asked.thread(arguments, ids)} --frame {arguments.frame}"
        command = f'-interpreter-exec {at} console "ptype /o {arguments.type}"'
        (answer,) = await session.run([command], deadline)
        _payload(answer)
        return answer.console.rstrip()

    return await asked.gdb(ask)


async def symbol(asked: Asked, arguments: SymbolArguments) -> str:
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


async def expression(asked: Asked, arguments: ExpressionArguments) -> str:
    async def ask(session: GdbSession, ids: dict[int, int], deadline: float) -> str:
        at = f"--thread {asked.thread(arguments, ids)} --frame {arguments.frame}"
        (answer,) = await session.run([f"-data-evaluate-expression {at} {arguments.expression}"], deadline)
        return str(_payload(answer).get("value", ""))

    return await asked.gdb(ask)


async def disassembly(asked: Asked, arguments: FrameArguments) -> str:
    async def ask(session: GdbSession, ids: dict[int, int], deadline: float) -> str:
        at = f"--thread {asked.thread(arguments, ids)} --frame {arguments.frame}"
        commands = [
            f"-data-evaluate-expression {at} --language c (long)$pc",
            f"-data-disassemble {at} -s $pc -e $pc+96 -- 0",
        ]
        current, code = await session.run(commands, deadline)
        pc = number(_payload(current).get("value")) or 0
        lines = disassembly_of(_payload(code), pc)
        return "\n".join(f"{'=> ' if line.is_pc else '   '}{line.address} {line.text}" for line in lines)

    return await asked.gdb(ask)


async def registers(asked: Asked, arguments: ThreadArguments) -> str:
    core = asked.opened.core
    wanted = core.crashed.tid if arguments.thread is None else arguments.thread
    status = next((thread for thread in core.threads if thread.tid == wanted), None)
    if status is None:
        raise InvalidInput(f"the core has no thread {wanted}")
    return "\n".join(f"{name} = {hex(value)}" for name, value in status.registers.items())


async def threads(asked: Asked, arguments: NoArguments) -> str:
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


async def modules(asked: Asked, arguments: NoArguments) -> str:
    matches = asked.opened.resolved.matches
    return "\n".join(
        f"{hex(module.base)}-{hex(module.end)} {module.path!a} build-id {module.build_id} "
        f"local file: {matches.get(module.path)}"
        for module in asked.opened.modules.all
    )


async def memory(asked: Asked, arguments: MemoryArguments) -> str:
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


async def source(asked: Asked, arguments: FrameArguments) -> str:
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
