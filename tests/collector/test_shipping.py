"""From the outbox to the store: whatever happens in between, a core is stored once, or its loss is told."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import zstandard

from collector.local_file import LocalFile
from collector.outbox import State
from collector.reduce import Program
from errors import ToolFailed
from incidents.collected import CollectedCore, Completeness
from settings import StoreSettings
from tests.standins import crashing
from tests.standins.shipping import Depot, Killed
from tools.objectstore.encryption import MAGIC

pytestmark = pytest.mark.gdb


@pytest.fixture(autouse=True)
def _tools() -> None:
    crashing.require_tools()


def _plain(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_a_core_is_stored_reduced_and_whole_then_told_then_removed(tmp_path: Path) -> None:
    depot = Depot(tmp_path)
    path = depot.add()
    content = path.read_bytes()
    await depot.ship()
    assert not path.exists()
    assert depot.left_over() == []
    [told] = depot.told
    assert sorted(one.kind for one in told.stored) == ["full", "minimal"]
    objects = depot.objects()
    assert sorted(objects) == sorted(one.key for one in told.stored)
    for one in told.stored:
        data = objects[one.key]
        assert (one.size, one.sha256) == (len(data), _sha256(data))
        folder, name = one.key.rsplit("/", 1)
        assert folder == "paramedic/prod/api/2026-11-21"
        assert name == f"{_sha256(_plain(data))}.core.zst"
    full = next(one for one in told.stored if one.kind == "full")
    minimal = next(one for one in told.stored if one.kind == "minimal")
    assert _plain(objects[full.key]) == content
    assert _plain(objects[minimal.key]) != content
    beside = json.loads((tmp_path / "store/paramedic/prod/api/2026-11-21/core_1.json").read_text())
    assert CollectedCore.model_validate(beside) == told
    # the same crash again, by another process: known now, and of no special value
    again = depot.core("again")
    depot.outbox.add(depot.record(again, "core_2"), LocalFile.at(again))
    await depot.ship()
    assert [one.kind for one in depot.told[1].stored] == ["minimal"]


async def test_copies_of_a_core_are_told_once_and_go_with_it(tmp_path: Path) -> None:
    depot = Depot(tmp_path)
    content = os.urandom(1000)
    first, early = depot.add("core", content=content), depot.add("early", content=content)
    await depot.ship()
    late = depot.core("late", content=content)
    shipper = depot.shipper()
    await shipper.take(depot.record(late), LocalFile.at(late))
    assert [path for path in (first, early, late) if path.exists()] == []
    assert len(depot.told) == 1


async def test_a_copy_goes_when_it_got_the_inode_of_the_core_that_went(tmp_path: Path) -> None:
    """File systems give a free inode to the next file: device and inode alone do not tell a copy from the core."""
    depot = Depot(tmp_path)
    content = os.urandom(1000)
    first = depot.core("core", content=content)
    depot.outbox.add(depot.record(first), LocalFile.at(first))
    late = first.with_name("late")
    os.link(first, late)  # the same device and inode, surely
    await depot.ship()
    shipper = depot.shipper()
    await shipper.take(depot.record(late), LocalFile.at(late))
    assert not late.exists()
    assert len(depot.told) == 1


async def test_killed_at_any_step_it_ends_the_same(tmp_path: Path) -> None:
    count, steps = 0, 1
    while count < steps:
        folder = tmp_path / str(count)
        folder.mkdir()
        depot = Depot(folder)
        path = depot.add()
        content = _sha256(path.read_bytes())
        depot.kill_at = count
        try:
            await depot.ship()
        except Killed:
            steps = max(steps, count + 2)
            depot.kill_at = -1
            await depot.ship()
        assert not path.exists()
        assert depot.left_over() == []
        assert {told.id for told in depot.told} == {"core_1"}
        assert all(told == depot.told[0] for told in depot.told), "told twice must be the same"
        objects = depot.objects()
        assert sorted(objects) == sorted(one.key for one in depot.told[0].stored)
        assert sum(f"/{content}.core" in key for key in objects) == 1
        assert all(_sha256(objects[one.key]) == one.sha256 for one in depot.told[0].stored)
        assert depot.states() == {State.REMOVED: 1}
        count += 1
    assert count > 15, "there are not that few steps"


async def test_a_store_that_is_down_loses_nothing_and_one_bad_core_holds_up_no_other(tmp_path: Path) -> None:
    depot = Depot(tmp_path, full_core="never")
    shutil.rmtree(tmp_path / "store")
    paths = [depot.add(f"core{n}", f"core_{n}", value=float(n)) for n in range(3)]
    text = depot.add("text", "core_text", content=b"this is no core at all\n" * 100)
    gone = depot.add("gone", "core_gone")
    gone.unlink()
    depot.outbox._db.execute(
        "INSERT INTO items SELECT 'core_bad','{','collected',9,0,NULL,NULL,NULL,NULL,NULL,NULL,'[]'"
    )
    await depot.ship(lambda: depot.states().get(State.REDUCED) == 4)
    assert all(path.exists() for path in paths)
    assert [told.id for told in depot.told] in ([], ["core_gone"])
    (tmp_path / "store").mkdir()
    await depot.ship(lambda: depot.states().get(State.REMOVED) == 5)
    told = {record.id: record for record in depot.told}
    assert sorted(told) == ["core_0", "core_1", "core_2", "core_gone", "core_text"]
    assert not any(path.exists() for path in paths)
    assert told["core_gone"].lost is not None
    assert "gone" in told["core_gone"].lost or "cannot be read" in told["core_gone"].lost
    assert told["core_gone"].stored == []
    [whole] = told["core_text"].stored  # it was said to be a core and cannot be reduced: nothing is thrown away
    assert whole.kind == "full"
    assert not text.exists()
    assert depot.states() == {State.REMOVED: 5, State.COLLECTED: 1}


async def test_what_is_no_core_stays_and_a_crash_without_one_is_told(tmp_path: Path) -> None:
    depot = Depot(tmp_path)
    path = depot.add(content=b"notes", completeness=Completeness.NOT_A_CORE, reason="not an ELF file")
    depot.outbox.add(depot.record(None, "core_none", completeness=Completeness.MISSING, reason="its limit is 0"), None)
    await depot.ship()
    assert path.read_bytes() == b"notes"
    assert sorted(told.id for told in depot.told) == ["core_1", "core_none"]
    assert depot.objects() == {}


@pytest.mark.parametrize(("how", "left"), [("truncate", b""), ("keep", None)])
async def test_the_file_on_the_node_can_stay(tmp_path: Path, how: str, left: bytes | None) -> None:
    depot = Depot(tmp_path, local_file=how, full_core="never")
    path = depot.add()
    content = path.read_bytes()
    await depot.ship()
    assert path.read_bytes() == (content if left is None else left)


async def test_an_announcement_that_fails_is_made_again_and_the_file_waits_for_it(tmp_path: Path) -> None:
    depot = Depot(tmp_path, full_core="never")
    path = depot.add()
    depot.refuse = ToolFailed("the service is down")
    await depot.ship(lambda: depot.states() == {State.STORED: 1} and depot.steps > 12)
    assert path.exists()
    depot.refuse = None
    await depot.ship()
    assert not path.exists()
    assert len(depot.told) == 1


async def test_what_is_prepared_and_damaged_is_prepared_again(tmp_path: Path) -> None:
    depot = Depot(tmp_path, full_core="never")
    depot.add()
    depot.kill_at = 2  # reduced, nothing stored
    with pytest.raises(Killed):
        await depot.ship()
    [staged] = depot.left_over()
    staged.write_bytes(staged.read_bytes()[:-1] + b"x")
    depot.kill_at = -1
    await depot.ship()
    [one] = depot.told[0].stored
    assert _sha256(_plain(depot.objects()[one.key])) in one.key


async def test_programs_are_stored_once_for_all_cores(tmp_path: Path) -> None:
    depot = Depot(tmp_path, full_core="never")
    program = Program(crashing.program(), "ab12" * 5, "executable")
    for n in range(2):
        path = depot.core(f"core{n}")
        depot.outbox.add(
            depot.record(path, f"core_{n}"),
            LocalFile.at(path),
            [program, Program(tmp_path / "none", "cd" * 20, "library")],
        )
        await depot.ship()
    stored = [[one for one in told.stored if one.build_id] for told in depot.told]
    assert stored[0] == stored[1]
    assert len(stored[0]) == 1
    digest = _sha256(program.path.read_bytes())
    assert stored[0][0].key == f"paramedic/build-id/ab/{('ab12' * 5)[2:]}/{digest}.zst"
    assert _plain(depot.objects()[stored[0][0].key]) == program.path.read_bytes()
    # another node has the same program
    before = (tmp_path / "store" / stored[0][0].key).stat().st_mtime_ns
    (tmp_path / "node2").mkdir()
    other = Depot(tmp_path / "node2", depot.store_settings, full_core="never")
    path = other.core()
    other.outbox.add(other.record(path, "core_2"), LocalFile.at(path), [program])
    await other.ship()
    assert stored[0][0] in other.told[0].stored
    assert (tmp_path / "store" / stored[0][0].key).stat().st_mtime_ns == before


async def test_what_is_stored_can_be_encrypted(tmp_path: Path) -> None:
    import base64

    keys = tmp_path / "keys"
    keys.write_text("k1 " + base64.b64encode(b"canary-key-of-thirty-two-bytes!!").decode())
    depot = Depot(tmp_path, StoreSettings(url=(tmp_path / "store").as_uri(), encryption_key_file=keys))
    path = depot.add()
    await depot.ship()
    assert not path.exists()
    for one in depot.told[0].stored:
        assert one.encrypted
        assert one.key.endswith(".core.zst.enc")
        assert depot.objects()[one.key].startswith(MAGIC)


async def test_a_file_that_is_another_than_the_recorded_one_is_not_stored_as_it(tmp_path: Path) -> None:
    depot = Depot(tmp_path, full_core="always")
    swapped, rewritten = depot.core("swapped", content=b"a core" * 99), depot.core("rewritten", content=b"a core" * 88)
    told = {path: (depot.record(path, f"core_{path.name}"), LocalFile.at(path)) for path in (swapped, rewritten)}
    depot.core("new", content=b"another core" * 99).rename(swapped)
    times = rewritten.stat()
    rewritten.write_bytes(b"A CORE" * 88)
    os.utime(rewritten, ns=(times.st_atime_ns, times.st_mtime_ns))
    for record, file in told.values():
        depot.outbox.add(record, file)
    await depot.ship()
    lost = {record.id: record.lost or "" for record in depot.told}
    assert "another file stands in the place" in lost["core_swapped"]
    assert "was written to after it was collected" in lost["core_rewritten"]
    assert depot.objects() == {} and depot.left_over() == []
    assert swapped.read_bytes() == b"another core" * 99 and rewritten.exists()


async def test_many_at_once(tmp_path: Path) -> None:
    depot = Depot(tmp_path, full_core="never", parallel=4)
    shipper = depot.shipper()
    stop = asyncio.Event()
    running = asyncio.ensure_future(shipper.run(stop))
    for n in range(12):
        path = depot.core(f"core{n}", content=os.urandom(1000 + n))
        await shipper.take(depot.record(path, f"core_{n}", completeness=Completeness.NOT_A_CORE), LocalFile.at(path))
    async with asyncio.timeout(90):
        while depot.states() != {State.REMOVED: 12}:
            await asyncio.sleep(0.02)
    stop.set()
    await running
    assert sorted(told.id for told in depot.told) == sorted(f"core_{n}" for n in range(12))
