"""What goes wrong around a node agent: nothing is lost, nothing comes twice, and its memory stays small.

Pods of a real cluster dump core, a real S3-compatible server keeps what the agent sends.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.e2e import manifests as make
from tests.e2e.build import SOURCES, Images, load
from tests.e2e.collecting import Process, create_pod, jobs_of
from tests.e2e.conftest import Services
from tests.e2e.cores import CoreFolder
from tests.e2e.dying import AGENT_DIES
from tests.e2e.harness import name as random_name
from tests.e2e.harness import run, until
from tests.e2e.kube import Kube
from tests.e2e.service import REQUESTER, Service
from tests.e2e.stage import Stage
from tests.standins import s3

Object = dict[str, Any]
MOST_MB = 150
SPILL = "ulimit -c unlimited; exec /app/spill "


@dataclass
class Node:
    """A service and a store, and agents with a folder of cores each. Everything that dumps is in one namespace."""

    service: Service
    server: s3.S3Server
    kube: Kube
    cores: CoreFolder
    namespace: str
    image: str
    folder: Path
    agents: list[Process] = field(default_factory=list)

    def root(self) -> CoreFolder:
        name = secrets.token_hex(4)
        made = CoreFolder(self.cores.here / name, f"{self.cores.on_node}/{name}")
        made.here.mkdir()
        return made

    def agent(self, *roots: CoreFolder, program: list[str] | None = None, data: Path | None = None) -> Process:
        """An agent that is not started."""
        sections: dict[str, dict[str, object]] = {
            "collector": {
                "roots": [str(root.here) for root in roots],
                "node_name": self.kube.call("GET", "api/v1/nodes")["items"][0]["metadata"]["name"],
                "scan_seconds": 2,
                "poll_seconds": 0.3,
                "settle_seconds": 6,
                "restarts": False,  # of the whole node: other tests' pods crash there too
                "service_url": f"{self.service.url}/api/v1/events",
                "service_key": self.service.keys[REQUESTER],
                "image_layers": [],
            },
            "store": settings_of(self.server),
            "shipping": {"disk_reserve_bytes": 0, "retry_seconds": 2},
            "kubernetes": {"kubeconfig": str(self.kube.kubeconfig)},
        }
        made = Process(self.folder / secrets.token_hex(4), ["collect"], sections, program=program, data=data)
        self.agents.append(made)
        return made

    def dump(self, root: CoreFolder, script: str) -> str:
        """A pod that runs the script, with its cores in `root`; the pod's name."""
        item, volume = make.keeping_cores(make.container("app", self.image, ["/bin/sh", "-c", script]), root.on_node)
        template = make.template(make.labels(), [item], volumes=[volume], restartPolicy="Never")
        name = random_name()
        metadata = {"name": name, **template["metadata"]}
        create_pod(self.kube, self.namespace, {"apiVersion": "v1", "kind": "Pod", **template, "metadata": metadata})
        return name

    def files(self, root: CoreFolder, pod: str) -> list[Path]:
        return sorted(root.here.glob(f"{self.namespace}/{pod}_*/app/*"))

    def dumped(self, root: CoreFolder, pod: str, count: int = 1) -> list[Path]:
        """Waits until the pod's process has written so many files and is through with them."""

        def done() -> list[Path] | None:
            found = self.files(root, pod)
            before = [path.stat().st_mtime_ns for path in found]
            time.sleep(0.2)
            return found if len(found) >= count and before == [path.stat().st_mtime_ns for path in found] else None

        return until(done, 120, f"{count} files of {pod}", show=lambda: (self.files(root, pod), self.phase(pod)))

    def phase(self, pod: str) -> str:
        return str(self.kube.get("Pod", self.namespace, pod)["status"].get("phase"))

    def told(self, pod: str) -> list[Object]:
        """Jobs of the pod: what was told twice is one, by its id."""
        return [job for job in jobs_of(self.service, self.namespace) if job["core"]["origin"]["pod"] == pod]

    def told_once(self, pod: str, count: int = 1, timeout: float = 120) -> list[Object]:
        """Waits for `count` jobs of the pod, with every incident, and compares what is stored with what they say."""

        def ended() -> list[Object] | None:
            found = self.told(pod)
            waiting = [job for job in found if job["state"] == "queued"]
            return None if waiting or len(found) < count else found

        done = until(
            ended,
            timeout,
            f"{count} cores of {pod} told",
            show=lambda: (len(self.told(pod)), self.phase(pod), [a.log()[-2000:] for a in self.agents]),
        )
        assert len(done) == count, [job["core"] for job in done]
        assert len({job["core"]["id"] for job in done}) == count
        bucket, expected = self.server.folder / s3.BUCKET, set()
        for job in done:
            core = job["core"]
            for one in core["stored"]:
                content = (bucket / one["key"]).read_bytes()
                assert hashlib.sha256(content).hexdigest() == one["sha256"], one
                if one["kind"] == "full":
                    plain = hashlib.sha256()
                    with zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True) as reader:
                        while piece := reader.read(1 << 20):
                            plain.update(piece)
                    assert plain.hexdigest() == core["sha256"], "the whole core, as the kernel wrote it"
                if one["build_id"] is None:
                    expected.add(one["key"])
        found = {str(path.relative_to(bucket)) for path in bucket.glob(f"paramedic/{self.namespace}/{pod}/*/*")}
        assert {key for key in found if not key.endswith(".json")} == expected, "nothing else is stored"
        assert len(found) - len(expected) == sum(bool(job["core"]["stored"]) for job in done), "and a record of each"
        return done

    def nothing_left(self, root: CoreFolder, pod: str) -> None:
        until(lambda: not self.files(root, pod), 30, "the node's files gone", show=lambda: self.files(root, pod))


def settings_of(server: s3.S3Server) -> dict[str, object]:
    given = {"url": f"s3://{s3.BUCKET}", "endpoint": server.endpoint, "part_bytes": 5 << 20, "timeout": 5}
    return {**given, "access_key": s3.ACCESS, "secret_key": s3.SECRET}


@pytest.fixture(scope="module")
def spill(images: Images, tmp_path_factory: pytest.TempPathFactory) -> str:
    program = tmp_path_factory.mktemp("spill") / "spill"
    run("gcc", "-g", "-O1", "-o", program, SOURCES / "spill.c")
    return load("spill", program, "/app/spill")


@pytest.fixture(scope="module")
def node(
    kube: Kube,
    spill: str,
    stage: Stage,
    cores: CoreFolder,
    services: Services,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Node]:
    if (reason := s3.missing()) is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("faults")
    server = s3.S3Server(folder / "s3").start()
    service = services(store=settings_of(server), core={"executable_dirs": []}).start()
    made = Node(service, server, kube, cores, stage.namespace(), spill, folder)
    yield made
    for agent in made.agents:
        agent.stop()
    server.kill()


@pytest.fixture(scope="module")
def root(node: Node) -> CoreFolder:
    return node.root()


@pytest.fixture(scope="module")
def agent(node: Node, root: CoreFolder) -> Process:
    return node.agent(root)


@pytest.fixture(scope="module")
def slow(node: Node, root: CoreFolder) -> Iterator[tuple[str, threading.Thread]]:
    """A real core that is written for 30 seconds, in pieces, into the folder that the agent watches; its pod."""
    aside = node.root()
    pod = node.dump(aside, SPILL + "heap 3")
    (source,) = node.dumped(aside, pod)
    content = source.read_bytes()
    target = root.here / source.relative_to(aside.here)
    target.parent.mkdir(parents=True)

    def write() -> None:
        with target.open("wb") as file:
            for piece in range(30):
                file.write(content[len(content) * piece // 30 : len(content) * (piece + 1) // 30])
                file.flush()
                time.sleep(1)

    thread = threading.Thread(target=write)
    thread.start()
    yield pod, thread
    thread.join()


# what one agent, with the same data throughout, goes through


def test_what_was_dumped_while_it_was_down_is_found_once(
    node: Node, root: CoreFolder, agent: Process, slow: tuple[str, threading.Thread]
) -> None:
    script = (
        "ulimit -c unlimited; /app/spill heap 1; cp /cores/core.* /cores/again; echo 'no core' > /cores/core; sleep 900"
    )
    pod = node.dump(root, script)
    files = node.dumped(root, pod, 3)
    assert len({path.read_bytes() for path in files}) == 2
    agent.start()
    jobs = node.told_once(pod, 2)
    core, text = sorted(jobs, key=lambda job: job["core"]["completeness"])
    assert (core["core"]["completeness"], core["core"]["signal"]) == ("complete", 11)
    assert core["incident_id"]
    assert (text["core"]["completeness"], text["incident_id"]) == ("not_a_core", None)
    until(
        lambda: [path.name for path in node.files(root, pod)] == ["core"],
        30,
        "of the core and its copy nothing is left; a text is its owner's",
        show=lambda: node.files(root, pod),
    )


def test_a_store_that_is_down_is_waited_for(node: Node, root: CoreFolder, agent: Process) -> None:
    node.server.kill()
    pods = [node.dump(root, SPILL + "heap 2") for _ in range(2)]
    for pod in pods:
        node.dumped(root, pod)
    agent.says("a core waits")
    time.sleep(20)
    assert all(node.files(root, pod) and not node.told(pod) for pod in pods), "kept, and not told before it is stored"
    node.server.start()
    for pod in pods:
        node.told_once(pod)
        node.nothing_left(root, pod)


def test_a_core_that_is_written_for_half_a_minute_is_taken_whole(
    node: Node, root: CoreFolder, agent: Process, slow: tuple[str, threading.Thread]
) -> None:
    pod, thread = slow
    assert not thread.is_alive() or not node.told(pod)
    thread.join()
    (job,) = node.told_once(pod)
    assert job["core"]["completeness"] == "complete"
    node.nothing_left(root, pod)


def test_three_gigabytes_of_holes(node: Node, root: CoreFolder, agent: Process) -> None:
    pod = node.dump(root, SPILL + "sparse 3")
    (job,) = node.told_once(pod)
    assert job["core"]["size"] > 3 << 30
    node.nothing_left(root, pod)
    assert agent.memory_mb() < MOST_MB


def test_fifty_at_once(node: Node, root: CoreFolder, agent: Process) -> None:
    pod = node.dump(root, SPILL + "many 50")
    jobs = node.told_once(pod, 50, timeout=200)
    assert Counter(job["core"]["completeness"] for job in jobs) == {"complete": 50}
    assert len({job["core"]["pid"] for job in jobs}) == 50
    assert len({job["incident_id"] for job in jobs}) == 1, "one crash, fifty times"
    node.nothing_left(root, pod)
    assert agent.memory_mb() < MOST_MB


# agents of their own


DEATHS = (
    "after:add",
    "after:reduced",
    "after:uploading",
    "before:object_stored",
    "after:stored",
    "before:announced",
    "after:announced",
    "before:removed",
)


def test_killed_at_every_step(node: Node) -> None:
    root = node.root()
    pod = node.dump(root, SPILL + "heap 12")
    (path,) = node.dumped(root, pod)
    agent = node.agent(root, program=AGENT_DIES)
    for point in DEATHS:
        agent.start(E2E_DIE_AT=point)
        assert agent.wait(60) == -9, (point, agent.log())
        assert path.exists() == (point != "before:removed"), point
    assert agent.process is not None
    agent.start()
    node.told_once(pod)
    node.nothing_left(root, pod)
    until(lambda: not list((agent.folder / "data").glob("collector/staging/*")), 20, "what was prepared is gone")
    uploads = [
        path for path in (node.server.folder / s3.BUCKET).rglob("*") if "multipart" in str(path) and path.is_file()
    ]
    assert not uploads, "and no upload was begun and left"


def test_disks_that_are_full(node: Node) -> None:
    """Of the node where cores lie, and of the agent's own data: small file systems of their own."""
    cores, data = node.root(), node.folder / f"data-{secrets.token_hex(4)}"
    data.mkdir()
    with mounted(cores.here, 4), mounted(data, 48):
        roomy = node.root()
        agent = node.agent(cores, roomy, data=data).start()
        cut = node.dump(cores, SPILL + "heap 12")
        large = node.dump(roomy, SPILL + "heap 40")
        (job,) = node.told_once(cut)
        assert job["core"]["completeness"] == "no_space" and "disk is full" in job["core"]["reason"]
        assert job["incident_id"]
        (job,) = node.told_once(large)
        assert "minimal" in {one["kind"] for one in job["core"]["stored"]}
        assert "only the reduced core is stored" in job["core"]["lost"]
        filler = data / "filler"
        fill(filler)
        late = node.dump(roomy, SPILL + "heap 1")
        node.dumped(roomy, late)
        until(lambda: re.search("cannot be written|a core waits|could not be taken", agent.log()), 30, "trouble")
        time.sleep(3)
        assert not node.told(late) and node.files(roomy, late)
        assert agent.running()
        filler.unlink()
        node.told_once(late)
        for root, pod in ((cores, cut), (roomy, large), (roomy, late)):
            node.nothing_left(root, pod)
        agent.stop()


def test_a_wall_clock_that_jumps(node: Node) -> None:
    root = node.root()
    library, offset = node.folder / "clock.so", node.folder / "offset"
    run("gcc", "-shared", "-fPIC", "-O1", "-o", library, SOURCES / "clock.c", "-ldl")
    offset.write_text("0")
    agent = node.agent(root).start(LD_PRELOAD=str(library), CLOCK_OFFSET=str(offset))
    agent.says('"event": "collecting"')
    before = node.dump(root, SPILL + "heap 1")
    node.told_once(before)
    offset.write_text(str(40 * 86_400))  # a store refuses what was signed at another time
    during = node.dump(root, SPILL + "heap 1")
    node.dumped(root, during)
    agent.says("a core waits")
    assert not node.told(during)
    offset.write_text("0")  # a jump of 40 days back, for the agent
    after = node.dump(root, SPILL + "heap 1")
    for pod in (before, during, after):
        node.told_once(pod)
        node.nothing_left(root, pod)


@contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system of this size at the folder."""
    run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "paramedic-e2e", folder)
    try:
        yield
    finally:
        run("umount", "-l", folder)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 12))
        except OSError:
            return
