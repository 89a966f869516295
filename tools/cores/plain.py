"""The plain file behind a core that may be packed, for as long as it is needed."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from errors import ToolFailed
from tools.cores.sparse import Limits
from tools.cores.streams import looks_packed

if TYPE_CHECKING:  # reducing a core needs no models, and they take longer to import than it does
    from incidents.models import Diagnosis

_SECONDS = 1800.0


@dataclass(frozen=True)
class Unpacked:
    """`core` is the given file itself when that was not packed."""

    core: Path
    compression: str | None = None
    """Outermost first, as file names say it: `zstd`, `tar+gzip`, `zip+lz4`; None for a plain file."""
    programs: Path | None = None
    """A folder with the executables and libraries that were beside the core, under numbers: build-ids tell them."""
    soft_errors: tuple[str, ...] = ()

    @property
    def executable_dirs(self) -> list[Path]:
        """Where else to look for the executable."""
        return [self.programs] if self.programs else []

    def described(self, diagnosis: Diagnosis) -> Diagnosis:
        """`diagnosis` of the core, which also says what it was packed with and what was lost in it."""
        crash = diagnosis.crash
        if crash is None or self.compression is None:
            return diagnosis
        lost = list(self.soft_errors)
        core = crash.core.model_copy(update={"compression": self.compression})
        crash = crash.model_copy(update={"core": core, "soft_errors": [*crash.soft_errors, *lost]})
        return diagnosis.model_copy(update={"crash": crash, "unseen": [*diagnosis.unseen, *lost]})


@asynccontextmanager
async def plain_core(core: Path, limits: Limits, parent: Path | None = None) -> AsyncIterator[Unpacked]:
    """`core`, unpacked into a private folder of `parent` (of the system's temporary folder without) when it is packed.

    The folder is removed afterwards. Raises as `tools.cores.unpack.unpack` does.
    """
    if not await asyncio.to_thread(looks_packed, core):
        yield Unpacked(core)
        return
    folder = await asyncio.to_thread(_private_folder, parent)
    try:
        yield await _unpacked(core, folder, limits)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _unpacked(core: Path, folder: Path, limits: Limits) -> Unpacked:
    """`tools.cores.unpack.unpack` in a confined process; of what that says, only names inside `folder` are followed."""
    from pydantic import TypeAdapter, ValidationError

    from settings import GdbSettings
    from tools.gdb.contained import Request, WorkerDied, run

    settings = GdbSettings(deadline=_SECONDS, cpu_seconds=int(_SECONDS))
    more = {"limits": asdict(limits)}
    request = Request("unpack", core, settings, writable=folder, file_bytes=limits.max_bytes, more=more)
    try:
        found = TypeAdapter(_Answer).validate_json(await run(request))
    except ValidationError:
        raise WorkerDied("what was unpacked cannot be read") from None
    if found.core is None:
        return Unpacked(core)
    paths = [await asyncio.to_thread(_inside, folder, name) for name in (found.core, found.programs) if name]
    programs = paths[1] if len(paths) > 1 else None
    return Unpacked(paths[0], found.compression, programs, found.soft_errors)


@dataclass(frozen=True)
class _Answer:
    core: str | None
    compression: str | None
    programs: str | None
    soft_errors: tuple[str, ...]


def _inside(folder: Path, name: str) -> Path:
    """`name` in `folder`, when it is really there: no link leads out."""
    path = folder / name
    if path.resolve() != folder.resolve() / name or not path.exists():
        raise ToolFailed("what was unpacked is not where it should be")
    return path


def _private_folder(parent: Path | None) -> Path:
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="unpack-", dir=parent))
