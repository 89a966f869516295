"""Executables and libraries of crashed processes, copied once per build-id, so that later analysis has symbols.

They are taken through /proc/PID/root of a process of the same pod that still runs (the container's next instance has
the same image), else out of the layers of images that the container runtime has unpacked on the node. Such trees belong
to whoever made the image: no link in them may lead out, and a file counts only when a confined process finds the very
build-id in it that the core named.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import stat
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import structlog

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
_BUILD_ID = re.compile(r"[0-9a-f]{2,128}")  # it becomes a file name

log = structlog.get_logger(__name__)


class Programs:
    """`folder` keeps one copy a build-id, emptied once it was delivered: the name says that it need not be made again.

    `proc` is the node's /proc (with hostPID); `layers` are patterns of folders that hold one layer of an image each.
    """

    def __init__(self, folder: Path, proc: Path, layers: Sequence[str], settings: GdbSettings) -> None:
        self._folder, self._proc, self._layers, self._settings = folder, proc, layers, settings

    def known(self, build_id: str) -> bool:
        return (self._folder / build_id).exists()

    def tidy(self, in_use: Collection[Path]) -> None:
        """Empty the copies that nobody is to deliver any more. Blocking."""
        with contextlib.suppress(FileNotFoundError):
            for file in self._folder.iterdir():
                if file not in in_use and file.stat().st_size:
                    os.truncate(file, 0)

    async def gather(self, record: CollectedCore) -> list[Program]:
        """Copies of what the core names and nobody has yet; fewer when the node does not have the files any more."""
        named = {path: build_id for path, build_id in record.build_ids.items() if _BUILD_ID.fullmatch(build_id)}
        wanted = {path: build_id for path, build_id in named.items() if not self.known(build_id)}
        if not wanted:
            return []
        found: list[Program] = []
        if record.origin is None:  # of the host itself
            running, unpacked = [Path("/")], []
        else:
            uid = record.origin.pod_uid
            running = await asyncio.to_thread(self._roots, uid) if uid else []
            unpacked = await asyncio.to_thread(self._unpacked)
        for root in [*running, *unpacked]:
            for path, build_id in sorted(wanted.items()):
                if (copy := await self._copy(root, path, build_id)) is not None:
                    found.append(Program(copy, build_id, "executable" if path == record.executable else "library"))
                    del wanted[path]
        return found

    def _roots(self, pod_uid: str) -> list[Path]:
        """Root folders of the pod's running containers, each once."""
        roots: dict[tuple[int, int], Path] = {}
        spellings = pod_uid, pod_uid.replace("-", "_")
        for entry in self._proc.iterdir():
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

    async def _copy(self, root: Path, path: str, build_id: str) -> Path | None:
        draft, target = self._folder / f"{build_id}.part", self._folder / build_id
        try:
            await asyncio.to_thread(_copied, root, path, draft)
            request = Request("build_id", draft, self._settings)
            if json.loads(await run(request)) != build_id:
                draft.unlink()
                return None
            await asyncio.to_thread(draft.rename, target)
        except FileNotFoundError:  # the usual: a layer has few of the files
            draft.unlink(missing_ok=True)
            return None
        except (OSError, ParamedicError) as error:
            log.info(
                "a program of a crashed process could not be copied", build_id=build_id, error=type(error).__name__
            )
            draft.unlink(missing_ok=True)
            return None
        return target


def _age(folder: Path) -> float:
    try:
        return -folder.stat().st_ctime
    except OSError:
        return 0.0


def _copied(root: Path, path: str, target: Path) -> None:
    with beneath(root, path) as source:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with target.open("wb") as file:
            left = _MAX_BYTES
            while chunk := os.read(source, _CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise OSError(f"it is larger than {_MAX_BYTES} bytes")
                file.write(chunk)


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
