"""One store for collected cores: a bucket of an S3-compatible store, or a folder."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from errors import InputTooLarge, InvalidInput, NotFound, ParamedicError
from settings import Settings, StoreSettings
from tools.objectstore.bucket import open_bucket
from tools.objectstore.encryption import Keyring
from tools.objectstore.failures import Damaged, StoreUnreachable, UploadGone, failure
from tools.objectstore.folder import put_file
from tools.objectstore.keys import below, checked
from tools.objectstore.multipart import Multipart, Remember

_STREAM = 1 << 20
_MAX_METADATA_BYTES = 1800  # S3 allows 2 KB


@dataclass(frozen=True)
class Info:
    """An object in the store; `size` in bytes. A folder keeps no metadata of objects, and lists have none."""

    key: str
    size: int
    modified: datetime
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Confirmed:
    """What the store holds, and how that is known: from its own checksum, or because it was read again."""

    size: int
    sha256: str
    by: str


class ObjectStore:
    def __init__(self, settings: StoreSettings) -> None:
        """Looks at nothing but the files of the settings. Blocking. Raises InvalidInput naming the wrong setting."""
        parts = urlsplit(settings.url or "")
        self.prefix = settings.prefix
        self.keyring = Keyring.load(settings.encryption_key_file) if settings.encryption_key_file else None
        self._part_bytes = settings.part_bytes
        self._folder: Path | None = None
        self._multipart: Multipart | None = None
        if parts.scheme == "file":
            self._folder = Path(unquote(parts.path))
            self.where = str(self._folder)
            self._store: LocalStore | S3Store | None = None  # made when the folder is there
        elif parts.scheme == "s3" and parts.hostname:
            self.where = settings.url or ""
            with _our_errors("opening the store"):
                self._store, self._multipart = open_bucket(settings, parts.hostname)
        else:
            raise InvalidInput("store.url names no store: s3://BUCKET or file:///FOLDER")

    async def put(
        self,
        source: Path | bytes,
        key: str,
        *,
        sha256: str,
        metadata: Mapping[str, str] | None = None,
        known: str | None = None,
        remember: Remember | None = None,
    ) -> Confirmed:
        """Store `source`, whose bytes have `sha256`, whole or not at all; what is there under `key` is replaced.

        An S3 upload in parts goes on where `known`, the last text that `remember` was given, says; without keys in
        the settings it begins anew. Raises StoreUnreachable, StoreDenied, Damaged, NotFound (no bucket), and
        InvalidInput when `source` is gone or not what it should be.
        """
        checked(key)
        size = len(source) if isinstance(source, bytes) else await asyncio.to_thread(_size, source)
        if self._folder is not None:
            await asyncio.to_thread(put_file, self._folder, key, source, sha256)
            return Confirmed(size, sha256, "read again")
        attributes = _attributes(metadata or {}, sha256)
        if isinstance(source, Path) and size > self._part_bytes and self._multipart is not None:
            confirmed = await self._put_parts(source, key, sha256, attributes, known, remember)
        else:
            confirmed = await self._put_whole(source, key, sha256, attributes, size)
        if (await self.head(key)).size != size:
            raise Damaged(f"storing {key}: the store holds another number of bytes")
        if confirmed:
            return Confirmed(size, sha256, "checksum of the store")
        digest = hashlib.sha256()
        async for chunk in self.get(key):
            digest.update(chunk)
        if digest.hexdigest() != sha256:
            raise Damaged(f"storing {key}: the store holds other bytes")
        return Confirmed(size, sha256, "read again")

    async def _put_parts(
        self,
        source: Path,
        key: str,
        sha256: str,
        attributes: dict[str, str],
        known: str | None,
        remember: Remember | None,
    ) -> bool:
        assert self._multipart is not None
        headers = {name if name == "Content-Type" else f"x-amz-meta-{name}": v for name, v in attributes.items()}
        if await asyncio.to_thread(_sha256_of, source) != sha256:
            raise InvalidInput(f"storing {key}: the file is not the one that was to be stored")
        try:
            return await self._multipart.put(source, key, sha256, headers, known, remember or _forget)
        except UploadGone:
            if known is not None and await self._holds(key, sha256):
                return False  # it was completed, and nobody lived to note it: it is read again
            return await self._multipart.put(source, key, sha256, headers, None, remember or _forget)

    async def _holds(self, key: str, sha256: str) -> bool:
        try:
            return (await self.head(key)).metadata.get("sha256") == sha256
        except NotFound:
            return False

    async def _put_whole(
        self, source: Path | bytes, key: str, sha256: str, attributes: dict[str, str], size: int
    ) -> bool:
        """Whether the store's ETag is the MD5 of what was sent."""
        if size <= self._part_bytes:
            data = source if isinstance(source, bytes) else await asyncio.to_thread(source.read_bytes)
            if hashlib.sha256(data).hexdigest() != sha256:
                raise InvalidInput(f"storing {key}: the file is not the one that was to be stored")
            with _our_errors(f"storing {key}"):
                result = await obstore.put_async(
                    await self._opened(), key, data, attributes=attributes, use_multipart=False
                )
            etag = (result["e_tag"] or "").strip('"').lower()
            return etag == hashlib.md5(data, usedforsecurity=False).hexdigest()
        with _our_errors(f"storing {key}"):
            await obstore.put_async(
                await self._opened(),
                key,
                source,
                attributes=attributes,
                chunk_size=max(self._part_bytes, -(-size // 10_000)),
                max_concurrency=1,
            )
        return False

    async def abort(self, known: str) -> None:
        """Give up an upload in parts, so that the store frees what it has of it."""
        if self._multipart is not None:
            await self._multipart.abort(known)

    async def head(self, key: str) -> Info:
        """Raises NotFound when there is no such object."""
        with _our_errors(f"looking for {checked(key)}"):
            result = await obstore.get_async(await self._opened(), key, options={"head": True})
            return _info(result.meta, dict(result.attributes))

    async def get(self, key: str, *, max_bytes: int | None = None) -> AsyncIterator[bytes]:
        """The stored bytes. Raises NotFound, InputTooLarge, StoreUnreachable."""
        checked(key)
        with _our_errors(f"reading {key}"):
            result = await obstore.get_async(await self._opened(), key)
            if max_bytes is not None and result.meta["size"] > max_bytes:
                raise InputTooLarge(f"{key} has more than the {max_bytes} bytes that are allowed for it")
            async for chunk in result.stream(min_chunk_size=_STREAM):
                yield bytes(chunk)

    async def list(self, prefix: str | None = None) -> AsyncIterator[Info]:
        """Every object below `prefix`, a whole part of keys (default: all of ours), in the store's order."""
        place = below(prefix, self.prefix) if prefix and prefix != self.prefix else self.prefix
        with _our_errors(f"listing {place}"):
            async for batch in obstore.list(await self._opened(), place):
                for meta in batch:
                    yield _info(meta, {})

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that are not there are no error."""
        for key in keys:
            try:
                with _our_errors(f"deleting {checked(key)}"):
                    await obstore.delete_async(await self._opened(), key)
            except NotFound as error:
                if "bucket" in str(error):
                    raise

    async def presign(self, key: str, seconds: int) -> str:
        """A link that reads the object, for whoever has it, for `seconds`. Raises NotFound, InvalidInput (a folder)."""
        await self.head(below(key, self.prefix))
        store = await self._opened()
        if not isinstance(store, S3Store):
            raise InvalidInput(f"the store is a folder: the file is {self.where}/{key}")
        with _our_errors(f"signing a link to {key}"):
            return await obstore.sign_async(store, "GET", key, timedelta(seconds=seconds))

    async def _opened(self) -> LocalStore | S3Store:
        if self._folder is not None and not await asyncio.to_thread(self._folder.is_dir):
            raise StoreUnreachable(f"the store's folder {str(self._folder)!a} is not there: is it mounted?")
        if self._store is None:
            with _our_errors("opening the store"):
                self._store = LocalStore(self._folder, automatic_cleanup=True)
        return self._store


def open_store(settings: Settings) -> ObjectStore:
    """The store of the settings; the folder that is the default is made. Blocking. Raises InvalidInput."""
    default = settings.data_dir / "store"
    if settings.store.url == default.as_uri():
        default.mkdir(parents=True, exist_ok=True, mode=0o700)
    return ObjectStore(settings.store)


async def _forget(_: str) -> None:
    return


@contextmanager
def _our_errors(what: str) -> Iterator[None]:
    """obstore's errors as ours."""
    try:
        yield
    except ParamedicError:
        raise
    except (BaseError, OSError, ValueError, NotImplementedError) as error:
        text = str(error)
        if isinstance(error, FileNotFoundError) and "<Code>" not in text:
            raise NotFound(f"{what}: there is no such object") from None
        raise failure(what, body=text) from None


def _info(meta: Any, attributes: dict[Any, str]) -> Info:
    return Info(meta["path"], meta["size"], meta["last_modified"], {str(k).lower(): v for k, v in attributes.items()})


def _attributes(metadata: Mapping[str, str], sha256: str) -> dict[str, str]:
    """Printable ASCII, and no more than every store takes."""
    found = {"Content-Type": "application/octet-stream", "sha256": sha256}
    left = _MAX_METADATA_BYTES
    for name, value in metadata.items():
        plain = "".join(char if 32 < ord(char) < 127 else "_" for char in value)[:256]
        left -= len(name) + len(plain)
        if plain and left >= 0:
            found[name] = plain
    return found


def _size(source: Path) -> int:
    try:
        return source.stat().st_size
    except OSError as error:
        raise InvalidInput(f"{source.name} cannot be read: {error.strerror}") from None


def _sha256_of(source: Path) -> str:
    try:
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidInput(f"{source.name} cannot be read: {error.strerror}") from None
