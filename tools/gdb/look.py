"""A core read without a debugger: notes, memory and our own unwinding. Costs a tenth of the whole analysis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from incidents.models import Diagnosis
from settings import GdbSettings


class _Answer(BaseModel):
    """What the confined process answers; texts beyond the evidence's excerpts are not needed."""

    model_config = ConfigDict(extra="ignore")

    diagnosis: Diagnosis


async def look_at_core(
    core: Path,
    *,
    executable: Path | None,
    settings: GdbSettings,
    sysroot: Path | None = None,
    debug_dirs: Sequence[Path] = (),
    executable_dirs: Sequence[Path] = (),
) -> Diagnosis:
    """What `analyze_core` says before it asks gdb: its report has no names, but addresses, build-ids and signatures.

    Raises UnusableCore, ToolTimeout, ToolFailed.
    """
    from tools.gdb.contained import Request, WorkerDied, run

    request = Request(
        "analyze",
        core,
        settings,
        executable=executable,
        sysroot=sysroot,
        debug_dirs=debug_dirs,
        executable_dirs=executable_dirs,
        more={"effort": "notes", "soft_errors": []},
    )
    try:
        return _Answer.model_validate_json(await run(request)).diagnosis
    except ValidationError as error:
        raise WorkerDied(f"the worker's answer is no diagnosis ({error.error_count()} errors)") from None
