"""Encryption of what is stored, so that whoever runs the store cannot read it.

A file is: `PMDCENC1`, one byte with the length of the key's id, the id, 32 random bytes, the size of a chunk as four
bytes (big endian); then chunks. Each holds that many bytes, the last one fewer or as many, encrypted with AES-256-GCM
and followed by its tag of 16 bytes. Their key is HKDF-SHA256 of the named key with the random bytes as salt and
everything before the first chunk as info, so a changed header decrypts nothing. The nonce of chunk n is seven zero
bytes, n as four bytes, and 1 for the last chunk, else 0 (the STREAM construction): chunks cannot be left out, swapped,
doubled or cut off unnoticed.

The key file has one key a line: an id, and 32 bytes in base64. The first encrypts, all of them decrypt.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from errors import InvalidInput, UnusableCore
from tools.objectstore.failures import Damaged

MAGIC = b"PMDCENC1"
CHUNK = 1 << 20
_MAX_CHUNK = 16 << 20
_TAG = 16
_SALT = 32
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Keyring:
    """The keys of a key file, by their ids."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._keys = keys
        self.first = next(iter(keys))
        """Id of the key that encrypts."""

    @classmethod
    def load(cls, file: Path) -> Keyring:
        """Blocking. Raises InvalidInput; its message holds nothing of the file."""
        try:
            lines = file.read_text(encoding="ascii").splitlines()
        except (OSError, ValueError) as error:
            raise InvalidInput(f"store.encryption_key_file cannot be read: {type(error).__name__}") from None
        keys: dict[str, bytes] = {}
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            try:
                key = base64.b64decode(words[1], validate=True) if len(words) == 2 else b""
            except (binascii.Error, ValueError):
                key = b""
            if len(key) != 32 or not _ID.fullmatch(words[0]) or words[0] in keys:
                raise InvalidInput(
                    f"line {number} of store.encryption_key_file is not an id of its own and 32 bytes in base64"
                )
            keys[words[0]] = key
        if not keys:
            raise InvalidInput("store.encryption_key_file holds no key")
        return cls(keys)

    def cipher(self, header: bytes) -> AESGCM:
        """Of the file that begins with `header`. Raises UnusableCore when its key is not here."""
        length = header[len(MAGIC)]
        name = header[len(MAGIC) + 1 :][:length].decode("ascii", "replace")
        if name not in self._keys:
            raise UnusableCore(f"it is encrypted with the key {name[:64]!a}, which store.encryption_key_file lacks")
        salt = header[len(MAGIC) + 1 + length :][:_SALT]
        return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=header).derive(self._keys[name]))


class Encryptor:
    """Encrypts a stream with the keyring's first key."""

    def __init__(self, ring: Keyring) -> None:
        name = ring.first.encode("ascii")
        self._out = MAGIC + bytes([len(name)]) + name + os.urandom(_SALT) + CHUNK.to_bytes(4, "big")
        self._cipher = ring.cipher(self._out)
        self._pieces: list[bytes] = []
        self._held = 0
        self._count = 0

    def update(self, data: bytes) -> bytes:
        """What can be written after `data` was added."""
        self._pieces.append(data)
        self._held += len(data)
        if self._held <= CHUNK:  # one chunk is held back: it may be the last
            return b""
        view = memoryview(b"".join(self._pieces))
        full = (len(view) - 1) // CHUNK
        sealed = [self._chunk(view[n * CHUNK : (n + 1) * CHUNK], last=False) for n in range(full)]
        self._pieces = [bytes(view[full * CHUNK :])]
        self._held = len(self._pieces[0])
        return b"".join(sealed)

    def finish(self) -> bytes:
        """The end of the file."""
        return self._chunk(b"".join(self._pieces), last=True)

    def _chunk(self, data: bytes | memoryview, *, last: bool) -> bytes:
        """The first one comes with the header before it."""
        sealed = self._out + self._cipher.encrypt(_nonce(self._count, last), data, None)
        self._out = b""
        self._count += 1
        return sealed


async def decrypted(stream: AsyncIterator[bytes], ring: Keyring | None) -> AsyncIterator[bytes]:
    """The plain bytes. What comes out before an error is authentic, but it is not all.

    Raises UnusableCore (another key, or none), Damaged (changed, cut off, or not encrypted by us).
    """
    if ring is None:
        raise UnusableCore("it is encrypted, and store.encryption_key_file names no keys")
    buffer = bytearray()
    cipher: AESGCM | None = None
    count, size = 0, 0
    async for data in stream:
        buffer += data
        if cipher is None:
            end = _header_end(buffer)
            if end is None:
                continue
            header = bytes(buffer[:end])
            size = int.from_bytes(header[-4:], "big")
            if not 0 < size <= _MAX_CHUNK:
                raise Damaged("the encrypted file's header makes no sense")
            cipher = ring.cipher(header)
            del buffer[:end]
        while len(buffer) > size + _TAG:
            yield _opened(cipher, bytes(buffer[: size + _TAG]), count, last=False)
            del buffer[: size + _TAG]
            count += 1
    if cipher is None:
        raise Damaged("the encrypted file ends within its header")
    yield _opened(cipher, bytes(buffer), count, last=True)


def _header_end(data: bytearray) -> int | None:
    """Where the header ends, None while too little of it is there. Raises Damaged for another kind of file."""
    if not MAGIC.startswith(bytes(data[: len(MAGIC)])):
        raise Damaged("it is not a file that was encrypted here")
    if len(data) <= len(MAGIC):
        return None
    end = len(MAGIC) + 1 + data[len(MAGIC)] + _SALT + 4
    return end if len(data) >= end else None


def _nonce(count: int, last: bool) -> bytes:
    return bytes(7) + count.to_bytes(4, "big") + bytes([last])


def _opened(cipher: AESGCM, sealed: bytes, count: int, *, last: bool) -> bytes:
    try:
        return cipher.decrypt(_nonce(count, last), sealed, None)
    except (InvalidTag, ValueError):
        raise Damaged(
            "the encrypted file was changed or cut off, or the key of this id is another one"
            if count == 0
            else f"the encrypted file was changed or cut off at chunk {count}"
        ) from None
