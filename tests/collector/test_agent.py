"""Real cores in a node's folder: each is handed over once, with what it is, whatever happens around it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest

from collector.agent import Agent
from collector.local_file import LocalFile
from collector.places import find_files, opened, pinned
from incidents.collected import CollectedCore, Completeness
from tests.collector.conftest import UID, Node
from tests.standins import crashing

pytestmark = pytest.mark.usefixtures("_tools")


@pytest.fixture
def _tools() -> None:
    crashing.require_tools()


def core() -> Path:
    return crashing.core("null")


async def test_a_core_is_collected_with_what_its_notes_and_its_place_say(node: Node) -> None:
    shutil.copy(core(), node.folder() / "core.shop.1")
    (record,) = await node.looks()
    assert record.completeness is Completeness.COMPLETE
    assert record.sha256 == hashlib.sha256(core().read_bytes()).hexdigest()
    assert (record.signal, record.executable) == (11, str(crashing.program()))
    assert record.build_ids[str(crashing.program())]
    assert record.origin is not None
    assert (record.origin.namespace, record.origin.pod, record.origin.pod_uid, record.origin.container) == (
        "team",
        "shop-7d9f-x2x",
        UID,
        "app",
    )
    assert record.signature and record.value and 0 < record.value <= 10
    [(_, file)] = node.taken
    assert file is not None and file.seal and file.seal not in record.model_dump_json()
    assert await node.looks() == []


async def test_on_a_plain_host_a_core_has_no_origin(node: Node) -> None:
    shutil.copy(core(), node.root / "core.1")
    (record,) = await node.looks()
    assert record.origin is None and record.node == "node1"


async def test_a_core_is_not_taken_at_the_first_look(node: Node) -> None:
    shutil.copy(core(), node.folder() / "core")
    assert await node.looks(1) == []
    assert node.agent.waiting
    assert len(await node.looks(1)) == 1


async def test_a_core_that_is_still_written_is_waited_for(node: Node) -> None:
    whole = core().read_bytes()
    path = node.folder() / "core"
    for end in range(0, len(whole), len(whole) // 10):  # 20 seconds of writing, each look sees it longer
        path.write_bytes(whole[:end])
        os.utime(path, ns=(0, time.time_ns() + end))
        assert await node.looks(1) == []
    path.write_bytes(whole)
    (record,) = await node.looks(2)
    assert record.sha256 == hashlib.sha256(whole).hexdigest()


async def test_a_core_that_stopped_growing_was_cut(node: Node) -> None:
    (node.folder() / "core").write_bytes(core().read_bytes()[:-5000])
    assert await node.looks(10, apart=2.0) == []
    (record,) = await node.looks(8, apart=2.0)
    assert record.completeness is Completeness.TRUNCATED
    assert record.reason is not None and "5000 of its" in record.reason
    assert record.signal == 11


async def test_a_cut_core_that_is_written_on_is_collected_again(node: Node) -> None:
    path = node.folder() / "core"
    path.write_bytes(core().read_bytes()[:-5000])
    (cut,) = await node.looks(20)
    path.write_bytes(core().read_bytes())
    (whole,) = await node.looks(2)
    assert (cut.completeness, whole.completeness) == (Completeness.TRUNCATED, Completeness.COMPLETE)
    assert cut.id != whole.id


@pytest.mark.parametrize("content", [b"2026-11-20 server started\n", b"", b"\x7fELF", b"\0" * 5000])
async def test_what_is_no_core_is_recorded_as_such(node: Node, content: bytes) -> None:
    (node.folder() / "core").write_bytes(content)
    assert await node.looks(5) == []
    (record,) = await node.looks(15)
    assert record.completeness in (Completeness.NOT_A_CORE, Completeness.TRUNCATED)
    assert (record.completeness is Completeness.NOT_A_CORE) == content.startswith(b"2026")
    assert record.signal is None and record.signature is None


async def test_a_program_is_no_core(node: Node) -> None:
    shutil.copy(crashing.program(), node.folder() / "core")
    (record,) = await node.looks(20)
    assert record.completeness is Completeness.NOT_A_CORE


async def test_what_a_container_can_put_there_is_not_followed(node: Node, tmp_path: Path) -> None:
    secret = tmp_path / "elsewhere"
    shutil.copy(core(), secret)
    folder = node.folder()
    (folder / "core.link").symlink_to(secret)
    os.mkfifo(folder / "core.fifo")
    (folder / ".hidden").write_bytes(core().read_bytes())
    (folder / "core.part").write_bytes(core().read_bytes())
    deep = folder / "more" / "core"
    deep.parent.mkdir()
    shutil.copy(core(), deep)
    (node.root / "team" / "linked_pod").symlink_to(tmp_path)
    assert await node.looks(20) == []


async def test_a_file_that_becomes_a_link_between_two_looks_is_left_alone(node: Node, tmp_path: Path) -> None:
    path = node.folder() / "core"
    shutil.copy(core(), path)
    await node.looks(1)
    found = find_files(node.root, 10)
    path.unlink()
    path.symlink_to(crashing.core("abort"))
    assert await node.agent._consider(found[0]) == 0
    assert node.taken == []


@pytest.mark.parametrize("name", ["Team", "te am", "..", "a_b", "x" * 64])
async def test_folders_that_are_no_kubernetes_names_are_not_believed(node: Node, name: str) -> None:
    folder = node.root / name / f"pod_{UID}" / "app"
    folder.mkdir(parents=True, exist_ok=True)
    if name != "..":
        shutil.copy(core(), folder / "core")
    assert await node.looks(20) == []


async def test_coredogs_layout_without_a_uid_is_read_too(node: Node) -> None:
    shutil.copy(core(), node.folder(pod="shop-0") / "core")
    (record,) = await node.looks()
    assert record.origin is not None and (record.origin.pod, record.origin.pod_uid) == ("shop-0", None)


async def test_after_a_kill_nothing_is_doubled_and_nothing_lost(node: Node) -> None:
    shutil.copy(core(), node.folder() / "core.1")
    (first,) = await node.looks()
    node.restart()
    shutil.copy(crashing.core("abort"), node.folder() / "core.2")  # written while it was down
    (second,) = await node.looks()
    assert first.id != second.id and second.signal == 6


async def test_what_the_outbox_refuses_is_handed_over_again_as_the_same_record(node: Node) -> None:
    shutil.copy(core(), node.folder() / "core.1")
    node.refuse = True
    assert await node.looks(3) == []
    node.refuse = False
    (record,) = await node.looks(1)
    node.taken.clear()
    assert node.ledger is not None
    node.ledger._db.execute("DELETE FROM files")  # killed between the outbox and the ledger
    node.restart()
    (again,) = await node.looks(2)
    assert again.id == record.id


async def test_a_full_disk_of_its_own_does_not_end_it(node: Node) -> None:
    assert node.ledger is not None
    database = node.ledger._db
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count={pages}")
    folder = node.folder("x" * 60)
    for number in range(60):
        (folder / f"core.{number}").write_text(f"no core {number}")
    records = await node.looks(20)
    assert len(records) > len({record.id for record in records}), "what could not be noted is handed over again"
    database.execute("PRAGMA max_page_count=100000")
    await node.looks(2)
    assert await node.looks(2) == []


async def test_a_time_of_change_beyond_all_reason_is_a_file_as_any(node: Node) -> None:
    for number, when in enumerate((1 << 63, -(1 << 63) - 10**9)):
        path = node.folder() / f"core.{number}"
        shutil.copy(crashing.core("null", number), path)
        os.utime(path, ns=(0, when))
    assert len(await node.looks()) == 2
    node.restart()
    assert await node.looks() == []


async def test_a_file_or_a_folder_that_nobody_foresaw_stands_in_no_others_way(node: Node, tmp_path: Path) -> None:
    node.settings = node.settings.model_copy(update={"roots": [Path(f"{tmp_path}/a\0b"), node.root]})
    node.restart()
    for number, text in enumerate(("first", "second")):
        (node.folder() / f"core.{number}").write_text(text)
    take = node.agent._take

    async def odd(record: CollectedCore, file: LocalFile | None) -> None:
        if file is not None and file.path.name == "core.0":
            raise OverflowError("nobody foresaw it")
        await take(record, file)

    node.agent._take = odd
    (record,) = await node.looks(20)
    assert record.size == len("second")
    assert node.agent.unreadable == {node.settings.roots[0]: "ValueError"}


async def test_it_goes_on_after_a_look_that_failed_as_nobody_foresaw(node: Node) -> None:
    looks = 0

    async def look() -> int:
        nonlocal looks
        looks += 1
        if looks == 2:
            stop.set()
        raise OverflowError("nobody foresaw it")

    stop = asyncio.Event()
    node.agent._settings = node.settings.model_copy(update={"watch": "poll", "poll_seconds": 0.1, "restarts": False})
    node.agent.look = look  # type: ignore[method-assign]
    async with asyncio.timeout(90):
        await node.agent.run(stop)
    assert looks == 2


def test_no_namespaces_files_hide_anothers(node: Node) -> None:
    def put(namespace: str, container: str, number: int, at: int) -> Path:
        path = node.root / namespace / f"shop_{UID}" / container / f"core.{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("junk")
        os.utime(path, ns=(at, at))
        return path

    for number in range(1001):
        put("flood", "app", number, number)
    late = {put("flood", "app", 2000 + number, 10**9 + number) for number in range(300)}
    beside, other = put("flood", "side", 1, 10**10), put("team", "app", 1, 10**11)
    assert {file.path for file in find_files(node.root, 3)} >= {beside, other}
    found = find_files(node.root, 1000, lambda file: file.modified_ns < 10**9)
    assert {file.path for file in found} == {*late, beside, other}, "what is known takes nobody's place"


async def test_without_a_hard_link_it_still_reads_the_very_file(node: Node, tmp_path: Path) -> None:
    path = node.folder() / "core"
    shutil.copy(core(), path)
    (node.root / ".paramedic").mkdir(mode=0o755)  # not ours alone: no link is made there
    (record,) = await node.looks()
    assert record.signal == 11 and record.signature, "the confined process can open it"
    (found,) = find_files(node.root, 10)
    with opened(found) as handle, pinned(found, handle, node.root / ".paramedic") as name:
        path.unlink()
        path.symlink_to(tmp_path / "secret")
        assert hashlib.sha256(name.read_bytes()).hexdigest() == record.sha256


async def test_the_same_crash_again_is_worth_less(node: Node) -> None:
    records = []
    for run in (0, 1, 2):
        shutil.copy(crashing.core("null", run), node.folder() / f"core.{run}")
        records += await node.looks()
        node.restart()  # the count is kept
    assert len({record.signature for record in records}) == 1
    values = [record.value for record in records]
    assert values == sorted(values, key=lambda value: -(value or 0)) and len(set(values)) == 3


async def test_holes_of_a_sparse_core_are_hashed_as_zeros_and_stay_holes(node: Node) -> None:
    path = node.folder() / "core"
    shutil.copy(core(), path)
    with path.open("r+b") as file:
        file.truncate(200 << 20)
        file.seek(150 << 20)
        file.write(b"in the middle")
    (record,) = await node.looks()
    assert record.size == 200 << 20 and record.completeness is Completeness.COMPLETE
    assert path.stat().st_blocks * 512 < 100 << 20
    assert record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


async def test_a_core_that_comes_while_it_runs_wakes_it(node: Node) -> None:
    node.agent = Agent(
        node.settings.model_copy(update={"scan_seconds": 60.0, "poll_seconds": 0.1, "restarts": False}),
        node.agent._gdb,
        node.agent._ledger,
        node.agent._pods,
        node._take,
        node="node1",
    )
    stop = asyncio.Event()
    running = asyncio.create_task(node.agent.run(stop))
    try:
        async with asyncio.timeout(60):
            await asyncio.sleep(0.2)
            shutil.copy(core(), node.folder("later") / "core")  # in folders that did not exist
            while not node.taken:
                await asyncio.sleep(0.05)
    finally:
        stop.set()
        await running
