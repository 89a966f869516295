"""What the outbox takes, refuses and keeps."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from collector.local_file import LocalFile
from collector.outbox import Outbox
from errors import InvalidInput, NotFound, ToolFailed
from incidents.collected import StoredObject
from tests.standins import crashing
from tests.standins.shipping import Depot

pytestmark = pytest.mark.gdb


@pytest.fixture(autouse=True)
def _tools() -> None:
    crashing.require_tools()


def test_the_outbox_takes_a_core_once_and_no_odd_ones(tmp_path: Path) -> None:
    depot = Depot(tmp_path)
    path = depot.add()
    depot.outbox.add(depot.record(path, value=9.0), LocalFile.at(path))
    assert depot.outbox.item("core_1").record.value == 5.0
    link = tmp_path / "cores" / "link"
    link.symlink_to(path)
    fifo = tmp_path / "cores" / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "way").symlink_to(tmp_path / "cores")
    for odd in (link, fifo, tmp_path / "cores", tmp_path / "way" / "core"):
        with pytest.raises(InvalidInput):
            depot.outbox.add(depot.record(path, "core_odd"), LocalFile.at(odd))
    with pytest.raises(NotFound):
        depot.outbox.add(depot.record(path, "core_odd"), LocalFile.at(tmp_path / "cores" / "none"))
    for id in ("../x", "a/b", "", ".x"):
        with pytest.raises(InvalidInput):
            depot.outbox.add(depot.record(path, id), LocalFile.at(path))
    odd_name = tmp_path / "cores" / os.fsdecode(b"core.\xff\n")
    shutil.copy(path, odd_name)
    depot.outbox.add(depot.record(odd_name, "core_odd_name"), LocalFile.at(odd_name))
    file = depot.outbox.item("core_odd_name").file
    assert file is not None
    assert file.path == odd_name
    (tmp_path / "no.db").write_bytes(b"no database" * 1000)
    with pytest.raises(ToolFailed, match="cannot be opened"):
        Outbox(tmp_path / "no.db")


def test_stored_objects_survive_in_the_outbox(tmp_path: Path) -> None:
    depot = Depot(tmp_path)
    depot.add()
    one = StoredObject(kind="full", key="paramedic/a", size=1, sha256="a" * 64)
    record = depot.outbox.item("core_1").record.model_copy(update={"stored": [one]})
    depot.outbox.stored(record)
    assert depot.outbox.knows_group(record)
    depot.outbox.removed(record)
    assert depot.outbox.forget(0) == 0
    assert depot.outbox.forget(4e9) == 1
    with pytest.raises(NotFound):
        depot.outbox.item("core_1")
