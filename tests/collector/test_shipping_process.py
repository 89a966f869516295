"""The agent as a process: killed in the middle of an upload to a real S3-compatible server, and its memory."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from collector.local_file import LocalFile
from collector.outbox import Outbox
from incidents.collected import CollectedCore
from tests.standins import crashing, s3
from tests.standins.shipping import Depot
from tools.objectstore.store import ObjectStore

pytestmark = [pytest.mark.gdb, pytest.mark.system]
_SPARSE = 1 << 29
_MOST_MB = 150


@pytest.fixture
def server(tmp_path: Path) -> Iterator[s3.S3Server]:
    if (reason := s3.missing()) is not None:
        pytest.skip(reason)
    running = s3.S3Server(tmp_path / "s3").start()
    yield running
    running.kill()


async def _child(folder: Path, endpoint: str, **store: Any) -> asyncio.subprocess.Process:
    given = {
        "folder": str(folder),
        "store": {
            "url": f"s3://{s3.BUCKET}",
            "endpoint": endpoint,
            "access_key": s3.ACCESS,
            "secret_key": s3.SECRET,
            **store,
        },
        "shipping": {"disk_reserve_bytes": 0, "retry_seconds": 0.2, "full_core": "always"},
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.standins.shipping_child",
        json.dumps(given),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )


def _told(folder: Path) -> list[CollectedCore]:
    return [CollectedCore.model_validate_json(line) for line in (folder / "told").read_text().splitlines()]


async def test_killed_in_an_upload_and_the_server_too(tmp_path: Path, server: s3.S3Server) -> None:
    depot = Depot(tmp_path)
    content = os.urandom(22 << 20)
    path = depot.core(content=content)  # cannot be reduced: stored whole
    agent = tmp_path / "process"
    outbox = Outbox(agent / "outbox.db")
    outbox.add(depot.record(path), LocalFile.at(path))

    def sent() -> int:
        known = [json.loads(one.upload) for one in outbox.objects("core_1") if one.upload]
        return len(known[0]["etags"]) if known else 0

    async with s3.Proxy(server.port).running() as proxy:
        proxy.mode = "slow"
        endpoint = f"http://127.0.0.1:{proxy.port}"
        first = await _child(agent, endpoint, part_bytes=5 << 20)
        async with asyncio.timeout(60):
            while sent() < 2:
                await asyncio.sleep(0.02)
        first.send_signal(signal.SIGKILL)
        await first.wait()
        server.kill()
        before, parts = proxy.bytes_up, sent()
        assert parts < 5
        proxy.mode = "pass"
        second = await _child(agent, endpoint, part_bytes=5 << 20)
        await asyncio.sleep(1)  # it meets a store that is down
        server.start()
        async with asyncio.timeout(60):
            await second.communicate()
        assert proxy.bytes_up - before < len(content) - (parts - 1) * (5 << 20) + (1 << 20)
    assert not path.exists()
    assert {told.id for told in _told(agent)} == {"core_1"}
    [one] = _told(agent)[0].stored
    stored = b"".join([chunk async for chunk in ObjectStore(server.settings()).get(one.key)])
    assert zstandard.ZstdDecompressor().stream_reader(stored, read_across_frames=True).read() == content
    outbox.close()


async def test_a_sparse_core_of_half_a_gb_takes_little_memory(tmp_path: Path, server: s3.S3Server) -> None:
    crashing.require_tools()
    depot = Depot(tmp_path)
    path = tmp_path / "cores" / "core"
    shutil.copy(crashing.core("null"), path)
    with path.open("r+b") as file:
        file.truncate(_SPARSE)
        for place in range(1, 9):  # so that there are several parts to send
            file.seek(place * (_SPARSE // 10))
            file.write(os.urandom(3 << 20))
    agent = tmp_path / "process"
    outbox = Outbox(agent / "outbox.db")
    record = depot.record(None).model_copy(update={"size": _SPARSE})
    outbox.add(record, LocalFile.at(path))
    outbox.close()
    process = await _child(agent, server.endpoint)
    async with asyncio.timeout(100):
        out, _ = await process.communicate()
    own, children = json.loads(out.splitlines()[-1])
    assert max(own, children) < _MOST_MB, (own, children)
    assert sorted(one.kind for one in _told(agent)[0].stored) == ["full", "minimal"]
    assert 20 << 20 < max(one.size for one in _told(agent)[0].stored) < 40 << 20
