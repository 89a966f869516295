"""The agent as a kubelet and a Prometheus see it: a real agent, asked over HTTP while it works and while it cannot."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from collector.health import Answer, Health, listening
from collector.measures import ALIASES, OLDER, PREFIX, Measures, Queue
from collector.outbox import Outbox
from collector.service import run
from errors import InvalidInput
from incidents.collected import CollectedCore, Completeness, Origin, StoredObject
from settings import CollectorSettings, KubernetesSettings, Settings, ShippingSettings
from tests.collector.conftest import Node
from tests.standins import crashing

CANARY = "canary-7c1d"


def read(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Samples by name and labels; the parser is Prometheus' own and refuses what is not its format."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def record(completeness: Completeness, *, value: float | None = None, lost: str | None = None) -> CollectedCore:
    now = datetime.now(UTC)
    origin = Origin(namespace=CANARY, pod=CANARY, container=CANARY)
    return CollectedCore(
        id=f"core_{CANARY}", completeness=completeness, dumped_at=now, collected_at=now, node=CANARY, origin=origin,
        executable=f"/{CANARY}", value=value, lost=lost,
    )  # fmt: skip


def test_what_is_counted_and_the_older_names() -> None:
    measures = Measures()
    measures.collected(record(Completeness.COMPLETE, value=7.5))
    measures.collected(record(Completeness.TRUNCATED))
    measures.collected(record(Completeness.NOT_A_CORE))
    measures.collected(record(Completeness.MISSING))
    measures.failed("collect")
    measures.stored(StoredObject(kind="minimal", key=CANARY, size=10, sha256="0" * 64), 0.2)
    measures.stored(StoredObject(kind="full", key=CANARY, size=90, sha256="0" * 64), 20.0)
    measures.announced(record(Completeness.COMPLETE, lost="the disk was full"))
    text = measures.render(Queue({"uploading": 3}, 12.5, 1, 4096), aliases=True).decode()
    found = read(text)

    def one(name: str, **labels: str) -> float:
        return found[name, tuple(sorted(labels.items()))]

    assert one(f"{PREFIX}cores_total", completeness="complete") == 1
    assert one(f"{PREFIX}cores_total", completeness="no_space") == 0  # there before it happens, so that rate() sees it
    assert one(f"{PREFIX}crashes_without_core_total") == 1
    assert one(f"{PREFIX}stored_bytes_total", kind="full") == 90
    assert one(f"{PREFIX}upload_seconds_bucket", le="0.5") == 1
    assert one(f"{PREFIX}queue", state="uploading") == 3 and one(f"{PREFIX}queue", state="stored") == 0
    assert one(f"{PREFIX}oldest_waiting_seconds") == 12.5
    assert one(f"{PREFIX}lost_total") == one(f"{PREFIX}dead_letters") == one(f"{PREFIX}announced_total") == 1
    assert one(f"{OLDER}coredumps_discovered_total") == 3
    assert one(f"{OLDER}coredumps_skipped_total") == one(f"{OLDER}coredumps_errors_total") == 1
    assert one(f"{OLDER}files_stored_total") == 2
    assert one(f"{OLDER}storage_errors_total") == 0
    assert one(f"{OLDER}value_score_distribution_bucket", le="8.0") == 1
    assert one(f"{OLDER}value_score_distribution_count") == 1
    assert one(f"{OLDER}up") == 1
    assert CANARY not in text
    kinds = {family.name: family.type for family in text_string_to_metric_families(text)}
    assert kinds[f"{OLDER}coredumps_discovered"] == "counter"
    assert kinds[f"{OLDER}value_score_distribution"] == "histogram"
    for old in ALIASES:
        assert any(name.startswith(OLDER + old) for name, _ in found), old
    assert OLDER not in measures.render(Queue({}, 0, 0, 0), aliases=False).decode()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_running_agent_tells_what_it_did(tmp_path: Path, free_port: int) -> None:
    crashing.require_tools()
    root = tmp_path / "cores"
    root.mkdir()
    collector = CollectorSettings(
        roots=[root], node_name=CANARY, poll_seconds=0.1, settle_seconds=1, node_processes=False, image_layers=[],
        metrics_port=free_port, metrics_aliases=True,
    )  # fmt: skip
    settings = Settings(
        data_dir=tmp_path / "data",
        kubernetes=KubernetesSettings(enabled=False),
        collector=collector,
        shipping=ShippingSettings(disk_reserve_bytes=0),
    )
    shutil.copy(crashing.core("null"), root / "core.1")
    (root / "core.2").write_text("not a core at all")
    stop = asyncio.Event()
    running = asyncio.create_task(run(settings, stop))
    base = f"http://127.0.0.1:{free_port}"
    done = f"{PREFIX}queue", (("state", "removed"),)
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    patient = httpx.AsyncHTTPTransport(retries=50, verify=False)
    async with asyncio.timeout(90), httpx.AsyncClient(transport=patient) as client:
        while found.get(done) != 2:
            answer = await client.get(f"{base}/metrics")
            assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            found = read(answer.text)
            await asyncio.sleep(0.05)
        assert (await client.get(f"{base}/livez")).text == "ok\n"
        assert (await client.get(f"{base}/readyz")).status_code == 200
    with pytest.raises(InvalidInput, match="metrics_port"):
        other = settings.model_copy(update={"data_dir": tmp_path / "other"})
        await run(other, asyncio.Event())
    stop.set()
    await running
    assert found[f"{PREFIX}cores_total", (("completeness", "complete"),)] == 1
    assert found[f"{PREFIX}cores_total", (("completeness", "not_a_core"),)] == 1
    cores = sum(found[f"{PREFIX}stored_bytes_total", (("kind", kind),)] for kind in ("minimal", "full"))
    assert cores == sum(file.stat().st_size for file in (tmp_path / "data" / "store").rglob("*.core.zst")) > 0
    assert found[f"{PREFIX}announced_total", ()] == 2
    assert found[f"{PREFIX}upload_seconds_count", ()] >= 2
    assert found[f"{OLDER}coredumps_processed_total", ()] == 2


@pytest.fixture
async def health(tmp_path: Path) -> AsyncIterator[tuple[Health, Node, Outbox]]:
    (tmp_path / "cores").mkdir()
    (tmp_path / "data").mkdir()
    node = Node(tmp_path / "cores", CollectorSettings(roots=[tmp_path / "cores"]), tmp_path / "data")
    outbox = Outbox(tmp_path / "data" / "outbox.db")
    yield Health(node.agent, outbox, Measures(), tmp_path / "data", scan_within=150), node, outbox
    outbox.close()
    assert node.ledger is not None
    node.ledger.close()


async def test_it_is_ready_once_it_looked_and_not_when_it_stopped_looking(
    health: tuple[Health, Node, Outbox],
) -> None:
    told, node, _ = health
    assert (await told.ready())[0] == 503
    await node.agent.look()
    assert await told.ready() == (200, b"ok\n")
    node.seconds += 151
    status, text = await told.ready()
    assert status == 503 and b"151 seconds ago" in text
    assert (await told.alive())[0] == 200


async def test_it_is_not_ready_without_a_place_for_the_next_core(health: tuple[Health, Node, Outbox]) -> None:
    told, node, outbox = health
    await node.agent.look()
    told._folder = Path(tempfile.gettempdir()) / CANARY / "gone"
    status, text = await told.ready()
    assert status == 503 and b"No such file" in text and CANARY.encode() not in text
    told._folder = node.data
    outbox._db.executescript("DROP TABLE objects; DROP TABLE items")
    status, text = await told.ready()
    assert status == 503 and b"outbox" in text
    assert (await told.metrics())[0] == 503


async def test_it_is_not_ready_while_a_folder_of_cores_cannot_be_read(health: tuple[Health, Node, Outbox]) -> None:
    told, node, _ = health
    moved = node.root.rename(node.root.with_name("moved"))
    await node.agent.look()
    status, text = await told.ready()
    assert (
        status == 503
        and text == f"the folder of cores {node.root} cannot be read: No such file or directory\n".encode()
    )
    moved.rename(node.root)
    await node.agent.look()
    assert await told.ready() == (200, b"ok\n")


async def test_it_is_not_ready_with_a_damaged_outbox(health: tuple[Health, Node, Outbox], tmp_path: Path) -> None:
    told, node, outbox = health
    await node.agent.look()
    assert (await told.ready())[0] == 200
    now = [0.0]
    told._clock = lambda: now[0]
    told._check_at = 0.0
    outbox.add(record(Completeness.MISSING), None)
    outbox._db.execute("UPDATE items SET record='{'")
    status, text = await told.ready()
    assert status == 503 and b"1 of its rows cannot be read" in text
    outbox._db.execute("DELETE FROM items")
    assert (await told.ready())[0] == 503, "it is not read anew at every question"
    now[0] += 60
    assert (await told.ready())[0] == 200
    path = node.data / "outbox.db"
    path.rename(path.with_suffix(".moved"))
    now[0] += 60
    assert b"its file is gone" in (await told.ready())[1]
    path.write_bytes(b"")
    now[0] += 60
    assert b"another file stands in its place" in (await told.ready())[1]


def test_a_page_of_the_outbox_that_was_overwritten_is_damage(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    for number in range(300):
        outbox.add(record(Completeness.MISSING).model_copy(update={"id": f"core_{number}"}), None)
    assert outbox.damage() is None
    outbox.close()
    data = bytearray((tmp_path / "outbox.db").read_bytes())
    data[-8192:-4096] = b"\xa5" * 4096
    (tmp_path / "outbox.db").write_bytes(data)
    outbox = Outbox(tmp_path / "outbox.db")
    found = outbox.damage()
    outbox.close()
    assert found is not None and "start the agent again" in found


async def test_bad_requests_get_one_answer_and_never_stop_it() -> None:
    async def fine() -> tuple[int, bytes]:
        return 200, b"fine"

    answers: dict[str, Answer] = {"/livez": fine}

    async def ask(port: int, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        await writer.drain()
        answer = await reader.read()
        writer.close()
        return answer

    async with asyncio.timeout(90), listening("127.0.0.1", 0, answers) as port:
        for request, status in (
            (b"GET /livez?x=1 HTTP/1.1\r\n\r\n", b"200"),
            (b"GET /etc/passwd HTTP/1.1\r\n\r\n", b"404"),
            (b"POST /livez HTTP/1.1\r\n\r\n", b"405"),
            (b"\xff\xfe\r\n\r\n", b"400"),
            (b"GET / SPDY/3\r\n\r\n", b"400"),
            (b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000, b"400"),
        ):
            assert (await ask(port, request)).startswith(b"HTTP/1.1 " + status), request[:40]
        _, half = await asyncio.open_connection("127.0.0.1", port)  # asks nothing, for as long as it may
        assert b"fine" in await ask(port, b"GET /livez HTTP/1.1\r\n\r\n")
        half.close()
