"""Room on the node's disk: when little is left, or a namespace has more than it may, the least valuable cores go.

A namespace that floods the node pays for it with its own cores: nobody loses one for another namespace that has more
there. What is given up and not stored shrinks to its reduced form where there is one, and is told as lost.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import structlog

from collector.local_file import Disposal, LocalFile, dispose
from collector.outbox import Item, Outbox, Pending, State
from collector.places import FoundFile, find_files
from collector.reduce import Reducer
from errors import NotFound, ParamedicError, ToolFailed
from incidents.collected import CollectedCore
from tools.objectstore.store import ObjectStore

_MOST_FILES = 100_000

log = structlog.get_logger(__name__)


class Room:
    """`reserve` is what is to stay free on the disk of `folder`, in bytes; `free` tells what is."""

    def __init__(
        self,
        outbox: Outbox,
        store: ObjectStore,
        reducer: Reducer,
        reserve: int,
        local_file: Disposal,
        folder: Path,
        free: Callable[[Path], int],
        roots: Sequence[Path] = (),
        namespace_bytes: int | None = None,
    ) -> None:
        self._outbox, self._store, self._reducer = outbox, store, reducer
        self._reserve, self._local_file, self._folder, self._free = reserve, local_file, folder, free
        self._roots, self._namespace_bytes = roots, namespace_bytes
        self._staying: set[tuple[int, int, int, int]] = set()

    async def lose(self, record: CollectedCore, why: str, *, file_too: bool) -> None:
        log.error("a core is lost", record=record.id, reason=why)
        lost = record.model_copy(update={"lost": why})
        await asyncio.to_thread(self._outbox.lose, lost, file_too=file_too)
        await asyncio.to_thread(self._reducer.forget, record)

    async def make(self, busy: Collection[str]) -> None:
        """With too little free, what the store already has goes first, then the least valuable of the rest.

        `busy` are ids of what is being shipped just now. Raises OSError when the disk cannot be looked at.
        """
        await self._fit_namespaces(busy)
        if await self._enough():
            return
        for item in await asyncio.to_thread(self._outbox.stored_here):
            if item.file is not None:
                await self._dispose(item.file, item.disposal or self._local_file)
        for item, file in _fairly(await self._candidates(busy)):
            if await self._enough():
                return
            if await self._can_go(file):
                await self._give_up(item, file, "the node's disk was full")

    async def _fit_namespaces(self, busy: Collection[str]) -> None:
        """Take from each namespace what it has beyond its limit: what is done with, then its least valuable."""
        limit = self._namespace_bytes
        if limit is None:
            return
        by_namespace: dict[str, list[FoundFile]] = {}
        for root in self._roots:
            for found in await asyncio.to_thread(find_files, root, _MOST_FILES):
                if found.place is not None:
                    by_namespace.setdefault(found.place.namespace, []).append(found)
        used = {name: sum([_room_of(found.path) for found in files]) for name, files in by_namespace.items()}
        over = {name: size for name, size in used.items() if size > limit}
        if not over:
            return
        stored = {item.file.stamp for item in await asyncio.to_thread(self._outbox.stored_here) if item.file}
        candidates = await self._candidates(busy)
        for name, size in over.items():
            for found in by_namespace[name]:
                file = LocalFile(found.path.absolute(), *found.stamp)
                if size > limit and (file.stamp in stored or await asyncio.to_thread(self._outbox.is_done_with, file)):
                    room = _room_of(file.path)
                    if await self._dispose(file, "remove"):
                        size -= room
                        log.warning("a file goes: its namespace has more on the node than it may", namespace=name)
            for item, file in candidates:
                if size > limit and _namespace_of(item) == name and await self._can_go(file):
                    size -= _room_of(file.path)
                    why = f"namespace {name} had more on the node than its {limit} bytes (shipping.namespace_bytes)"
                    await self._give_up(item, file, why)

    async def _candidates(self, busy: Collection[str]) -> list[tuple[Item, LocalFile]]:
        """The least valuable first."""
        items = await asyncio.to_thread(self._outbox.least_valuable)
        return [
            (item, item.file)
            for item in items
            if item.id not in busy and item.file is not None and item.disposal is None
        ]

    async def _enough(self) -> bool:
        return self._reserve == 0 or await asyncio.to_thread(self._free, self._folder) >= self._reserve

    async def _give_up(self, item: Item, file: LocalFile, reason: str) -> None:
        """Keep the reduced core, if there is one to be had, and let the rest go."""
        record = item.record.model_copy(update={"lost": f"only the reduced core is stored: {reason}"})
        if item.state is State.COLLECTED:
            try:
                reduced = await self._reducer.stage_reduced(record, file)
            except ParamedicError as error:
                why = f"nothing of it is stored: {reason}, and {error}"
                await self.lose(item.record, why, file_too=True)
                await self._dispose(file, "remove")
                return
            await asyncio.to_thread(self._outbox.reduced, record, [reduced])
        pending = await asyncio.to_thread(self._outbox.objects, item.id)
        if not any(one.staged.kind == "minimal" for one in pending):
            await self.lose(item.record, f"nothing of it is stored: {reason}", file_too=True)
        else:
            log.error("a core's file is given up", record=item.id, reason=reason)
            wanted = item.state is State.COLLECTED or any(one.staged.kind == "full" for one in pending)
            await asyncio.to_thread(self._outbox.give_up_full, record if wanted else item.record)
        for one in pending:
            if one.staged.kind == "full":
                await self._abort(one)
        await self._dispose(file, "remove")

    async def _dispose(self, file: LocalFile, how: Disposal) -> bool:
        """False when the disk does not allow it: one file that stays is no reason to keep the others."""
        try:
            await asyncio.to_thread(dispose, file, how)
        except OSError as error:
            self._stays(file, error.strerror or type(error).__name__)
            return False
        return True

    async def _can_go(self, file: LocalFile) -> bool:
        """Whether its folder lets it go: to give up a core that stays would lose it and gain nothing."""
        folder = file.path.parent
        if await asyncio.to_thread(os.access, folder, os.W_OK | os.X_OK, effective_ids=True):
            return True
        self._stays(file, "its folder cannot be written to")
        return False

    def _stays(self, file: LocalFile, why: str) -> None:
        if file.stamp not in self._staying:  # told once: every look tries it again
            self._staying.add(file.stamp)
            log.warning("a core's file cannot be removed", path=ascii(str(file.path))[:300], error=why)

    async def _abort(self, pending: Pending) -> None:
        await asyncio.to_thread(pending.staged.path.unlink, missing_ok=True)
        if pending.upload is not None:
            try:
                await self._store.abort(pending.upload)
            except (ToolFailed, NotFound) as error:
                log.info("an upload is left to the store", key=pending.staged.key, error=str(error))


def _fairly(candidates: list[tuple[Item, LocalFile]]) -> Iterator[tuple[Item, LocalFile]]:
    """The namespace that has the most on the node gives first, each its least valuable."""
    left: dict[str, list[tuple[Item, LocalFile]]] = {}
    used: dict[str, int] = {}
    for item, file in candidates:
        name = _namespace_of(item)
        left.setdefault(name, []).append((item, file))
        used[name] = used.get(name, 0) + _room_of(file.path)
    while left:
        name = max(left, key=lambda one: used[one])
        item, file = left[name].pop(0)
        used[name] -= _room_of(file.path)
        if not left[name]:
            del left[name]
        yield item, file


def _namespace_of(item: Item) -> str:
    return item.record.origin.namespace if item.record.origin else ""


def _room_of(path: Path) -> int:
    """What a file takes of the disk: a core has holes."""
    try:
        return path.lstat().st_blocks * 512
    except OSError:
        return 0
