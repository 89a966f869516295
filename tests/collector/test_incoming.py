"""Cores as streams: the kernel's pipe program run as the kernel runs it, and the socket with a real connection."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from collector.coredump_socket import CoredumpSocket, from_socket
from collector.dying import INCOMING, describe, from_pipe, keep, lay_down
from collector.incoming import arrived, whose
from tests.collector.conftest import UID, Node
from tests.standins import crashing

PROGRAM = Path(__file__).parents[2] / "collector/dying.py"
CONTAINER = "c" * 64


def pipe(root: Path, core: bytes, pid: int = 0, seconds: float | None = None) -> subprocess.CompletedProcess[bytes]:
    """As core(5) starts it: an absolute program with arguments, the core on stdin."""
    when = int(time.time() if seconds is None else seconds)
    command = [sys.executable, "-I", "-S", str(PROGRAM), str(root), str(pid or os.getpid()), "11", str(when)]
    return subprocess.run(command, input=core, check=False, capture_output=True, timeout=60)


async def test_the_kernels_pipe_leaves_a_core_that_is_then_collected(node: Node) -> None:
    crashing.require_tools()
    core = crashing.core("null").read_bytes()
    assert pipe(node.root, core).returncode == 0
    (record,) = await node.looks()
    assert record.size == len(core) and record.signal == 11 and record.origin is None
    assert list((node.root / INCOMING).iterdir()) == []


def test_zeros_become_holes(tmp_path: Path) -> None:
    data = b"head" + bytes(40 << 20) + b"tail" + bytes(3 << 20)
    assert pipe(tmp_path, data).returncode == 0
    (item,) = arrived(tmp_path, time.time())
    assert item.core.read_bytes() == data
    assert item.core.stat().st_blocks * 512 < 4 << 20


@pytest.mark.parametrize("way", ["pipe", "socket"])
def test_what_comes_in_odd_pieces_lies_there_byte_for_byte(tmp_path: Path, way: str) -> None:
    """Zeros and data that begin and end anywhere, from a sender that stops in between."""
    lengths = [1, 4096, 65_535, 65_536, 65_537, 300_001, 1 << 20, 7]
    data = b"".join(part for count in lengths for part in (os.urandom(count), bytes(count)))
    target = os.open(tmp_path / "core", os.O_RDWR | os.O_CREAT)
    if way == "pipe":
        reading, writing = os.pipe()
        ends = None
        read = from_pipe(reading)
    else:
        ends = socket.socketpair()
        reading, writing = (end.fileno() for end in ends)
        read = from_socket(ends[0])

    def write() -> None:
        view = memoryview(data)
        for step in (3, 100_000, 65_536, 1_000_000, len(data)):
            part, view = view[:step], view[step:]
            while part:
                part = part[os.write(writing, part) :]
            time.sleep(0.005)
        ends[1].close() if ends else os.close(writing)

    sender = threading.Thread(target=write)
    sender.start()
    assert lay_down(read, target, 128 << 10) == len(data)
    sender.join()
    os.close(target)
    ends[0].close() if ends else os.close(reading)
    assert (tmp_path / "core").read_bytes() == data
    assert (tmp_path / "core").stat().st_blocks * 512 < len(data) - (1 << 19)


@pytest.mark.parametrize(
    "cgroup",
    [
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice/"
        f"cri-containerd-{CONTAINER}.scope\n",
        f"12:memory:/kubepods/besteffort/pod{UID}/{CONTAINER}\n1:name=systemd:/kubepods/besteffort/pod{UID}/{CONTAINER}\n",
        f"0::/kubepods/pod{UID}/{CONTAINER}\n",
    ],
)
def test_the_cgroup_says_pod_and_container(tmp_path: Path, cgroup: str) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text(cgroup)
    (tmp_path / "7/comm").write_text("ev il/../$(x)\n")
    told = describe(7, str(tmp_path))
    assert (told["pod_uid"], told["container_id"]) == (UID, CONTAINER)
    assert told["comm"] == "ev_il_..___x_"


@pytest.mark.parametrize("path", ["/srv/shop", '/a "quoted"\\ b\n', "/\udcff\udc80", "/\U0001f600/é\x7f", "", None])
def test_what_is_told_of_a_process_is_json_whatever_its_path(tmp_path: Path, path: str | None) -> None:
    told: dict[str, str | int | None] = {"pid": 7, "time": 1, "executable": path}
    name = keep(str(tmp_path), told, lambda view: 0, 1 << 16)
    assert json.loads((tmp_path / INCOMING / f"{name}.json").read_text()) == told


@pytest.mark.parametrize("cgroup", ["", "0::/", "0::/kubepods/podx", f"0::/pod{UID[:-1]}/{CONTAINER[1:]}", "pod" * 9])
def test_what_is_no_pods_cgroup_says_none(tmp_path: Path, cgroup: str) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text(cgroup)
    told = describe(7, str(tmp_path))
    assert (told["pod_uid"], told["container_id"], told["comm"]) == (None, None, "unknown")


def pod(name: str = "shop-1", uid: str = UID, container_id: str = CONTAINER) -> dict[str, object]:
    status = {"name": "app", "lastState": {"terminated": {"containerID": f"containerd://{container_id}"}}}
    return {
        "metadata": {"namespace": "team", "name": name, "uid": uid},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"containerStatuses": [status]},
    }


def incoming(root: Path, facts: object, core: bytes = b"core") -> Path:
    folder = root / INCOMING
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "1-1-1.json").write_text(facts if isinstance(facts, str) else json.dumps(facts))
    (folder / "1-1-1.core").write_bytes(core)
    return folder


def test_the_container_that_ended_is_found_by_its_id(tmp_path: Path) -> None:
    incoming(tmp_path, {"pid": 3, "comm": "shop", "time": 1, "pod_uid": UID, "container_id": CONTAINER})
    (item,) = arrived(tmp_path, 0)
    place = whose(item, [pod("other", "0" * 32), pod()])
    assert place is not None and (place.namespace, place.pod, place.pod_uid, place.container) == (
        "team",
        "shop-1",
        UID,
        "app",
    )
    assert whose(item, [pod(container_id="d" * 64)]) is None
    assert whose(item, []) is None


@pytest.mark.parametrize(
    "facts",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"pid": "x", "comm": "../../etc/passwd", "time": -1, "pod_uid": 7}',
        '{"time": 1e400}',
    ],
)
async def test_facts_that_cannot_be_read_cost_the_name_not_the_core(node: Node, facts: str) -> None:
    crashing.require_tools()
    incoming(node.root, facts, crashing.core("null").read_bytes())
    (record,) = await node.looks()
    assert record.signal == 11 and record.origin is None
    assert all(file.path.parent == node.root for _, file in node.taken if file is not None)


async def test_a_pod_that_nobody_knows_is_asked_for_a_while_and_then_kept_without(node: Node) -> None:
    crashing.require_tools()
    facts = {"pid": 3, "comm": "shop", "time": int(node.now.timestamp()), "pod_uid": UID, "container_id": CONTAINER}
    incoming(node.root, facts, crashing.core("null").read_bytes())
    assert await node.looks(10, apart=10) == []
    assert node.agent.waiting
    (record,) = await node.looks(5, apart=10)
    assert record.origin is None


def test_a_part_is_left_to_its_writer_until_it_is_stale(tmp_path: Path) -> None:
    folder = incoming(tmp_path, {"pid": 3, "comm": "shop", "time": 1})
    (folder / "1-1-1.core").rename(folder / "1-1-1.part")
    assert arrived(tmp_path, time.time()) == []
    (item,) = arrived(tmp_path, time.time() + 100)
    assert item.core.suffix == ".part"


@pytest.mark.parametrize(
    "arguments", [[], ["/tmp", "x", "11", "1"], ["/tmp", "1", "11"], ["/tmp", "1", "11", "1", "2"]]
)
def test_the_pipe_program_refuses_other_arguments(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(PROGRAM), *arguments], input=b"", check=False, capture_output=True, timeout=60
    )
    assert done.returncode == 2 and b"usage" in done.stderr


async def test_the_socket_takes_cores_from_several_processes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run" / "core.socket"
    stop = asyncio.Event()
    serving = asyncio.create_task(CoredumpSocket(path, tmp_path, Path("/proc")).serve(stop))
    async with asyncio.timeout(60):
        while not path.exists():
            await asyncio.sleep(0.02)
        assert path.stat().st_mode & 0o077 == 0
        await asyncio.gather(*(asyncio.to_thread(send, path, bytes([number]) * 300_000) for number in range(12)))
        while len(arrived(tmp_path, time.time())) < 12:
            await asyncio.sleep(0.02)
        stop.set()
        await serving
    found = arrived(tmp_path, time.time())
    assert sorted(item.core.read_bytes()[:1] for item in found) == [bytes([number]) for number in range(12)]
    assert {item.pid for item in found} == {os.getpid()}
    assert not path.exists()


def send(path: Path, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(path))
        connection.sendall(data)
