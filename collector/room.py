"""Room on the node's disk: when little is left, the least valuable cores that are not stored yet shrink or go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path

import structlog

from collector.local_file import Disposal, LocalFile, dispose
from collector.outbox import Item, Outbox, Pending, State
from collector.reduce import Reducer
from errors import NotFound, ParamedicError, ToolFailed
from incidents.collected import CollectedCore
from tools.objectstore.store import ObjectStore

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
    ) -> None:
        self._outbox, self._store, self._reducer = outbox, store, reducer
        self._reserve, self._local_file, self._folder, self._free = reserve, local_file, folder, free

    async def lose(self, record: CollectedCore, why: str, *, file_too: bool) -> None:
        log.error("a core is lost", record=record.id, reason=why)
        lost = record.model_copy(update={"lost": why})
        await asyncio.to_thread(self._outbox.lose, lost, file_too=file_too)
        await asyncio.to_thread(self._reducer.forget, record)

    async def make(self, busy: Collection[str]) -> None:
        """With too little free, what the store already has goes first, then the least valuable of the rest.

        `busy` are ids of what is being shipped just now. Raises OSError when the disk cannot be looked at.
        """
        if await self._enough():
            return
        for item in await asyncio.to_thread(self._outbox.stored_here):
            if item.file is not None:
                await asyncio.to_thread(dispose, item.file, item.disposal or self._local_file)
        for item in await asyncio.to_thread(self._outbox.least_valuable):
            if await self._enough():
                return
            if item.id not in busy and item.file is not None and item.disposal is None:
                await self._give_up(item, item.file)

    async def _enough(self) -> bool:
        return self._reserve == 0 or await asyncio.to_thread(self._free, self._folder) >= self._reserve

    async def _give_up(self, item: Item, file: LocalFile) -> None:
        """Keep the reduced core, if there is one to be had, and let the rest go."""
        record = item.record.model_copy(update={"lost": "only the reduced core is stored: the node's disk was full"})
        if item.state is State.COLLECTED:
            try:
                reduced = await self._reducer.stage_reduced(record, file)
            except ParamedicError as error:
                why = f"nothing of it is stored: the node's disk was full, and {error}"
                await self.lose(item.record, why, file_too=True)
                await asyncio.to_thread(dispose, file, "remove")
                return
            await asyncio.to_thread(self._outbox.reduced, record, [reduced])
        pending = await asyncio.to_thread(self._outbox.objects, item.id)
        if not any(one.staged.kind == "minimal" for one in pending):
            await self.lose(item.record, "nothing of it is stored: the node's disk was full", file_too=True)
        else:
            log.error("a core's file is given up: the node's disk is nearly full", record=item.id)
            wanted = item.state is State.COLLECTED or any(one.staged.kind == "full" for one in pending)
            await asyncio.to_thread(self._outbox.give_up_full, record if wanted else item.record)
        for one in pending:
            if one.staged.kind == "full":
                await self._abort(one)
        await asyncio.to_thread(dispose, file, "remove")

    async def _abort(self, pending: Pending) -> None:
        await asyncio.to_thread(pending.staged.path.unlink, missing_ok=True)
        if pending.upload is not None:
            try:
                await self._store.abort(pending.upload)
            except (ToolFailed, NotFound) as error:
                log.info("an upload is left to the store", key=pending.staged.key, error=str(error))
