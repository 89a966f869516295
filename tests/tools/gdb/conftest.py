"""Every test of this folder but the pure ones needs gdb and a compiler."""

from __future__ import annotations

import pytest

from tests.standins import crashing


@pytest.fixture(autouse=True)
def _tools() -> None:
    crashing.require_tools()
