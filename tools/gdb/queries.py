"""Read-only questions about a core for a model: typed, checked, and rendered to gdb commands by us.

No text of a caller reaches gdb: see query_arguments.py for what can be said.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from diagnosis.crashes.process_secrets import ProcessSecrets
from errors import InvalidInput
from settings import GdbSettings
from tools.gdb import query_answers as answers
from tools.gdb.opened import opened_core
from tools.gdb.plan import load
from tools.gdb.query_answers import Asked
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
from tools.gdb.session import OPTIONS, GdbSession, open_session

ANSWER_CHARS = 8000
"""An answer is cut here."""

_SECONDS = 60.0


@dataclass(frozen=True)
class QuerySpec:
    """One question: what it answers and the model of its arguments (its JSON schema describes them to a model)."""

    name: str
    description: str
    arguments: type[BaseModel]
    answer: Callable[[Asked, Any], Awaitable[str]]

    def schema(self) -> dict[str, Any]:
        return self.arguments.model_json_schema()


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
        text = await spec.answer(Asked(opened, with_gdb, roots), arguments)
        text = (await asyncio.to_thread(ProcessSecrets.of, opened.core)).hide(text)
    return text[: ANSWER_CHARS + 1]


QUERIES: dict[str, QuerySpec] = {
    spec.name: spec
    for spec in (
        QuerySpec("backtrace", "Frames of a thread with arguments", BacktraceArguments, answers.backtrace),
        QuerySpec("frame", "One frame: function, file, line, module", FrameArguments, answers.frame),
        QuerySpec("locals", "Arguments and local variables of a frame", FrameArguments, answers.local_variables),
        QuerySpec(
            "arguments", "Arguments of a frame, whole structures included", FrameArguments, answers.frame_arguments
        ),
        QuerySpec("type", "Layout of a type: members with offsets and sizes", TypeArguments, answers.type_layout),
        QuerySpec("symbol", "The symbol, line, module and mapping at an address", SymbolArguments, answers.symbol),
        QuerySpec(
            "expression", "The value of a variable or member in a frame", ExpressionArguments, answers.expression
        ),
        QuerySpec("memory", "Bytes at an address", MemoryArguments, answers.memory),
        QuerySpec("disassemble", "Instructions from a frame's program counter", FrameArguments, answers.disassembly),
        QuerySpec("registers", "Registers of a thread at the crash", ThreadArguments, answers.registers),
        QuerySpec("threads", "All threads with their innermost frame", NoArguments, answers.threads),
        QuerySpec("modules", "Mapped files with build-ids", NoArguments, answers.modules),
        QuerySpec("source", "Source lines around a frame, where the source is at hand", FrameArguments, answers.source),
    )
}
"""The whole set: nothing else can be asked."""
