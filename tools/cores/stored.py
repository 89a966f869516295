"""Cores from our own store, as `store:KEY`: fetched, decrypted, with the programs that were stored for them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from errors import InputTooLarge, InvalidInput, NotFound, ParamedicError, ToolFailed
from incidents.collected import CollectedCore
from settings import StoreSettings
from tools.cores.packing import unpacked
from tools.cores.streams import create_private
from tools.objectstore.failures import StoreDenied, StoreUnreachable
from tools.objectstore.keys import BUILD_IDS, ENCRYPTED, below, segment

if TYPE_CHECKING:  # obstore takes time to import, and few cores come from a store
    from tools.objectstore.store import ObjectStore

SCHEME = "store:"
_MAX_RECORD = 4 << 20
_MAX_RECORDS = 1000
_MAX_PROGRAMS = 256
_MAX_PROGRAM = 1 << 30
_MAX_TOGETHER = 4 << 30


class StoredCore:
    """One object of the store, as the service opened it."""

    def __init__(self, url: str, store: ObjectStore) -> None:
        """Raises InvalidInput when `url` does not name an object of ours."""
        self.key = below(url.removeprefix(SCHEME), store.prefix)
        self._store = store

    @classmethod
    async def open(cls, url: str, settings: StoreSettings) -> StoredCore:
        """Raises InvalidInput (the settings or the key)."""
        from tools.objectstore.store import ObjectStore

        return cls(url, await asyncio.to_thread(ObjectStore, settings))

    async def head(self) -> None:
        """Ask the store for nothing but an answer. Raises NotFound, StoreUnreachable, StoreDenied."""
        await self._store.head(self.key)

    async def fetch(self, target: Path, max_bytes: int) -> None:
        """Write the object's plain bytes, still compressed, to the new file `target`.

        Raises NotFound, InputTooLarge, StoreUnreachable, UnusableCore (no key for it), Damaged.
        """
        await self._save(self.key, target, max_bytes)

    async def programs(self, folder: Path, *, may_miss: bool = False) -> list[str]:
        """Write the core's executable and libraries to the new folder `folder`, as 1, 2, …; why some are not there.

        A core without a record has none. Raises StoreUnreachable and StoreDenied when the store goes away meanwhile,
        unless with `may_miss`.
        """
        try:
            record = await self._record()
        except (StoreUnreachable, StoreDenied) as error:
            if not may_miss:
                raise
            return [f"the programs of the core could not be had from the store: {error}"]
        if record is None:
            return []
        named = {one.build_id: (one.key, one.sha256) for one in record.stored if one.build_id}
        await asyncio.to_thread(folder.mkdir)
        missing: list[str] = []
        total = 0
        for number, build_id in enumerate(dict.fromkeys([*named, *record.build_ids.values()])):
            if number >= _MAX_PROGRAMS or total >= _MAX_TOGETHER:
                missing.append("more programs are stored for the core than are fetched at once")
                break
            target = folder / str(number + 1)
            try:
                key, sha256 = named[build_id] if build_id in named else (await self._known(build_id), None)
                if key is not None:
                    total += await self._program(key, sha256, target)
            except (NotFound, InvalidInput, ToolFailed) as error:
                await asyncio.to_thread(target.unlink, missing_ok=True)
                if not may_miss:
                    await self._still_there(error)
                missing.append(f"a program of the core could not be had from the store: {error}")
                if isinstance(error, StoreUnreachable):
                    break  # each further one would be waited for as long
        return missing

    async def _still_there(self, error: ParamedicError) -> None:
        """Raises StoreUnreachable or StoreDenied when `error` is not of one program alone: when the store is away."""
        if isinstance(error, StoreUnreachable):
            raise error
        if isinstance(error, StoreDenied | NotFound):  # so a folder answers that was taken away, and keys that ran out
            with suppress(NotFound):
                await self.head()

    async def _program(self, key: str, sha256: str | None, target: Path) -> int:
        packed = target.with_suffix(".zst")
        try:
            digest = await self._save(key, packed, _MAX_PROGRAM)
            if sha256 is not None and digest != sha256:
                raise ToolFailed(f"{key} is not what was stored")
            return await asyncio.to_thread(_unpack, packed, target)
        finally:
            await asyncio.to_thread(packed.unlink, missing_ok=True)

    async def _known(self, build_id: str) -> str | None:
        """The program that was stored first under a build-id."""
        prefix = f"{self._store.prefix}/{BUILD_IDS}/{build_id[:2]}/{build_id[2:]}"
        try:
            found = [info async for info in self._store.list(prefix)]
        except InvalidInput:  # no possible build-id
            return None
        return min(found, key=lambda info: info.modified).key if found else None

    async def _record(self) -> CollectedCore | None:
        """The record beside the core that names it."""
        folder = self.key.rpartition("/")[0]
        if id := (await self._store.head(self.key)).metadata.get("id"):
            found = await self._read(f"{folder}/{segment(id)}.json")
            return found if found and any(one.key == self.key for one in found.stored) else None
        count = 0  # a folder keeps no metadata
        async for info in self._store.list(folder):
            if not info.key.endswith(".json") or info.size > _MAX_RECORD:
                continue
            count += 1
            if count > _MAX_RECORDS:
                return None
            record = await self._read(info.key)
            if record is not None and any(one.key == self.key for one in record.stored):
                return record
        return None

    async def _read(self, key: str) -> CollectedCore | None:
        try:
            data = b"".join([chunk async for chunk in self._store.get(key, max_bytes=_MAX_RECORD)])
            return CollectedCore.model_validate_json(data)
        except (ValidationError, NotFound):
            return None

    async def _save(self, key: str, target: Path, max_bytes: int) -> str:
        """The sha256 of the object's bytes as they are stored."""
        digest = hashlib.sha256()

        async def stored() -> AsyncIterator[bytes]:
            async for chunk in self._store.get(key, max_bytes=max_bytes):
                digest.update(chunk)
                yield chunk

        stream = stored()
        if key.endswith(ENCRYPTED):
            from tools.objectstore.encryption import decrypted

            stream = decrypted(stream, self._store.keyring)
        file = await asyncio.to_thread(create_private, target)
        try:
            async with aclosing(stream):  # type: ignore[type-var]
                async for chunk in stream:
                    await asyncio.to_thread(file.write, chunk)
        except OSError as error:
            raise ToolFailed(f"writing the core failed: {error.strerror}") from None
        finally:
            await asyncio.to_thread(file.close)
        return digest.hexdigest()


def _unpack(packed: Path, target: Path) -> int:
    """Size in bytes. Raises ToolFailed, InputTooLarge."""

    def damaged(reason: str) -> None:
        raise ToolFailed(reason)

    size = 0
    with packed.open("rb") as source, create_private(target) as file:
        stream = unpacked("zstd", source, damaged)
        while chunk := stream.read(1 << 20):
            size += len(chunk)
            if size > _MAX_PROGRAM:
                raise InputTooLarge(f"a stored program unpacks to more than {_MAX_PROGRAM} bytes")
            file.write(chunk)
    return size
