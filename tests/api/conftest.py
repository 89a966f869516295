"""A real server on loopback around a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.standins.parts import Parts, Served, open_parts, served


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path, max_body_bytes=64 * 1024, max_upload_bytes=2 << 20) as opened:
        yield opened


@pytest.fixture
async def service(parts: Parts) -> AsyncIterator[Served]:
    async with served(parts) as running:
        yield running
