"""What a core is and whose: its hash and seal, what its notes say (read by a confined process), and its first value."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from collector.pieces import pieces, zeros
from collector.seal import Seal
from diagnosis.crashes.identity import identity_of
from diagnosis.crashes.value import value_score
from errors import ParamedicError
from settings import GdbSettings
from tools.gdb.look import look_at_core


@dataclass(frozen=True)
class Facts:
    """What the core itself says; all of it null when it could not be read, and `error` why."""

    pid: int | None = None
    signal: int | None = None
    executable: str | None = None
    build_ids: dict[str, str] = field(default_factory=dict)
    signature: str | None = None
    identity: str | None = None
    value: float | None = None
    error: str | None = None


def fingerprint(path: Path) -> tuple[str, str]:
    """The sha256 of a file's bytes, holes as zeros, and the seal by which they are known again. Blocking.

    Raises OSError, and ToolFailed when the file became shorter.
    """
    digest, seal = hashlib.sha256(), Seal.fresh()
    with path.open("rb", buffering=0) as file:
        for piece in pieces(file.fileno()):
            seal.add(piece)
            for part in zeros(piece) if isinstance(piece, int) else (piece,):  # zeros need not be read to be hashed
                digest.update(part)
    return digest.hexdigest(), seal.text()


async def facts_of(core: Path, settings: GdbSettings, earlier: Callable[[str], int]) -> Facts:
    """Read the core's notes and stacks in a confined process, without a debugger. Never raises because of the core.

    `earlier` counts the cores of a signature that were seen before.
    """
    try:
        report = (await look_at_core(core, executable=None, settings=settings)).crash
    except ParamedicError as error:
        return Facts(error=type(error).__name__)  # its text may quote the file
    if report is None:
        return Facts(error="no report")
    signature = report.signatures.address_sig if report.signatures else None
    known = await asyncio.to_thread(earlier, signature) if signature else 0
    return Facts(
        pid=report.process.pid,
        signal=report.crash_info.si_signo,
        executable=report.process.exe,
        build_ids={module.filename: module.build_id for module in report.modules if module.build_id},
        signature=signature,
        identity=identity_of(report),
        value=value_score(report, earlier=known).total,
    )
