"""Fixtures around the Feishu stand-in; a room's conftest.py imports what it uses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.standins.feishu import FeishuStandIn, SharedServer


@pytest.fixture(scope="session")
def feishu_server() -> Iterator[SharedServer]:
    server = SharedServer()
    server.thread.start()
    yield server
    server.thread.stop()


@pytest.fixture
async def feishu(feishu_server: SharedServer) -> AsyncIterator[FeishuStandIn]:
    """A fresh tenant for each test."""
    async with FeishuStandIn(served_by=feishu_server) as running:
        yield running
