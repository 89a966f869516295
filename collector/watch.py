"""Wakes the agent when something happens in its folders: inotify where it works, and a look at least every so often."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import structlog
from watchfiles import awatch

from settings import CollectorSettings

_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "9p", "virtiofs", "glusterfs", "lustre", "beegfs"}
_STEP_MS = 200

log = structlog.get_logger(__name__)


def file_system(path: Path, mounts: str) -> str:
    """The type of the file system that holds `path`, by the text of /proc/self/mounts; empty when it is not found."""
    best, kind = -1, ""
    target = os.path.realpath(path)
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].encode().decode("unicode_escape")  # \040 is a space: fstab(5)
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, kind = len(point), fields[2]
    return kind


def must_poll(path: Path) -> bool:
    """Whether other machines write to this file system: the kernel tells nobody about that (inotify(7))."""
    kind = file_system(path, Path("/proc/self/mounts").read_text())
    return kind in _NETWORK or kind.startswith("fuse")


async def wakes(
    settings: CollectorSettings, stop: asyncio.Event, hurry: Callable[[], bool] = lambda: False
) -> AsyncIterator[None]:
    """Yields at the start, soon after a change, and every `scan_seconds`; ends when `stop` is set.

    While `hurry` says so, and where changes are not told, it yields every `poll_seconds`.
    Changes during a look are one wake after it. A watch that fails is a log line, and the scans go on.
    """
    woken = asyncio.Event()
    poll = settings.watch == "poll" or (settings.watch == "auto" and any(map(must_poll, settings.roots)))
    watcher = None if poll else asyncio.create_task(_watch(settings.roots, woken, stop))
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            yield
            changed = asyncio.create_task(woken.wait())
            timeout = settings.poll_seconds if poll or hurry() else settings.scan_seconds
            await asyncio.wait({changed, stopped}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            woken.clear()
    finally:
        stopped.cancel()
        if watcher is not None:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher


async def _watch(roots: list[Path], woken: asyncio.Event, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            async for _ in awatch(*roots, stop_event=stop, step=_STEP_MS, ignore_permission_denied=True):
                woken.set()
        except (OSError, RuntimeError) as error:  # a root that does not exist yet, or no watches left
            log.warning("folders are not watched, only scanned", error=str(error)[:300])
            await asyncio.sleep(30.0)
