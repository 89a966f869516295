"""A namespace that floods the node loses its own cores, the least valuable first, and is told so; no other one's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from collector.local_file import LocalFile
from collector.outbox import State
from incidents.collected import Completeness, Origin
from tests.standins import crashing
from tests.standins.shipping import Depot

pytestmark = pytest.mark.gdb


def dumped(depot: Depot, namespace: str, number: int, value: float, content: bytes | None = None) -> Path:
    """A core in the folder of its container, in the outbox."""
    path = depot.folder / "cores" / namespace / f"pod-{number}_{'0' * 31}{number}" / "app" / f"core.{number}"
    path.parent.mkdir(parents=True)
    if content is None:
        shutil.copy(crashing.core("null"), path)
    else:
        path.write_bytes(content)
    origin = Origin(namespace=namespace, pod=f"pod-{number}", container="app")
    more = {"completeness": Completeness.NOT_A_CORE} if content is not None else {}
    record = depot.record(path, f"core_{namespace}_{number}", origin=origin, value=value, **more)
    depot.outbox.add(record, LocalFile.at(path))
    return path


def room_of(paths: list[Path]) -> int:
    return sum(path.stat().st_blocks * 512 for path in paths if path.exists())


async def test_a_flood_costs_its_own_namespace_alone(tmp_path: Path) -> None:
    crashing.require_tools()
    each = room_of([Path(shutil.copy(crashing.core("null"), tmp_path / "copy"))])
    depot = Depot(tmp_path, full_core="always", namespace_bytes=2 * each)
    junk = dumped(depot, "flood", 9, 9.0, content=b"no core at all" * 1000)
    await depot.ship()
    assert junk.exists(), "what is no core stays"
    shutil.rmtree(tmp_path / "store")  # the store is down, and cores come
    flood = [dumped(depot, "flood", number, float(number)) for number in range(3)]
    other = dumped(depot, "other", 7, 0.1)
    fresh = tmp_path / "cores" / "flood" / f"pod-8_{'0' * 31}8" / "app" / "core.8"
    fresh.parent.mkdir(parents=True)
    fresh.write_bytes(b"x")  # not looked at yet
    await depot.ship(lambda: room_of(flood) <= 2 * each, roots=[tmp_path / "cores"])
    assert not junk.exists(), "what is done with goes first"
    assert other.exists() and fresh.exists()
    assert [path.exists() for path in flood] == [False] * 2 + [True], "no more than needed"
    (tmp_path / "store").mkdir()
    await depot.ship(lambda: depot.states() == {State.REMOVED: 5}, roots=[tmp_path / "cores"])
    told = {record.id: record for record in depot.told}
    for number in range(3):
        lost = told[f"core_flood_{number}"].lost
        assert (lost is not None) is (number < 2), number
        if lost is not None:
            assert "namespace flood had more on the node than its" in lost and "only the reduced core is stored" in lost
        assert told[f"core_flood_{number}"].stored, "the reduced one is stored all the same"
    assert told["core_other_7"].lost is None
    assert {one.kind for one in told["core_other_7"].stored} == {"minimal", "full"}


async def test_on_a_full_disk_the_namespace_that_has_most_gives_first(tmp_path: Path) -> None:
    crashing.require_tools()
    depot = Depot(tmp_path, full_core="always", disk_reserve_bytes=1000)
    shutil.rmtree(tmp_path / "store")
    flood = [dumped(depot, "flood", number, 9.0) for number in range(3)]
    other = dumped(depot, "other", 7, 0.1)

    def free(_: Path) -> int:
        return 0 if sum(path.exists() for path in flood) > 1 else 1 << 40

    shipper = depot.shipper()
    shipper._room._free = free
    (tmp_path / "agent" / "staging").mkdir(parents=True, exist_ok=True)
    await shipper._room.make([])
    assert sum(path.exists() for path in flood) == 1 and other.exists()
