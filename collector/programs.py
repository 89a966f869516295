"""Executables and libraries of crashed processes, copied once per build-id, so that later analysis has symbols.

They are taken through /proc/PID/root of a process of the same pod that still runs (the container's next instance has
the same image), else out of the layers of images that the container runtime has unpacked on the node. Such trees belong
to whoever made the image: no link in them may lead out, and a file counts only when a confined process finds the very
build-id in it that the core named. A core waits for them, so that each has a bound of time, of files and of bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import os
import re
import stat
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Literal

import structlog

from collector.pack import free_bytes
from collector.reduce import Program
from errors import ParamedicError
from incidents.collected import CollectedCore
from settings import GdbSettings
from tools.gdb.contained import Request, run

_LINKS = 40  # as the kernel's MAXSYMLINKS
_MAX_BYTES = 1 << 30
_CHUNK = 1 << 20
_SEEN = 64
_MAX_LAYERS = 2000
_MAX_PROGRAMS = 256
"""Of one core. Its notes may name thousands, and a process has a few hundred at most."""
_MAX_ALL_BYTES = 4 << 30
_BATCH = 16
_FRESH_SECONDS = 600.0
_DRAFT = ".part"
_SECONDS = 10.0
_MISSED_SECONDS = 120.0
_MAX_MISSED = 20_000
_BUILD_ID = re.compile(r"[0-9a-f]{2,128}")  # it becomes a file name

log = structlog.get_logger(__name__)


class _Spent(Exception):
    """No more is copied for this core."""


class _Budget:
    """What one core's programs may take: bytes, time (`until`, of time.monotonic), and room down to `reserve`."""

    def __init__(self, until: float, free: Callable[[], int], reserve: int) -> None:
        self._until, self._free, self._reserve = until, free, reserve
        self._left = _MAX_ALL_BYTES

    def spend(self, count: int) -> None:
        """Raises _Spent, and OSError where the disk cannot be looked at. Blocking."""
        self._left -= count
        if self._left < 0 or time.monotonic() > self._until:
            raise _Spent
        if count and self._reserve and self._free() - count < self._reserve:
            raise _Spent


class Programs:
    """`folder` keeps one copy a build-id, emptied once it was delivered: the name says that it need not be made again.

    `proc` is the node's /proc (with hostPID); `layers` are patterns of folders that hold one layer of an image each.
    `reserve` bytes stay free on the disk of `folder`; `seconds` are what one core waits at most.
    """

    def __init__(
        self,
        folder: Path,
        proc: Path,
        layers: Sequence[str],
        settings: GdbSettings,
        *,
        reserve: int = 0,
        seconds: float = _SECONDS,
        free: Callable[[Path], int] = free_bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._proc, self._layers, self._settings = folder, proc, layers, settings
        self._reserve, self._seconds, self._free, self._clock = reserve, seconds, free, clock
        self._missed: dict[tuple[str, str, str], float] = {}
        """What a pod's core named and the node did not have, and when that was: its next core will name it again."""
        self._turn = asyncio.Lock()
        self._drafts = itertools.count()

    def known(self, build_id: str) -> bool:
        return (self._folder / build_id).exists()

    def tidy(self, in_use: Collection[Path]) -> None:
        """Empty copies that nobody is to deliver any more; of a fresh one the core may not be queued yet. Blocking."""
        with contextlib.suppress(FileNotFoundError):
            for file in self._folder.iterdir():
                status = file.stat()
                settled = time.time() - status.st_mtime > _FRESH_SECONDS
                if settled and file not in in_use and file.suffix != _DRAFT and status.st_size:
                    os.truncate(file, 0)

    async def gather(self, record: CollectedCore) -> list[Program]:
        """Copies of what the core names and nobody has yet; fewer when the node does not have the files any more."""
        uid = record.origin.pod_uid or "" if record.origin else ""
        async with self._turn:
            wanted = self._wanted(record, uid)
            if not wanted:
                return []
            found: list[Program] = []
            unsure = set(wanted)
            try:
                async with asyncio.timeout(self._seconds):
                    await self._search(record, wanted, found, unsure)
            except (TimeoutError, _Spent):
                log.info("not all programs of a core were gathered", record=record.id, found=len(found))
            except OSError as error:
                log.warning("programs of a core could not be gathered", record=record.id, error=error.strerror)
            finally:
                await asyncio.to_thread(self._sweep)
            if len(self._missed) > _MAX_MISSED:
                self._missed.clear()
            now = self._clock()
            self._missed |= {(uid, path, build_id): now for path, build_id in wanted.items() if path not in unsure}
        return found

    def _wanted(self, record: CollectedCore, uid: str) -> dict[str, str]:
        """Build-ids by path, the executable first."""
        since = self._clock() - _MISSED_SECONDS
        named = sorted(record.build_ids.items(), key=lambda item: (item[0] != record.executable, item[0]))
        wanted = (
            (path, build_id)
            for path, build_id in named
            if _BUILD_ID.fullmatch(build_id)
            and not self.known(build_id)
            and self._missed.get((uid, path, build_id), float("-inf")) < since
        )
        return dict(itertools.islice(wanted, _MAX_PROGRAMS))

    async def _search(
        self, record: CollectedCore, wanted: dict[str, str], found: list[Program], unsure: set[str]
    ) -> None:
        """Move from `wanted` to `found`. `unsure` are paths that may be there all the same. Raises _Spent."""
        budget = _Budget(time.monotonic() + self._seconds, lambda: self._free(self._folder), self._reserve)
        if record.origin is None:  # of the host itself
            running, unpacked = [Path("/")], []
        else:
            uid = record.origin.pod_uid
            running = await asyncio.to_thread(self._roots, uid) if uid else []
            unpacked = await asyncio.to_thread(self._unpacked)
        await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        for root in [*running, *unpacked]:
            left = deque(wanted.items())
            while left:
                copies = await asyncio.to_thread(self._copies, root, left, budget, unsure)
                for path, draft in copies:
                    build_id = wanted[path]
                    if not self.known(build_id) and await self._is(draft, build_id):
                        target = self._folder / build_id
                        draft.rename(target)  # at once: what is kept is in `found` too
                        kind: Literal["executable", "library"] = "library"
                        if path == record.executable:
                            kind = "executable"
                        found.append(Program(target, build_id, kind))
                        del wanted[path]
                    else:
                        draft.unlink()
                    unsure.discard(path)
        unsure.clear()

    def _copies(
        self, root: Path, left: deque[tuple[str, str]], budget: _Budget, unsure: set[str]
    ) -> list[tuple[str, Path]]:
        """Drafts of the next files that `root` has; takes from `left` what was looked for. Blocking. Raises _Spent."""
        copies: list[tuple[str, Path]] = []
        while left and len(copies) < _BATCH:
            path, build_id = left.popleft()
            draft = self._folder / f"{next(self._drafts)}{_DRAFT}"
            budget.spend(0)
            try:
                with beneath(root, path) as source:
                    unsure.add(path)
                    _copy(source, draft, budget)
            except FileNotFoundError:  # the usual: a layer has few of the files
                unsure.discard(path)
                continue
            except OSError as error:
                log.info("a program of a crashed process could not be copied", build_id=build_id, error=error.strerror)
                unsure.discard(path)
                continue
            copies.append((path, draft))
        return copies

    async def _is(self, draft: Path, build_id: str) -> bool:
        """Whether the confined process finds this build-id in it."""
        try:
            return bool(json.loads(await run(Request("build_id", draft, self._settings))) == build_id)
        except ParamedicError as error:
            log.info(
                "a program of a crashed process could not be looked into", build_id=build_id, error=type(error).__name__
            )
            return False

    def _sweep(self) -> None:
        for draft in self._folder.glob(f"*{_DRAFT}"):
            draft.unlink(missing_ok=True)

    def _roots(self, pod_uid: str) -> list[Path]:
        """Root folders of the pod's running containers, each once."""
        roots: dict[tuple[int, int], Path] = {}
        spellings = pod_uid, pod_uid.replace("-", "_")
        try:
            entries = list(self._proc.iterdir())
        except OSError as error:
            log.warning("processes of the node cannot be seen", proc=str(self._proc), error=error.strerror)
            return []
        for entry in entries:
            if not entry.name.isdigit() or len(roots) >= _SEEN:
                continue
            try:
                if any(uid in (entry / "cgroup").read_text() for uid in spellings):
                    status = (entry / "root").stat()
                    roots.setdefault((status.st_dev, status.st_ino), entry / "root")
            except OSError:  # the process ended
                continue
        return list(roots.values())

    def _unpacked(self) -> list[Path]:
        """Layers on the node, the newest first."""
        found = [path for pattern in self._layers for path in Path("/").glob(pattern.lstrip("/"))]
        return sorted(found, key=_age)[:_MAX_LAYERS]


def _age(folder: Path) -> float:
    try:
        return -folder.stat().st_ctime
    except OSError:
        return 0.0


def _copy(source: int, target: Path, budget: _Budget) -> None:
    """Holes stay holes. Raises _Spent, OSError."""
    size = 0
    budget.spend(0)
    with target.open("wb") as file:
        while chunk := os.read(source, _CHUNK):
            size += len(chunk)
            if size > _MAX_BYTES:
                raise OSError(errno.EFBIG, f"it is larger than {_MAX_BYTES} bytes")
            budget.spend(len(chunk))
            if chunk.strip(b"\0"):
                file.write(chunk)
            else:
                file.seek(len(chunk), os.SEEK_CUR)
        file.truncate(size)


@contextmanager
def beneath(root: Path, path: str) -> Iterator[int]:
    """The regular file `path` as a process with this root sees it, opened for reading. Raises OSError.

    Each step is opened by itself and links are followed by hand, so that whoever owns the tree cannot lead out of it,
    whatever is changed meanwhile (as openat2's RESOLVE_IN_ROOT, which Python does not offer).
    """
    parts = deque(PurePosixPath(path).parts[1:])
    folders = [os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
    links = 0
    try:
        while parts:
            part = parts.popleft()
            if part == "..":
                if len(folders) > 1:
                    os.close(folders.pop())
                continue
            try:
                link = os.readlink(part, dir_fd=folders[-1])
            except OSError:  # no link: it is opened as what it is, and refused if it became one
                flags = os.O_NOFOLLOW | os.O_CLOEXEC
                if parts:
                    folders.append(os.open(part, flags | os.O_PATH | os.O_DIRECTORY, dir_fd=folders[-1]))
                    continue
                handle = os.open(part, flags | os.O_RDONLY | os.O_NONBLOCK, dir_fd=folders[-1])
                try:
                    if not stat.S_ISREG(os.fstat(handle).st_mode):
                        raise OSError("it is no regular file") from None
                    yield handle
                finally:
                    os.close(handle)
                return
            links += 1
            if links > _LINKS:
                raise OSError("too many links")
            if link.startswith("/"):
                while len(folders) > 1:
                    os.close(folders.pop())
            parts.extendleft(reversed([step for step in link.split("/") if step not in ("", ".")]))
        raise OSError("it is no file")
    finally:
        for folder in folders:
            os.close(folder)
