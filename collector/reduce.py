"""What is stored of a core, prepared as files: the reduced core first, the whole one when the policy asks, programs.

The reduced core is made by a process of its own that takes its rights away before it reads the core.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from collector.local_file import LocalFile, opened
from collector.pack import pack
from errors import Conflict, ToolFailed, ToolTimeout, UnusableCore
from incidents.collected import CollectedCore, Completeness
from settings import ShippingSettings
from tools.objectstore.encryption import Keyring
from tools.objectstore.keys import build_key, core_key

_ROOT = Path(__file__).parents[1]
_SHRINK = [sys.executable, "-c", "from cli import main; main()", "core", "shrink"]
_LEVEL = 3  # of zstd, for small files
_WHOLE_LEVEL = 1  # a quarter more CPU at 3 gains two percent
_MAX_STDERR = 4096
_NOTHING_TO_STORE = (Completeness.NOT_A_CORE, Completeness.MISSING)

log = structlog.get_logger(__name__)

Kind = Literal["minimal", "full", "executable", "library"]


@dataclass(frozen=True)
class Program:
    """A copy of an executable or library of the crashed process, which stays where it is."""

    path: Path
    build_id: str
    kind: Literal["executable", "library"]


@dataclass(frozen=True)
class Staged:
    """A file that is ready to be stored under `key`; `size` and `sha256` of its bytes."""

    kind: Kind
    path: Path
    key: str
    size: int
    sha256: str
    encrypted: bool
    build_id: str | None = None


class Reducer:
    """`folder` is a private one on the node's disk; `prefix` is what every key begins with."""

    def __init__(self, settings: ShippingSettings, folder: Path, prefix: str, ring: Keyring | None) -> None:
        self._settings, self._folder = settings, folder
        self._prefix, self._ring = prefix, ring

    async def stage(self, record: CollectedCore, file: LocalFile, *, whole: bool) -> tuple[list[Staged], str | None]:
        """The files to store of a core, anew, and why the whole core is not among them though it should be.

        The whole core is taken when it is asked for, and where it cannot be reduced. Raises NotFound or Conflict (the
        core is gone or another file), DiskNearlyFull, ToolFailed.
        """
        if record.completeness in _NOTHING_TO_STORE:
            return [], None
        place = await asyncio.to_thread(self.empty, record)
        with opened(file) as handle:
            try:
                found = [await self._minimal(record, handle, place)]
            except (UnusableCore, ToolTimeout) as error:
                log.warning("the core is stored whole", record=record.id, reason=str(error))
                found, whole = [], True
            if not whole:
                return found, None
            try:
                return [*found, await self._full(record, file, handle, place)], None
            except ToolFailed as error:
                if not found:
                    raise
                return found, f"only the reduced core is stored: {error}"

    async def stage_reduced(self, record: CollectedCore, file: LocalFile) -> Staged:
        """The reduced core only, even where the disk is nearly full. Raises as `stage`, and UnusableCore."""
        place = await asyncio.to_thread(self.empty, record)
        with opened(file) as handle:
            return await self._minimal(record, handle, place, reserve=0)

    async def stage_program(self, program: Program, place: Path) -> Staged:
        """The program, in the folder `place`. Raises as `stage` does; InvalidInput when it has no possible build-id."""
        await asyncio.to_thread(place.mkdir, mode=0o700, parents=True, exist_ok=True)
        with opened(await asyncio.to_thread(LocalFile.at, program.path)) as handle:
            target = place / f"program-{len(await asyncio.to_thread(os.listdir, place))}"
            packed = await asyncio.to_thread(pack, handle, target, level=_LEVEL, ring=self._ring, reserve=self._reserve)
        key = build_key(program.build_id, self._prefix, packed.plain_sha256 or "", self._ring is not None)
        return Staged(program.kind, target, key, packed.size, packed.sha256, self._ring is not None, program.build_id)

    def empty(self, record: CollectedCore) -> Path:
        """The record's own folder, without what a killed run left there. Blocking."""
        place = self.place(record)
        self.forget(record)
        place.mkdir(mode=0o700, parents=True)
        return place

    def forget(self, record: CollectedCore) -> None:
        """Remove what was prepared for the record. Blocking."""
        shutil.rmtree(self.place(record), ignore_errors=True)

    def place(self, record: CollectedCore) -> Path:
        """Where the record's files are prepared."""
        return self._folder / record.id

    @property
    def _reserve(self) -> int:
        """Half of what is held free: what is prepared for the store may use it, and frees more than it takes."""
        return self._settings.disk_reserve_bytes // 2

    async def _minimal(self, record: CollectedCore, handle: int, place: Path, *, reserve: int | None = None) -> Staged:
        plain = place / "minimal.core"
        await self._shrink(handle, plain)
        reduced = os.open(plain, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            target = place / "minimal.zst"
            left = self._reserve if reserve is None else reserve
            packed = await asyncio.to_thread(pack, reduced, target, level=_LEVEL, ring=self._ring, reserve=left)
        finally:
            os.close(reduced)
            await asyncio.to_thread(plain.unlink)
        return self._staged("minimal", record, target, packed.size, packed.sha256, packed.plain_sha256 or "")

    async def _full(self, record: CollectedCore, file: LocalFile, handle: int, place: Path) -> Staged:
        """Raises Conflict when its bytes are not those that the record is about: its time of change can be set back.

        What was collected before there were seals is hashed again.
        """
        target = place / "full.zst"
        packed = await asyncio.to_thread(
            pack,
            handle,
            target,
            level=_WHOLE_LEVEL,
            ring=self._ring,
            reserve=self._reserve,
            seal=file.seal if record.sha256 is not None else None,
        )
        plain = record.sha256 if packed.sealed else packed.plain_sha256
        if plain is None or plain != (record.sha256 or plain):
            raise Conflict("the core's file was written to after it was collected")
        return self._staged("full", record, target, packed.size, packed.sha256, plain)

    def _staged(self, kind: Kind, record: CollectedCore, path: Path, size: int, sha256: str, plain: str) -> Staged:
        encrypted = self._ring is not None
        return Staged(kind, path, core_key(record, self._prefix, plain, encrypted), size, sha256, encrypted)

    async def _shrink(self, handle: int, target: Path) -> None:
        """`paramedic core shrink`. Raises UnusableCore (it cannot be reduced), ToolTimeout, ToolFailed (the disk)."""
        process = await asyncio.create_subprocess_exec(
            *_SHRINK,
            f"/proc/self/fd/{handle}",
            str(target),
            pass_fds=(handle,),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(_ROOT), "TMPDIR": str(target.parent)},
            start_new_session=True,
        )
        assert process.stderr is not None
        try:
            async with asyncio.timeout(self._settings.reduce_seconds):
                said = await process.stderr.read(_MAX_STDERR)
                while await process.stderr.read(_MAX_STDERR):
                    pass
                code = await process.wait()
        except TimeoutError:
            raise ToolTimeout(f"the core could not be reduced in {self._settings.reduce_seconds:g} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if code != 0:
            text = "".join(c if c.isprintable() else " " for c in said.decode("utf-8", "replace"))[:300].strip()
            raise UnusableCore(f"the core could not be reduced: {text.removeprefix('paramedic: ') or f'exit {code}'}")


def wants_full(record: CollectedCore, settings: ShippingSettings, *, novel: bool) -> bool:
    """Whether the whole core is stored beside the reduced one. `novel`: no core of this crash was stored from here."""
    if settings.full_core != "auto":
        return settings.full_core == "always"
    valuable = record.value is not None and record.value >= settings.value_threshold
    return novel or valuable or record.completeness is not Completeness.COMPLETE


def group_of(record: CollectedCore) -> str:
    """What novelty is judged by: the signature, else signal, executable and its build-id."""
    if record.signature:
        return record.signature
    build_id = record.build_ids.get(record.executable or "", "")
    return f"signal {record.signal} in {record.executable} {build_id}"
