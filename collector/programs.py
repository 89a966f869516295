"""Executables and libraries of crashed processes, copied once per build-id, so that later analysis has symbols.

They are taken from a process of the same pod that still runs (the container's next instance has the same image) through
its /proc/PID/root. That tree belongs to the container: no link in it may lead out, and a file counts only when a
confined process finds the very build-id in it that the core named.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import stat
from collections import deque
from collections.abc import Iterator
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
_BUILD_ID = re.compile(r"[0-9a-f]{2,128}")  # it becomes a file name

log = structlog.get_logger(__name__)


class Programs:
    """`folder` keeps one copy a build-id; which ones were delivered is known by the files in it (emptied, not removed).

    `proc` is the node's /proc: without hostPID no process of another pod is found, and nothing is copied.
    """

    def __init__(self, folder: Path, proc: Path, settings: GdbSettings) -> None:
        self._folder, self._proc, self._settings = folder, proc, settings

    def known(self, build_id: str) -> bool:
        return (self._folder / build_id).exists()

    def done(self, program: Program) -> None:
        """The store has it: the copy is emptied, and its name stays so that it is not made again. Blocking."""
        with contextlib.suppress(FileNotFoundError):
            os.truncate(program.path, 0)

    def waiting(self) -> list[Program]:
        """Copies that were made and not delivered, such as before a kill. Blocking."""
        try:
            files = sorted(self._folder.iterdir())
        except FileNotFoundError:
            return []
        found = [file for file in files if file.suffix != ".part" and file.stat().st_size]
        return [Program(file, file.name, "library") for file in found]

    async def gather(self, record: CollectedCore) -> list[Program]:
        """Copies of what the core names and nobody has yet; fewer when no process of the pod runs now."""
        named = {path: build_id for path, build_id in record.build_ids.items() if _BUILD_ID.fullmatch(build_id)}
        wanted = {path: build_id for path, build_id in named.items() if not self.known(build_id)}
        if record.origin is None or record.origin.pod_uid is None or not wanted:
            return []
        found: list[Program] = []
        for root in await asyncio.to_thread(self._roots, record.origin.pod_uid):
            for path, build_id in list(wanted.items()):
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

    async def _copy(self, root: Path, path: str, build_id: str) -> Path | None:
        draft, target = self._folder / f"{build_id}.part", self._folder / build_id
        try:
            await asyncio.to_thread(_copied, root, path, draft)
            request = Request("build_id", draft, self._settings)
            if json.loads(await run(request)) != build_id:
                draft.unlink()
                return None
            await asyncio.to_thread(draft.rename, target)
        except (OSError, ParamedicError) as error:
            log.info(
                "a program of a crashed process could not be copied", build_id=build_id, error=type(error).__name__
            )
            draft.unlink(missing_ok=True)
            return None
        return target


def _copied(root: Path, path: str, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with beneath(root, path) as source, target.open("wb") as file:
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
