"""Disks that are nearly full, and files that they do not let go of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from collector.local_file import LocalFile
from collector.outbox import State
from incidents.collected import CollectedCore, Completeness
from tests.standins import crashing
from tests.standins.shipping import Depot

pytestmark = pytest.mark.gdb


@pytest.fixture(autouse=True)
def _tools() -> None:
    crashing.require_tools()


async def test_with_the_disk_nearly_full_the_least_valuable_go_first(tmp_path: Path) -> None:
    depot = Depot(tmp_path, full_core="always", disk_reserve_bytes=1000)
    shutil.rmtree(tmp_path / "store")
    paths = {n: depot.add(f"core{n}", f"core_{n}", value=float(n)) for n in range(4)}
    await depot.ship(lambda: depot.states() == {State.REDUCED: 4})
    unreduced = depot.add("new", "core_new", value=0.5)
    text = depot.add("odd", "core_odd", content=b"no core " * 100, value=0.1)

    def free(_: Path) -> int:
        return 500 if sum(p.exists() for p in (text, unreduced, *paths.values())) > 3 else 5000

    room = depot.shipper()._room
    room._free = free
    await room.make(())
    assert [n for n, path in paths.items() if path.exists()] == [1, 2, 3]
    assert not unreduced.exists()
    assert not text.exists()
    (tmp_path / "store").mkdir()
    await depot.ship()
    told = {record.id: record for record in depot.told}
    assert [one.kind for one in told["core_0"].stored] == ["minimal"]
    assert "disk was full" in (told["core_0"].lost or "")
    assert [one.kind for one in told["core_new"].stored] == ["minimal"]
    assert told["core_odd"].stored == []
    assert "disk was full" in (told["core_odd"].lost or "")
    for n in (1, 2, 3):
        assert len(told[f"core_{n}"].stored) == 2
        assert told[f"core_{n}"].lost is None


async def test_a_disk_too_full_for_the_whole_core_stores_the_reduced_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from collector import pack

    left = iter([1 << 60, 10])
    monkeypatch.setattr(pack, "free_bytes", lambda _: next(left))
    depot = Depot(tmp_path)
    depot.add()
    await depot.ship()
    assert [one.kind for one in depot.told[0].stored] == ["minimal"]
    assert "nearly full" in (depot.told[0].lost or "")


async def test_a_file_that_cannot_be_removed_holds_up_nothing_and_is_not_tried_without_end(tmp_path: Path) -> None:
    depot = Depot(tmp_path, full_core="never", disk_reserve_bytes=1000)
    locked = tmp_path / "cores" / "locked"
    locked.mkdir()
    first = locked / "core"
    shutil.copy(crashing.core("null"), first)
    depot.outbox.add(depot.record(first), LocalFile.at(first))
    told = depot._announce

    async def lock(record: CollectedCore) -> None:
        """The folder cannot be opened from now on; a mode would not keep root out."""
        await told(record)
        if locked.is_dir():
            locked.rename(tmp_path / "aside")
            locked.symlink_to(locked)

    depot._announce = lock  # type: ignore[method-assign]
    with capture_logs() as logs:
        await depot.ship(lambda: any(entry.get("seconds") == 3600.0 for entry in logs))
        assert depot.states() == {State.ANNOUNCED: 1}
        depot.free = 0  # room is to be made, and cannot
        second = depot.add("second", "core_2", content=b"another core" * 99, completeness=Completeness.NOT_A_CORE)
        await depot.ship(lambda: depot.states() == {State.ANNOUNCED: 1, State.REMOVED: 1})
    assert second.exists() and [record.id for record in depot.told] == ["core_1", "core_2"]
    assert {"a core's file cannot be removed"} == {entry["event"] for entry in logs if entry["log_level"] != "info"}


async def test_what_cannot_be_removed_is_not_given_up_for_room(tmp_path: Path) -> None:
    depot = Depot(tmp_path, disk_reserve_bytes=1000)
    path = depot.folder / "cores" / "locked" / "core"
    path.parent.mkdir()
    shutil.copy(crashing.core("null"), path)
    depot.outbox.add(depot.record(path), LocalFile.at(path))
    path.parent.rename(tmp_path / "aside")
    path.parent.symlink_to(path.parent)
    shipper = depot.shipper()
    depot.free = 0
    await shipper._room.make([])
    item = depot.outbox.item("core_1")
    assert (item.state, item.disposal, item.record.lost) == (State.COLLECTED, None, None)
