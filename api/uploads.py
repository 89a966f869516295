"""Uploaded files: streamed to disk, hashed on the way, visible only when whole."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from errors import InvalidInput, ToolFailed
from incidents.database import Database, utcnow
from incidents.models import new_id
from incidents.tables import UploadRow
from tools.cores.streams import create_private

_WRITE_BYTES = 1 << 20


class StorageFull(ToolFailed):
    """The disk of the service has no room for the upload; nothing of it was kept."""

    title = "Storage is full"
    status = 507


@dataclass(frozen=True)
class Upload:
    id: str
    sha256: str
    size: int


class UploadStore:
    """Files in one folder, named by their id; who owns them is in the database."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._db = database
        self._folder = folder

    async def receive(self, chunks: AsyncIterator[bytes], *, owner: str) -> Upload:
        """Store what `chunks` gives. Whatever ends it early (client gone, disk full, too large) leaves no file.

        Raises InvalidInput for an empty body, StorageFull, and what `chunks` raises.
        """
        upload_id = new_id("upl")
        final = self._folder / upload_id
        draft = self._folder / f".{upload_id}.part"
        try:
            sha256, size = await self._write(chunks, draft)
            if size == 0:
                raise InvalidInput("the body is empty; send the file itself as application/octet-stream")
            await asyncio.to_thread(draft.replace, final)
            async with self._db.write() as session:
                session.add(UploadRow(id=upload_id, owner=owner, sha256=sha256, size=size, at=utcnow()))
        except BaseException as error:
            # not awaited: after a cancellation the next await may never return
            draft.unlink(missing_ok=True)
            final.unlink(missing_ok=True)
            if isinstance(error, OSError):
                full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
                raise StorageFull(
                    "the disk for uploads is full; free some space or use core.path or core.url"
                    if full
                    else f"the upload could not be stored: {error.strerror}"
                ) from error
            raise
        return Upload(upload_id, sha256, size)

    async def _write(self, chunks: AsyncIterator[bytes], path: Path) -> tuple[str, int]:
        digest, size, buffer = hashlib.sha256(), 0, bytearray()
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True, mode=0o700)
        file = await asyncio.to_thread(create_private, path)
        try:
            async for chunk in chunks:
                size += len(chunk)
                buffer += chunk
                if len(buffer) >= _WRITE_BYTES:
                    await asyncio.to_thread(_append, file, digest.update, bytes(buffer))
                    buffer.clear()
            await asyncio.to_thread(_append, file, digest.update, bytes(buffer))
        finally:
            await asyncio.shield(asyncio.to_thread(file.close))
        return digest.hexdigest(), size

    async def owned(self, upload_id: str, caller: str) -> bool:
        """Whether `caller` uploaded this file. Somebody else's upload is as good as none."""
        async with self._db.read() as session:
            row = await session.get(UploadRow, upload_id)
        return row is not None and row.owner == caller


def _append(file: BinaryIO, update: Callable[[bytes], None], data: bytes) -> None:
    update(data)
    file.write(data)
