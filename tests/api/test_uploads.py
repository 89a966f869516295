"""Uploads: whole or not at all."""

from __future__ import annotations

import asyncio
import errno
import hashlib

import pytest

from api import uploads
from tests.standins.parts import Served

RAW = {"Content-Type": "application/octet-stream"}
URL = "/api/v1/uploads"


def left(service: Served) -> list[str]:
    return sorted(path.name for path in service.parts.uploads.glob("*")) if service.parts.uploads.exists() else []


async def test_an_upload_is_stored_hashed_and_usable_by_its_owner(service: Served):
    content = b"\x7fELF" + bytes(range(256)) * 5000  # more than one write
    answer = await service.client.post(URL, content=content, headers=RAW)
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert body["size"] == len(content) and body["sha256"] == hashlib.sha256(content).hexdigest()
    assert left(service) == [body["id"]]
    assert (service.parts.uploads / body["id"]).read_bytes() == content
    crash = {"core": {"upload": body["id"], "executable": body["id"]}}
    taken = await service.client.post("/api/v1/autofix", json=crash)
    assert taken.status_code == 202 and taken.json()["incident"]["core"]["upload"] == body["id"]


async def test_what_is_no_upload_leaves_nothing(service: Served):
    limit = service.parts.settings.api.max_upload_bytes
    for content, headers, status in (
        (b"", RAW, 400),
        (b"x", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
        (b"x", {}, 415),
        (b"x" * (limit + 1), RAW, 413),
    ):
        answer = await service.client.post(URL, content=content, headers=headers)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"

    async def endless():
        for _ in range(limit // 65536 + 2):
            yield b"x" * 65536

    assert (await service.client.post(URL, content=endless(), headers=RAW)).status_code == 413
    assert left(service) == []
    over_json_limit = b"x" * (service.parts.settings.api.max_body_bytes + 1)
    assert (await service.client.post(URL, content=over_json_limit, headers=RAW)).status_code == 201


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(service: Served):
    _, writer = await asyncio.open_connection("127.0.0.1", service.port)
    head = f"POST {URL} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {RAW['Content-Type']}\r\nContent-Length: 900000"
    writer.write(head.encode() + b"\r\n\r\n" + b"x" * 400_000)
    await writer.drain()
    for _ in range(6000):
        if left(service):
            break
        await asyncio.sleep(0.01)
    assert [name for name in left(service) if name.endswith(".part")]
    writer.close()
    for _ in range(6000):
        if not left(service):
            break
        await asyncio.sleep(0.01)
    assert left(service) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
async def test_a_full_or_broken_disk_is_a_507_and_leaves_nothing(service: Served, monkeypatch, number: int):
    def full(*_args: object) -> None:
        raise OSError(number, "as the kernel says it")

    monkeypatch.setattr(uploads, "_append", full)
    answer = await service.client.post(URL, content=b"x" * 10, headers=RAW)
    assert answer.status_code == 507 and answer.json()["title"] == "Storage is full"
    assert left(service) == []
