"""Encrypted files: only the right key opens them, and nothing of them can be changed, moved, doubled or cut off."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from errors import InvalidInput, UnusableCore
from tools.objectstore.encryption import CHUNK, MAGIC, Encryptor, Keyring, decrypted
from tools.objectstore.failures import Damaged

_SEALED = CHUNK + 16


def _ring(*names: str) -> Keyring:
    return Keyring({name: name.encode().ljust(32, b".") for name in names})


def _encrypted(data: bytes, ring: Keyring, step: int = 700_001) -> bytes:
    encryptor = Encryptor(ring)
    pieces = [encryptor.update(data[at : at + step]) for at in range(0, len(data), step)]
    return b"".join(pieces) + encryptor.finish()


async def _plain(data: bytes, ring: Keyring | None, step: int = 300_007) -> bytes:
    async def stream() -> AsyncIterator[bytes]:
        for at in range(0, len(data), step):
            yield data[at : at + step]

    return b"".join([piece async for piece in decrypted(stream(), ring)])


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5])
async def test_round_trip(size: int) -> None:
    data = os.urandom(size)
    sealed = _encrypted(data, _ring("2026-a"))
    assert len(sealed) == len(MAGIC) + 1 + 6 + 32 + 4 + size + 16 * max(1, -(-size // CHUNK))
    assert await _plain(sealed, _ring("2026-b", "2026-a")) == data
    assert await _plain(sealed, _ring("2026-a"), step=1 << 22) == data
    assert sealed != _encrypted(data, _ring("2026-a"))


async def test_what_was_changed_does_not_open() -> None:
    ring = _ring("k")
    data = os.urandom(2 * CHUNK + 100)
    sealed = _encrypted(data, ring)
    head = len(sealed) - (2 * _SEALED + 116)
    first, second, last = sealed[head : head + _SEALED], sealed[head + _SEALED : head + 2 * _SEALED], sealed[-116:]
    header = sealed[:head]
    changed = {
        "salt": header[:12] + bytes([header[12] ^ 1]) + header[13:] + first + second + last,
        "chunk size": header[:-1] + b"\x01" + first + second + last,
        "bit": header + first[:-1] + bytes([first[-1] ^ 1]) + second + last,
        "swapped": header + second + first + last,
        "doubled": header + first + first + second + last,
        "left out": header + first + last,
        "last cut off": header + first + second,
        "cut within": sealed[:-1],
        "cut in header": sealed[: head - 1],
        "empty": b"",
        "more": sealed + b"\0",
        "two files": sealed + sealed,
        "another file": b"\x28\xb5\x2f\xfd" + sealed,
        "huge chunk": header[:-4] + b"\xff\xff\xff\xff" + first,
        "empty chunk": header[:-4] + bytes(4) + first,
    }
    for what, bad in changed.items():
        with pytest.raises(Damaged):
            raise AssertionError(f"{what} opened: {len(await _plain(bad, ring))}")


async def test_the_key_matters() -> None:
    sealed = _encrypted(b"core", _ring("k"))
    with pytest.raises(UnusableCore, match="the key 'k', which"):
        await _plain(sealed, _ring("other"))
    with pytest.raises(UnusableCore, match="names no keys"):
        await _plain(sealed, None)
    with pytest.raises(Damaged, match="key of this id is another one"):
        await _plain(sealed, Keyring({"k": bytes(32)}))


def test_key_files(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    key = base64.b64encode(b"k" * 32).decode()
    file.write_text(f"# newest first\n2026-11 {key}\n\n2026-01 {key}\n")
    assert Keyring.load(file).first == "2026-11"
    for bad in (
        "",
        "# none\n",
        f"{key}\n",
        f"a {key[:-4]}\n",
        "a canary-not-base64!\n",
        f"a b {key}\n",
        f"a {key}\na {key}\n",
    ):
        file.write_text(bad)
        with pytest.raises(InvalidInput) as caught:
            Keyring.load(file)
        assert "canary" not in str(caught.value)
        assert key[:8] not in str(caught.value)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="cannot be read"):
        Keyring.load(file)
