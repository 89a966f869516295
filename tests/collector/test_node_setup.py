"""Setting a node up and putting it back, on files in place of the kernel's own; on that, in the end-to-end tests."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from collector.node import container_limit, dumping, read_node
from collector.node_check import check_node
from collector.node_setup import NodeSetup, file_pattern, pipe_pattern
from errors import Conflict, InvalidInput, NotFound, ToolFailed


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    file = tmp_path / "proc/sys/kernel/core_pattern"
    file.parent.mkdir(parents=True)
    file.write_text("|/usr/share/apport/apport %p\n")
    return file


def test_what_stood_before_is_put_back(kernel: Path, tmp_path: Path) -> None:
    folder = tmp_path / "paramedic/cores"
    setup = NodeSetup(tmp_path / "data/node-setup.json", kernel)
    assert setup.apply(file_pattern("/corefile"), folder) == "|/usr/share/apport/apport %p"
    assert kernel.read_text() == "/corefile/core.%e.%p.%t"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o733 and stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    setup.apply(file_pattern("/cores"), folder)  # twice, with another path: what is remembered stays
    assert NodeSetup(tmp_path / "data/node-setup.json", kernel).undo() == "|/usr/share/apport/apport %p"
    assert kernel.read_text() == "|/usr/share/apport/apport %p"
    with pytest.raises(NotFound):
        setup.undo()


def test_a_pattern_that_somebody_changed_since_is_left_alone(kernel: Path, tmp_path: Path) -> None:
    setup = NodeSetup(tmp_path / "data/node-setup.json", kernel)
    setup.apply(file_pattern("/corefile"), tmp_path / "cores")
    kernel.write_text("other\n")
    with pytest.raises(Conflict, match="other"):
        setup.undo()
    assert kernel.read_text() == "other\n"


def test_a_pattern_that_the_kernel_would_cut_is_refused(kernel: Path, tmp_path: Path) -> None:
    setup = NodeSetup(tmp_path / "data/node-setup.json", kernel)
    with pytest.raises(InvalidInput, match="127 bytes"):
        setup.apply(pipe_pattern(Path("/" + "x" * 128)), tmp_path / "cores")
    assert "apport" in kernel.read_text()


def test_a_damaged_memory_is_not_overwritten(kernel: Path, tmp_path: Path) -> None:
    memory = tmp_path / "data/node-setup.json"
    memory.parent.mkdir()
    memory.write_text("{")
    with pytest.raises(ToolFailed, match="put back"):
        NodeSetup(memory, kernel).apply(file_pattern("/corefile"), tmp_path / "cores")
    assert "apport" in kernel.read_text() and memory.read_text() == "{"


def test_the_check_names_what_is_lost_and_what_sets_it_right(kernel: Path, tmp_path: Path) -> None:
    proc, folder = tmp_path / "proc", tmp_path / "cores"
    found = {item.name: item for item in check_node(folder, "/corefile", None, proc)}
    assert found["kernel.core_pattern"].ok is False and "apport" in found["kernel.core_pattern"].found
    assert found["folder of cores"].ok is False
    NodeSetup(tmp_path / "data/m.json", kernel).apply(file_pattern("/corefile"), folder)
    found = {item.name: item for item in check_node(folder, "/corefile", None, proc)}
    assert found["kernel.core_pattern"].ok and found["folder of cores"].ok and found["RLIMIT_CORE of containers"].ok
    (proc / "8").mkdir()
    (proc / "8/cgroup").write_text("0::/kubepods/podx/y")
    (proc / "8/limits").write_text("Max core file size        0   unlimited   bytes\n")
    found = {item.name: item for item in check_node(folder, "/corefile", None, proc)}
    assert found["RLIMIT_CORE of containers"].ok is False
    kernel.write_text("@/run/x.socket")  # which takes cores whatever that limit says
    assert {item.ok for item in check_node(folder, "/corefile", Path("/run/x.socket"), proc)} == {True}


def test_limits_and_dumps_of_the_nodes_processes(tmp_path: Path) -> None:
    for pid, (cgroup, limit, status) in {
        "7": ("0::/system.slice/x.service", "0", "CoreDumping:\t1"),
        "8": ("0::/kubepods/podx/y", "0", "CoreDumping:\t0"),
        "self": ("", "", ""),
    }.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cgroup").write_text(cgroup)
        (tmp_path / pid / "limits").write_text(f"Max core file size        {limit}   unlimited   bytes\n")
        (tmp_path / pid / "status").write_text(f"Name:\tx\n{status}\n")
    assert container_limit(tmp_path) == 0
    assert dumping(tmp_path) == [7]


def test_this_machines_own_state_can_be_read() -> None:
    assert read_node().core_pattern == Path("/proc/sys/kernel/core_pattern").read_text().rstrip("\n")
