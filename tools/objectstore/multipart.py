"""Multi-part uploads to S3 that another process can go on with.

obstore forgets an upload with the call that began it, so these few requests are made here: what was sent is remembered
by upload id and parts. Every part is signed with its sha256 and sent with its MD5; the store checks both.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from errors import InvalidInput, ToolFailed
from tools.objectstore.failures import Damaged, StoreUnreachable, failure
from tools.objectstore.signing import Keys, canonical_query, sign
from tools.trust import trusted

MAX_PARTS = 10_000
_PIECE = 1 << 18
_UPLOAD_ID = re.compile(r"<UploadId>([^<]{1,1000})</UploadId>")
_MD5 = re.compile(r"[0-9a-f]{32}")
Remember = Callable[[str], Awaitable[None]]


class Upload(BaseModel):
    """What is known of an upload under way; of use only for the same bytes under the same key."""

    model_config = ConfigDict(extra="forbid")

    key: str
    sha256: str
    size: int
    part_bytes: int
    id: str
    etags: list[str]
    confirmed: bool = True
    """Whether every ETag so far was the MD5 of its part: the store has computed it from what arrived."""


class Multipart:
    def __init__(
        self, bucket_url: str, region: str, keys: Keys, *, part_bytes: int, timeout: float, trust: ssl.SSLContext | None
    ) -> None:
        """`bucket_url` is what an object's key is appended to, ending with a slash."""
        self._base = httpx.URL(bucket_url)
        self._region, self._keys, self._part_bytes = region, keys, part_bytes
        self._timeout, self._trust = timeout, trust

    async def put(
        self, source: Path, key: str, sha256: str, metadata: Mapping[str, str], known: str | None, remember: Remember
    ) -> bool:
        """Store `source` (whose bytes have `sha256`) under `key`; whether the store's checksums confirm it.

        `known` is what `remember` was last given, by any process. Raises StoreUnreachable, StoreDenied, Damaged,
        NotFound (no such bucket), UploadGone (begin anew).
        """
        size = (await asyncio.to_thread(source.stat)).st_size
        part_bytes = max(self._part_bytes, -(-size // MAX_PARTS))
        async with httpx.AsyncClient(timeout=self._timeout, verify=self._trust or trusted()) as client:
            upload = _matching(known, key, sha256, size)
            if upload is None:
                answer = await self._request(client, "POST", key, {"uploads": ""}, headers=metadata)
                found = _UPLOAD_ID.search(answer.text)
                if found is None:
                    raise ToolFailed(f"storing {key}: the store began no multi-part upload")
                upload = Upload(
                    key=key, sha256=sha256, size=size, part_bytes=part_bytes, id=unescape(found[1]), etags=[]
                )
                await remember(upload.model_dump_json())
            else:  # asked first: an answer that comes while a part is being sent may be lost with the connection
                await self._request(client, "GET", key, {"uploadId": upload.id, "max-parts": "1"})
            while len(upload.etags) * upload.part_bytes < size:
                await self._part(client, source, upload)
                await remember(upload.model_dump_json())
            return await self._complete(client, upload) and upload.confirmed

    async def abort(self, known: str) -> None:
        """Tell the store that the upload will not be finished. Raises as `put` does."""
        try:
            upload = Upload.model_validate_json(known)
        except ValidationError:
            return
        async with httpx.AsyncClient(timeout=self._timeout, verify=self._trust or trusted()) as client:
            await self._request(client, "DELETE", upload.key, {"uploadId": upload.id})

    async def _part(self, client: httpx.AsyncClient, source: Path, upload: Upload) -> None:
        number = len(upload.etags) + 1
        start = (number - 1) * upload.part_bytes
        part = await asyncio.to_thread(_Part, source, start, min(upload.part_bytes, upload.size - start))
        answer = await self._request(
            client,
            "PUT",
            upload.key,
            {"partNumber": str(number), "uploadId": upload.id},
            headers={"content-md5": base64.b64encode(part.md5).decode()},
            body=part,
        )
        etag = answer.headers.get("etag", "")
        plain = etag.strip('"').lower()
        if plain != part.md5.hex():
            if _MD5.fullmatch(plain) and not _own_etags(answer):
                raise Damaged(f"storing {upload.key}: the store holds other bytes than part {number} has")
            upload.confirmed = False
        upload.etags.append(etag)

    async def _complete(self, client: httpx.AsyncClient, upload: Upload) -> bool:
        """Whether the ETag of the whole is the one that its parts make."""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag.replace('&', '').replace('<', '')}</ETag></Part>"
            for number, etag in enumerate(upload.etags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        answer = await self._request(
            client, "POST", upload.key, {"uploadId": upload.id}, headers={"content-type": "application/xml"}, body=body
        )
        if "<Error>" in answer.text:  # S3 says 200 first and may find out later
            raise failure(f"storing {upload.key}", status=500, body=answer.text)
        return composite_etag(upload.etags) in answer.text.lower()

    async def _request(
        self,
        client: httpx.AsyncClient,
        method: str,
        key: str,
        query: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | _Part = b"",
    ) -> httpx.Response:
        path = self._base.path + key
        host = self._base.netloc.decode("ascii")
        digest = body.sha256 if isinstance(body, _Part) else hashlib.sha256(body).hexdigest()
        signed = sign(
            self._keys,
            self._region,
            method,
            host=host,
            path=path,
            query=query,
            headers=headers or {},
            payload_sha256=digest,
            at=datetime.now(UTC),
        )
        url = self._base.copy_with(raw_path=f"{path}?{canonical_query(query)}".encode("ascii"))
        what = f"storing {key}"
        try:
            if isinstance(body, _Part):
                signed["content-length"] = str(body.size)
                answer = await client.request(method, url, headers=signed, content=body.pieces())
            else:
                answer = await client.request(method, url, headers=signed, content=body or None)
        except httpx.HTTPError as error:
            raise StoreUnreachable(f"{what}: the store cannot be reached ({type(error).__name__})") from None
        if not answer.is_success:
            raise failure(what, status=answer.status_code, body=answer.text[:4096])
        return answer


def composite_etag(etags: list[str]) -> str:
    """The ETag of an object in parts, as S3 and those like it make it: the MD5 of the parts' MD5s, and their number."""
    try:
        whole = b"".join(bytes.fromhex(etag.strip('"')) for etag in etags)
    except ValueError:
        return "no such etag"
    return f"{hashlib.md5(whole, usedforsecurity=False).hexdigest()}-{len(etags)}"


def _own_etags(answer: httpx.Response) -> bool:
    """Whether the store encrypts with keys of its own, so that its ETags are no checksums."""
    return answer.headers.get("x-amz-server-side-encryption", "") not in ("", "AES256")


def _matching(known: str | None, key: str, sha256: str, size: int) -> Upload | None:
    if known is None:
        return None
    try:
        upload = Upload.model_validate_json(known)
    except ValidationError:
        return None
    return upload if (upload.key, upload.sha256, upload.size) == (key, sha256, size) else None


class _Part:
    """A part of a file, read once for its checksums and again when it is sent: never as a whole in memory."""

    def __init__(self, source: Path, offset: int, size: int) -> None:
        """Blocking. Raises InvalidInput when the file does not hold it."""
        self._source, self._offset, self.size = source, offset, size
        md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        for piece in self._read():
            md5.update(piece)
            sha256.update(piece)
        self.md5, self.sha256 = md5.digest(), sha256.hexdigest()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Raises InvalidInput."""
        pieces = self._read()
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece

    def _read(self) -> Iterator[bytes]:
        try:
            with self._source.open("rb", buffering=0) as file:
                file.seek(self._offset)
                left = self.size
                while left > 0:
                    piece = file.read(min(_PIECE, left))
                    if not piece:
                        raise InvalidInput(f"{self._source.name} became shorter")
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise InvalidInput(f"{self._source.name} cannot be read: {error.strerror}") from None
