"""The allow-listed gdb queries on one open core, as tools for a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from agents.tool_loop import Reading, ReadTool
from diagnosis.redaction import redact
from incidents.models import EvidenceKind
from settings import GdbSettings


def core_tools(
    *,
    core: Path,
    executable: Path | None,
    settings: GdbSettings,
    sysroot: Path | None = None,
    debug_dirs: Sequence[Path] = (),
    executable_dirs: Sequence[Path] = (),
) -> list[ReadTool]:
    """The allow-listed gdb queries on one core. No text of the model reaches gdb unvalidated."""
    from tools.gdb.queries import QUERIES, run_query

    def tool(name: str) -> ReadTool:
        query = QUERIES[name]

        async def run(args: BaseModel) -> Reading:
            text = await run_query(
                name,
                args.model_dump(exclude_none=True),
                core=core,
                executable=executable,
                settings=settings,
                sysroot=sysroot,
                debug_dirs=debug_dirs,
                executable_dirs=executable_dirs,
            )
            return Reading(
                redact(text), f"gdb {core.name}: {name} {args.model_dump_json(exclude_none=True)}", EvidenceKind.GDB
            )

        return ReadTool(f"gdb_{name}", f"{query.description}.", query.arguments, run)

    # bytes of memory cannot be redacted: a secret in a dump has no name and no shape
    return [tool(name) for name in QUERIES if name != "memory"]
