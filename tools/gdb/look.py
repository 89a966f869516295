"""A core read without a debugger, as far as it tells which crash it is: notes, build-ids, stacks, signatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
    """A diagnosis whose report has addresses, build-ids and signatures, but nothing that takes gdb or the whole file.

    Where the stack could not be walked, the whole file is hashed and searched: then only that tells one crash from
    another. Raises UnusableCore, ToolTimeout, ToolFailed.
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
    )
    try:
        for effort in ("identity", "notes"):
            answer = await run(replace(request, more={"effort": effort, "soft_errors": []}))
            found = _Answer.model_validate_json(answer).diagnosis
            if found.crash and found.crash.signatures and found.crash.signatures.address_sig:
                break
        return found
    except ValidationError as error:
        raise WorkerDied(f"the worker's answer is no diagnosis ({error.error_count()} errors)") from None
