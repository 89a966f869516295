"""A core's file is read, emptied and removed only while it is that very file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from collector.local_file import LocalFile, dispose, opened
from errors import Conflict


@pytest.mark.parametrize("how", ["remove", "truncate"])
def test_only_the_very_file_is_disposed_of(tmp_path: Path, how: str) -> None:
    path, victim = tmp_path / "core", tmp_path / "victim"
    victim.write_bytes(b"precious")
    path.write_bytes(b"a core")
    file = LocalFile.at(path)
    path.unlink()
    assert dispose(file, how) == "gone"  # type: ignore[arg-type]
    path.symlink_to(victim)
    assert dispose(file, how) == "changed"  # type: ignore[arg-type]
    with pytest.raises(Conflict), opened(file):
        pass
    path.unlink()
    path.write_bytes(b"another one")
    assert dispose(file, how) == "changed"  # type: ignore[arg-type]
    assert path.read_bytes() == b"another one"
    path.unlink()
    os.mkfifo(path)
    assert dispose(file, how) == "changed"  # type: ignore[arg-type]
    assert victim.read_bytes() == b"precious"
    path.unlink()
    path.write_bytes(b"a core")
    with pytest.raises(Conflict, match="while it was read"), opened(LocalFile.at(path)):
        path.write_bytes(b"a core that grew")
