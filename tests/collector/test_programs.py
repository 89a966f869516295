"""Programs are copied out of a container's tree by build-id, and nothing in that tree leads out of it."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from collector.programs import Programs, beneath
from incidents.collected import CollectedCore
from settings import GdbSettings
from tests.collector.conftest import UID, Node
from tests.standins import crashing


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with one process of the pod; its root is a folder with the program in its place."""
    crashing.require_tools()
    process = tmp_path / "proc/99"
    process.mkdir(parents=True)
    (process / "cgroup").write_text(f"0::/kubepods/pod{UID}/{'c' * 64}\n")
    program = crashing.program()
    image = tmp_path / "image"
    (image / str(program.parent)[1:]).mkdir(parents=True)
    shutil.copy(program, image / str(program)[1:])
    (process / "root").symlink_to(image)
    (tmp_path / "proc/100").mkdir()
    return tmp_path / "proc"


async def collected(node: Node) -> CollectedCore:
    shutil.copy(crashing.core("null"), node.folder() / "core")
    (record,) = await node.looks()
    return record


async def test_the_program_is_copied_once(node: Node, proc: Path, tmp_path: Path) -> None:
    programs = Programs(tmp_path / "programs", proc, [], GdbSettings())
    record = await collected(node)
    (program,) = await programs.gather(record)
    assert program.kind == "executable" and program.path.read_bytes() == crashing.program().read_bytes()
    assert program.build_id == record.build_ids[str(crashing.program())]
    assert await programs.gather(record) == []
    programs.tidy(())
    assert program.path.stat().st_size, "its core may not be in the outbox yet"
    os.utime(program.path, (1, 1))
    programs.tidy({program.path})
    assert program.path.stat().st_size
    programs.tidy(())
    assert program.path.stat().st_size == 0 and await programs.gather(record) == []


async def test_it_is_found_in_an_unpacked_layer_where_no_process_runs(node: Node, proc: Path, tmp_path: Path) -> None:
    shutil.rmtree(proc / "99")
    for number, name in enumerate(("older", "other")):
        (tmp_path / f"snapshots/{number}/fs/{name}").mkdir(parents=True)
    (tmp_path / "image").rename(tmp_path / "snapshots/2")
    (tmp_path / "snapshots/2fs").mkdir()
    programs = Programs(tmp_path / "programs", proc, [str(tmp_path / "snapshots/*")], GdbSettings())
    (program,) = await programs.gather(await collected(node))
    assert program.path.read_bytes() == crashing.program().read_bytes()


async def test_another_build_under_the_same_path_is_refused(node: Node, proc: Path, tmp_path: Path) -> None:
    shutil.copy(crashing.program("shop2", "-O2"), tmp_path / "image" / str(crashing.program())[1:])
    programs = Programs(tmp_path / "programs", proc, [], GdbSettings())
    assert await programs.gather(await collected(node)) == []
    assert list((tmp_path / "programs").glob("*")) == []


async def test_without_a_running_process_of_the_pod_nothing_is_copied(node: Node, proc: Path, tmp_path: Path) -> None:
    (proc / "99/cgroup").write_text("0::/kubepods/podother/x\n")
    assert await Programs(tmp_path / "programs", proc, [], GdbSettings()).gather(await collected(node)) == []


async def test_a_build_id_of_the_core_is_no_file_name(node: Node, proc: Path, tmp_path: Path) -> None:
    record = await collected(node)
    hostile = record.model_copy(update={"build_ids": {str(crashing.program()): "../../outside"}})
    assert await Programs(tmp_path / "programs", proc, [], GdbSettings()).gather(hostile) == []
    assert not (tmp_path.parent / "outside").exists() and not (tmp_path / "outside").exists()


async def test_a_core_that_names_thousands_of_files_waits_no_longer_for_them(
    node: Node, proc: Path, tmp_path: Path
) -> None:
    layers = tmp_path / "snapshots"
    for number in range(2000):
        (layers / str(number)).mkdir(parents=True)
    record = await collected(node)
    named = {f"/lib/lib{number}.so": f"{number:040x}" for number in range(4096)} | record.build_ids
    many = record.model_copy(update={"build_ids": named})
    programs = Programs(tmp_path / "programs", proc, [str(layers / "*")], GdbSettings(), seconds=3.0)
    async with asyncio.timeout(90):
        assert [program.kind for program in await programs.gather(many)] == ["executable"]
        assert await programs.gather(many.model_copy(update={"origin": None})) == []


async def test_what_was_not_found_is_looked_for_again_after_a_while_only(
    node: Node, proc: Path, tmp_path: Path
) -> None:
    seconds = 0.0
    programs = Programs(tmp_path / "programs", proc, [], GdbSettings(), clock=lambda: seconds)
    record = await collected(node)
    (proc / "99/root").rename(proc / "99/away")
    assert await programs.gather(record) == []
    (proc / "99/away").rename(proc / "99/root")
    assert await programs.gather(record) == []
    seconds = 200.0
    assert len(await programs.gather(record)) == 1


async def test_nothing_is_copied_onto_a_disk_that_is_nearly_full(node: Node, proc: Path, tmp_path: Path) -> None:
    free = 1000
    programs = Programs(tmp_path / "programs", proc, [], GdbSettings(), reserve=1000, free=lambda _: free)
    record = await collected(node)
    assert await programs.gather(record) == [] and list((tmp_path / "programs").iterdir()) == []
    free = 1 << 30
    assert len(await programs.gather(record)) == 1, "it was there: the disk is asked again"


async def test_holes_of_a_program_stay_holes(node: Node, proc: Path, tmp_path: Path) -> None:
    program = tmp_path / "image" / str(crashing.program())[1:]
    with program.open("r+b") as file:
        file.truncate(100 << 20)
    (copy,) = await Programs(tmp_path / "programs", proc, [], GdbSettings()).gather(await collected(node))
    status = copy.path.stat()
    assert status.st_size == 100 << 20 and status.st_blocks * 512 < 4 << 20


async def test_a_proc_that_cannot_be_read_is_told_and_costs_no_core(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crashing.require_tools()
    programs = Programs(tmp_path / "programs", tmp_path / "none", [], GdbSettings())
    assert await programs.gather(await collected(node)) == []
    assert "processes of the node cannot be seen" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("/bin/tool", True),
        ("/link/tool", True),
        ("/absolute/tool", True),
        ("/up/../../../bin/tool", True),
        ("/out/secret", False),
        ("/loop/tool", False),
        ("/fifo", False),
        ("/bin", False),
        ("/bin/none", False),
        ("/", False),
    ],
)
def test_links_stay_in_the_root(tmp_path: Path, path: str, inside: bool) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "up").mkdir()
    (root / "bin/tool").write_bytes(b"tool")
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to("bin")
    (root / "absolute").symlink_to("/bin")
    (root / "out").symlink_to("../../" + str(tmp_path.name))
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    if inside:
        with beneath(root, path) as handle:
            assert os.read(handle, 10) == b"tool"
    else:
        with pytest.raises(OSError), beneath(root, path):
            pass
