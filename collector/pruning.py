"""Deletes from the store what its limits say, and what belongs to no core any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError

from collector.retention import Examples, Going, Kept, choose
from errors import NotFound, ParamedicError
from incidents.collected import CollectedCore
from settings import RetentionSettings
from tools.objectstore.keys import BUILD_IDS

if TYPE_CHECKING:  # the service imports this at its start, and needs a store an hour later
    from tools.objectstore.store import Info, ObjectStore

_MAX_RECORD = 4 << 20
_AT_ONCE = 8
_ORPHAN_DAYS = 7.0
"""An agent stores a core's record last, and may be down for days in between."""

log = structlog.get_logger(__name__)


@dataclass
class Contents:
    """Everything of ours in a store."""

    kept: list[Kept] = field(default_factory=list)
    others: list[Info] = field(default_factory=list)
    """Objects that are no records."""
    unreadable: list[str] = field(default_factory=list)
    """Keys of records that cannot be read; nothing beside them is touched."""


@dataclass(frozen=True)
class Pruned:
    """What goes, or went: cores, and keys of objects that belong to none."""

    going: list[Going]
    orphans: list[Info]

    @property
    def size(self) -> int:
        return sum(one.kept.size for one in self.going) + sum(info.size for info in self.orphans)


async def contents(store: ObjectStore) -> Contents:
    """Read every record. Raises StoreUnreachable and the like: half of a store is never decided about."""
    found = Contents()
    records: list[Info] = []
    async for info in store.list():
        (records if info.key.endswith(".json") else found.others).append(info)
    turn = asyncio.Semaphore(_AT_ONCE)

    async def read(info: Info) -> None:
        async with turn:
            record = await _record(store, info)
        if record is None:
            found.unreadable.append(info.key)
        else:
            found.kept.append(Kept.of(record, info.key, info.modified))

    for start in range(0, len(records), 1000):
        await asyncio.gather(*(read(info) for info in records[start : start + 1000]))
    return found


async def record_of(store: ObjectStore, id: str) -> CollectedCore:
    """The record of a core by its id. Raises NotFound."""
    async for info in store.list():
        if info.key.endswith(f"/{id}.json") and (record := await _record(store, info)) is not None:
            return record
    raise NotFound(f"the store has no core {id[:100]!a}")


async def prune(
    store: ObjectStore, settings: RetentionSettings, now: datetime, examples: Examples, *, dry_run: bool = False
) -> Pruned:
    """Delete what the limits say; with `dry_run` only say it. Raises StoreUnreachable and the like."""
    found = await contents(store)
    going = choose(found.kept, settings, now, examples)
    gone = {one.kept.key for one in going}
    left = [one for one in found.kept if one.key not in gone]
    held = {key for one in left for key in (*one.objects, *one.programs)}
    orphans = _orphans(found, held, gone, now)
    if not dry_run:
        for one in going:  # the record last: what is cut short is found again
            await store.delete([*(key for key in one.kept.objects if key not in held), one.kept.key])
            log.info("a stored core was deleted", record=one.kept.id, key=one.kept.key, reason=one.reason)
        await store.delete([info.key for info in orphans])
    return Pruned(going, orphans)


def _orphans(found: Contents, held: set[str], gone: set[str], now: datetime) -> list[Info]:
    """Objects, programs too, that no core refers to, and that have been there for long."""
    going = {key for one in found.kept if one.key in gone for key in one.objects}
    odd = {key.rpartition("/")[0] for key in found.unreadable}
    orphans = []
    for info in found.others:
        folder = info.key.rpartition("/")[0]
        parts = folder.split("/")
        build_id = "".join(parts[-2:]) if len(parts) > 2 and parts[-3] == BUILD_IDS else None
        old = now - info.modified > timedelta(days=_ORPHAN_DAYS)
        if build_id is not None and odd:
            continue  # a record that cannot be read may refer to it
        if old and info.key not in held and info.key not in going and build_id not in held and folder not in odd:
            orphans.append(info)
    return orphans


async def _record(store: ObjectStore, info: Info) -> CollectedCore | None:
    if info.size > _MAX_RECORD:
        return None
    try:
        data = b"".join([chunk async for chunk in store.get(info.key, max_bytes=_MAX_RECORD)])
        return CollectedCore.model_validate_json(data)
    except (ValidationError, NotFound):
        return None


async def keep_pruned(
    store: Callable[[], Awaitable[ObjectStore]],
    settings: RetentionSettings,
    examples: Callable[[], Awaitable[Examples]],
    stop: asyncio.Event,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Prune every `settings.interval_seconds` until `stop`. What fails is logged, and tried again next time."""
    while not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), settings.interval_seconds)
            return
        except TimeoutError:
            pass
        try:
            done = await prune(await store(), settings, now(), await examples())
            log.info("the store was pruned", cores=len(done.going), orphans=len(done.orphans), bytes=done.size)
        except (ParamedicError, OSError) as error:
            log.warning("the store could not be pruned", error=str(error))
