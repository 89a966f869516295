"""What a core is and whose: its hash, what its notes say (read by a confined process), and its first value."""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from diagnosis.crashes.identity import identity_of
from diagnosis.crashes.value import value_score
from errors import ParamedicError
from settings import GdbSettings
from tools.gdb.look import look_at_core

_CHUNK = 4 << 20


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


def sha256_of(path: Path) -> str:
    """The hash of a file's bytes, holes as zeros. Blocking; a whole core is never in memory or left in the cache."""
    digest = hashlib.sha256()
    hole = bytes(_CHUNK)
    with path.open("rb", buffering=0) as file:
        handle, size, at = file.fileno(), os.fstat(file.fileno()).st_size, 0
        while at < size:
            data = _next_data(handle, at, size)
            while at < data:  # hashing zeros is needed, reading them is not
                count = min(_CHUNK, data - at)
                digest.update(memoryview(hole)[:count])
                at += count
            if at >= size:
                break
            chunk = os.pread(handle, min(_CHUNK, size - at), at)
            if not chunk:
                break
            digest.update(chunk)
            os.posix_fadvise(handle, at, len(chunk), os.POSIX_FADV_DONTNEED)
            at += len(chunk)
    return digest.hexdigest()


def _next_data(handle: int, at: int, size: int) -> int:
    try:
        return os.lseek(handle, at, os.SEEK_DATA) // mmap.PAGESIZE * mmap.PAGESIZE if at < size else size
    except OSError as error:  # ENXIO: a hole up to the end; else the file system knows no holes
        return size if error.errno == 6 else at


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
