"""Ships what is in the outbox: reduce, store, announce, remove; each core by itself, so that none waits for another.

A core that fails is tried again after a pause that doubles up to `shipping.retry_seconds`, for as long as it takes.
Pauses are not kept over a restart, and no clock of the wall decides about them.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from collector.handler import Handler
from collector.local_file import LocalFile, dispose
from collector.measures import Measures
from collector.outbox import Item, Outbox, Pending, State
from collector.pack import free_bytes
from collector.reduce import Program, Reducer, Staged, wants_full
from collector.room import Room
from errors import Conflict, InvalidInput, NotFound, ParamedicError, ToolFailed
from incidents.collected import CollectedCore, StoredObject
from settings import ShippingSettings
from tools.objectstore.keys import record_key
from tools.objectstore.store import Confirmed, ObjectStore

Announce = Callable[[CollectedCore], Awaitable[None]]
"""Tells of a core, stored or lost; raises when it could not, and is then asked again with the same record."""

_FIRST_PAUSE = 1.0
_LOOK_SECONDS = 5.0
_STAYS_SECONDS = 3600.0
"""Between two attempts at a stored core's file that the disk does not let go of."""
_FORGET_SECONDS = 30 * 86_400.0

log = structlog.get_logger(__name__)


class _Stays(ToolFailed):
    """All is done but the removal of the core's file, which the disk does not allow."""


@dataclass
class _Pause:
    seconds: float
    until: float


class Shipper:
    """`folder` is the agent's own, on the node's disk: what is prepared for the store lies there. `roots` are the
    folders that cores appear in."""

    def __init__(
        self,
        outbox: Outbox,
        store: ObjectStore,
        settings: ShippingSettings,
        announce: Announce,
        *,
        folder: Path,
        measures: Measures | None = None,
        handler: Handler | None = None,
        roots: Sequence[Path] = (),
        clock: Callable[[], float] = time.monotonic,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._measures = measures or Measures()
        self._outbox, self._store, self._settings, self._announce = outbox, store, settings, announce
        self._folder, self._clock, self._handler = folder, clock, handler
        self._reducer = Reducer(settings, folder, store.prefix, store.keyring)
        self._room = Room(
            outbox,
            store,
            self._reducer,
            settings.disk_reserve_bytes,
            settings.local_file,
            folder,
            free,
            roots,
            settings.namespace_bytes,
        )
        self._pauses: dict[str, _Pause] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._awake = asyncio.Event()

    async def take(self, record: CollectedCore, file: LocalFile | None, programs: tuple[Program, ...] = ()) -> None:
        """Into the outbox, for good; shipping begins at once. Raises as `Outbox.add` does."""
        await asyncio.to_thread(self._outbox.add, record, file, programs)
        item = await asyncio.to_thread(self._outbox.item, record.id)
        if item.state is State.REMOVED:  # a copy that came late
            try:
                await asyncio.to_thread(self._remove, item)
            except OSError as error:  # it stays, and is known
                self._measures.failed("remove")
                log.warning("a core's file cannot be removed", record=item.id, error=error.strerror)
        self._awake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Ship until `stop` is set. Nothing that fails ends it."""
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True, mode=0o700)
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                self._awake.clear()
                await self._look()
                waking = asyncio.ensure_future(self._awake.wait())
                await asyncio.wait({stopping, waking}, timeout=self._idle(), return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
        finally:
            stopping.cancel()
            tasks = list(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._handler is not None:
                await self._handler.stop()

    def _idle(self) -> float:
        """Seconds until something is to be tried again, or looked at."""
        waits = [pause.until - self._clock() for id, pause in self._pauses.items() if id not in self._under_way]
        return max(0.05, min([_LOOK_SECONDS, *waits]))

    async def _look(self) -> None:
        try:
            await self._room.make(self._under_way)
        except Exception as error:  # without room there is the more reason to ship
            text = str(error) if isinstance(error, ParamedicError | OSError) else type(error).__name__
            log.error("no room can be made on the node's disk", error=text)
        try:
            await asyncio.to_thread(self._outbox.forget, time.time() - _FORGET_SECONDS)
            ids = await asyncio.to_thread(self._outbox.unfinished)
        except (ParamedicError, OSError) as error:
            log.error("the outbox cannot be worked on", error=str(error))
            return
        self._pauses = {id: pause for id, pause in self._pauses.items() if id in set(ids)}
        for id in ids:
            if len(self._under_way) >= self._settings.parallel:
                return
            if self._handler is not None and self._handler.busy(id):
                continue
            pause = self._pauses.get(id)
            if id not in self._under_way and (pause is None or self._clock() >= pause.until):
                task = asyncio.ensure_future(self._ship(id))
                self._under_way[id] = task
                task.add_done_callback(lambda _, id=id: self._ended(id))  # type: ignore[misc]

    def _ended(self, id: str) -> None:
        self._under_way.pop(id, None)
        self._awake.set()

    async def _ship(self, id: str) -> None:
        try:
            item = await asyncio.to_thread(self._outbox.item, id)
            while item.state is not State.REMOVED:
                handler = self._handler if item.state is State.ANNOUNCED else None
                if handler is not None and await handler.holds(item, self._awake.set):
                    break
                await self._step(item)
                item = await asyncio.to_thread(self._outbox.item, id)
            self._pauses.pop(id, None)
        except _Stays as error:
            self._pauses[id] = _Pause(_STAYS_SECONDS, self._clock() + _STAYS_SECONDS)
            self._measures.failed("remove")
            log.warning("a core's file cannot be removed", record=id, seconds=_STAYS_SECONDS, error=str(error))
        except Exception as error:  # a core that nobody foresaw stands in no other's way
            seconds = min(2 * self._pauses[id].seconds if id in self._pauses else _FIRST_PAUSE, self._most)
            self._pauses[id] = _Pause(seconds, self._clock() + seconds * random.uniform(0.5, 1.0))  # noqa: S311
            self._measures.failed("ship")
            text = str(error) if isinstance(error, ParamedicError | OSError) else type(error).__name__
            log.warning("a core waits", record=id, seconds=round(seconds, 1), error=text)

    @property
    def _most(self) -> float:
        return self._settings.retry_seconds

    async def _step(self, item: Item) -> None:
        """Do the next step of `item` and note it."""
        if item.state is State.COLLECTED:
            await self._reduce(item)
        elif item.state in (State.REDUCED, State.UPLOADING):
            await self._store_all(item)
        elif item.state is State.STORED:
            await self._announce(item.record)
            await asyncio.to_thread(self._outbox.announced, item.record)
            self._measures.announced(item.record)
        elif item.state is State.ANNOUNCED:
            try:
                await asyncio.to_thread(self._remove, item)
            except OSError as error:
                raise _Stays(error.strerror or type(error).__name__) from None
            await asyncio.to_thread(self._outbox.removed, item.record)

    async def _reduce(self, item: Item) -> None:
        record = item.record
        if item.file is None:
            await asyncio.to_thread(self._outbox.reduced, record, [])
            return
        novel = not await asyncio.to_thread(self._outbox.knows_group, record)
        try:
            whole = wants_full(record, self._settings, novel=novel)
            staged, lost = await self._reducer.stage(record, item.file, whole=whole)
        except (NotFound, Conflict) as error:
            await self._room.lose(record, f"nothing of it is stored: {error}", file_too=False)
            return
        if lost is not None:
            record = record.model_copy(update={"lost": lost})
        for program in item.programs:
            try:
                one = await self._reducer.stage_program(program, self._reducer.place(record))
            except (NotFound, Conflict, InvalidInput) as error:
                log.warning("a program is not stored", record=item.id, error=str(error))
                continue
            if all(one.key != other.key for other in staged):
                staged.append(one)
        await asyncio.to_thread(self._outbox.reduced, record, staged)

    async def _store_all(self, item: Item) -> None:
        record = item.record
        for pending in await asyncio.to_thread(self._outbox.objects, item.id):
            if pending.stored:
                continue
            try:
                stored = await self._store_one(record, pending)
            except InvalidInput:  # what was prepared is gone or damaged: it is prepared again
                await self._reduce(item)
                raise
            record = record.model_copy(
                update={"stored": [*(one for one in record.stored if one.key != stored.key), stored]}
            )
            await asyncio.to_thread(self._outbox.object_stored, record, stored)
            await asyncio.to_thread(pending.staged.path.unlink, missing_ok=True)
        if record.stored:
            await self._store_record(record)
        await asyncio.to_thread(self._outbox.stored, record)
        await asyncio.to_thread(self._reducer.forget, record)

    async def _store_one(self, record: CollectedCore, pending: Pending) -> StoredObject:
        staged = pending.staged
        if staged.build_id is not None and (known := await self._known_program(staged)) is not None:
            return known

        async def remember(upload: str) -> None:
            await asyncio.to_thread(self._outbox.uploading, record.id, staged.key, upload)

        began = time.perf_counter()
        done = await self._store.put(
            staged.path,
            staged.key,
            sha256=staged.sha256,
            metadata=metadata_of(staged, record),
            known=pending.upload,
            remember=remember,
        )
        log.info("stored", record=record.id, key=staged.key, size=done.size, confirmed_by=done.by)
        stored = _confirmed(staged, done)
        self._measures.stored(stored, time.perf_counter() - began)
        return stored

    async def _known_program(self, staged: Staged) -> StoredObject | None:
        """The program as this node stored it, or another one did: it is stored once."""
        known = await asyncio.to_thread(self._outbox.stored_program, staged.key)
        try:
            info = await self._store.head(staged.key)
        except NotFound:
            return None
        if known is not None and known.size == info.size:
            return known
        sha256 = info.metadata.get("sha256")
        if sha256 is None:  # a folder keeps no metadata
            digest = hashlib.sha256()
            async for chunk in self._store.get(staged.key):
                digest.update(chunk)
            sha256 = digest.hexdigest()
        return _confirmed(staged, Confirmed(info.size, sha256, "another node"))

    async def _store_record(self, record: CollectedCore) -> None:
        """Beside the core, last: what has a record is whole."""
        data = record.model_dump_json(indent=1).encode()
        key = record_key(record, self._store.prefix)
        await self._store.put(data, key, sha256=hashlib.sha256(data).hexdigest(), metadata={"id": record.id})

    def _remove(self, item: Item) -> None:
        """The core's file and its copies. Raises OSError, after all of them, when the disk does not allow it."""
        self._reducer.forget(item.record)
        failed: OSError | None = None
        for file in [*([item.file] if item.file else []), *self._outbox.twins(item.id)]:
            try:
                done = dispose(file, item.disposal or self._settings.local_file)
            except OSError as error:
                failed = error
                continue
            log.info("the core's file on the node", record=item.id, done=done)
        if failed is not None:
            raise failed


def _confirmed(staged: Staged, done: Confirmed) -> StoredObject:
    return StoredObject(
        kind=staged.kind,
        key=staged.key,
        size=done.size,
        sha256=done.sha256,
        build_id=staged.build_id,
        encrypted=staged.encrypted,
    )


def metadata_of(staged: Staged, record: CollectedCore | None = None) -> dict[str, str]:
    """What the store keeps beside an object's bytes; the record has more. Programs belong to no core."""
    if staged.build_id is not None or record is None:
        return {"kind": staged.kind, "build-id": staged.build_id or ""}
    origin = record.origin
    found = {
        "kind": staged.kind,
        "id": record.id,
        "core-sha256": record.sha256,
        "core-size": record.size,
        "completeness": record.completeness.value,
        "node": record.node,
        "namespace": origin.namespace if origin else None,
        "pod": origin.pod if origin else None,
        "pod-uid": origin.pod_uid if origin else None,
        "container": origin.container if origin else None,
        "image-digest": origin.image_digest if origin else None,
        "signal": record.signal,
        "executable": record.executable,
        "build-id": record.build_ids.get(record.executable or ""),
        "signature": record.signature,
        "value": record.value,
        "dumped-at": record.dumped_at.isoformat() if record.dumped_at else None,
    }
    return {name: str(value) for name, value in found.items() if value is not None}
