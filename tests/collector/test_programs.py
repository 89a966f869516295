"""Programs are copied out of a container's tree by build-id, and nothing in that tree leads out of it."""

from __future__ import annotations

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
