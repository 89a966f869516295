"""A store of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from settings import StoreSettings
from tests.standins import s3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3Server]:
    if (reason := s3.missing()) is not None:
        pytest.skip(reason)
    running = s3.S3Server(tmp_path_factory.mktemp("s3")).start()
    yield running
    running.kill()


@pytest.fixture(params=["folder", "s3"])
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> StoreSettings:
    if request.param == "folder":
        (tmp_path / "objects").mkdir()
        return StoreSettings(url=(tmp_path / "objects").as_uri(), prefix=f"t{tmp_path.name}")
    running: s3.S3Server = request.getfixturevalue("server")
    return running.settings(prefix=f"t{tmp_path.name}")
