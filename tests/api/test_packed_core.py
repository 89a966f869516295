"""A core that comes packed through the API: the same report, which says what it was packed with."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from graph.services import open_services
from settings import Settings
from tests.standins import crashing
from tests.standins.parts import served


@pytest.mark.gdb
async def test_a_packed_core_is_uploaded_and_diagnosed(tmp_path: Path) -> None:
    crashing.require_tools()
    core = crashing.core("assert")
    settings = Settings(data_dir=tmp_path, kubernetes={"enabled": False}, api={"port": 0})
    async with open_services(settings) as services:
        await services.runner.start()
        async with served(services) as service:
            raw = {"Content-Type": "application/octet-stream"}
            packed = gzip.compress(core.read_bytes(), 1)
            stored = await service.client.post("/api/v1/uploads", content=packed, headers=raw)
            body = {"core": {"upload": stored.json()["id"]}, "event": "it crashed"}
            answer = await service.client.post("/api/v1/autofix?wait=60", json=body)
            found = answer.json()
    crash = found["diagnosis"]["crash"]
    assert crash["core"]["compression"] == "gzip"
    assert crash["core"]["size"] == core.stat().st_size
    assert crash["crash_info"]["assertion"].endswith("failed.")
    assert [path.name for path in tmp_path.rglob("unpack-*")] == []
