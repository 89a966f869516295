"""The team's own program: a real one, run for real cores, that fails, hangs, floods, lies and outlives its agent."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from collector.handler import Handler
from collector.measures import Measures
from collector.outbox import State
from errors import InvalidInput
from incidents.collected import Completeness, Origin
from incidents.models import ObjectRef
from settings import HandlerSettings
from tests.standins import crashing
from tests.standins.shipping import Depot

pytestmark = pytest.mark.gdb

_WRITES = """
import hashlib, os, sys
path = os.environ["COREDUMP_FILE"]
digest = hashlib.md5(open(path, "rb").read()).hexdigest() if path else "-"
with open(sys.argv[1], "a") as file:
    print(digest, *sys.argv[2:], file=file)
    for name in sorted(os.environ):
        print(f"{name}={os.environ[name]!r}", file=file)
print("done; token=hush-hush-hush-hush", "x" * 100_000, "the end")
"""


@pytest.fixture(autouse=True)
def _tools() -> None:
    crashing.require_tools()


def python(code: str, *arguments: object, **more: object) -> HandlerSettings:
    command = [sys.executable, "-I", "-S", "-c", code, *(str(one) for one in arguments)]
    return HandlerSettings.model_validate({"command": command, **more})


def outcomes(depot: Depot) -> dict[str, str | None]:
    return dict(depot.outbox._rows("SELECT item, outcome FROM handled", ()))


async def test_it_gets_what_is_known_and_nothing_of_ours_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAMEDIC_COLLECTOR__SERVICE_KEY", "canary-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-key")
    depot = Depot(tmp_path)
    owner = ObjectRef(kind="Deployment", namespace="prod", name="api")
    hostile = "api-0; touch /tmp/x $(reboot)\n"
    origin = Origin(namespace="prod", pod=hostile, pod_uid="u1", container="app", host_ip="10.0.0.7", owner=owner)
    path = depot.add("core.$(id);`id`", origin=origin, executable="/srv/shop --x\0y")
    content = path.read_bytes()
    settings = python(_WRITES, tmp_path / "told", "$HOME", "a b")
    with capture_logs() as logs:
        await depot.ship(handler=settings)
    assert not path.exists() and depot.left_over() == []
    first, *lines = (tmp_path / "told").read_text().splitlines()
    assert first == f"{hashlib.md5(content).hexdigest()} $HOME a b"
    told = {name: value.strip("'") for name, value in (line.split("=", 1) for line in lines)}
    assert told["COREDUMP_MD5"] == hashlib.md5(content).hexdigest() and told["COREDUMP_SIZE"] == str(len(content))
    assert told["COREDUMP_FILENAME"] == "core.$(id);`id`" and told["COREDUMP_EXECUTABLE"] == "/srv/shop --xy"
    full = next(one.key for one in depot.told[0].stored if one.kind == "full")
    assert told["COREDUMP_URL"] == f"{tmp_path}/store/{full}" and "?" not in told["COREDUMP_URL"]
    assert told["POD_NAME"].strip('"') == hostile.replace("\n", "\\n")
    assert (told["POD_NAMESPACE"], told["POD_UID"], told["POD_CONTAINER"]) == ("prod", "u1", "app")
    assert told["POD_NODE_IP"] == told["HOST_IP"] == "10.0.0.7" and told["PARAMEDIC_OWNER"] == "Deployment/api"
    documented = {"COREDUMP_FILE", "POD_IMAGE", "PARAMEDIC_CORE_ID", "PARAMEDIC_SIGNATURE"}
    assert documented <= set(told) and "canary-key" not in str(told)
    assert {name for name in told if name.startswith(("AWS_", "PARAMEDIC_COLLECTOR"))} == set()
    [ended] = [entry for entry in logs if entry["event"] == "the handler ended"]
    assert ended["outcome"] == "exit 0" and ended["output"].endswith("the end") and len(ended["output"]) <= 2000
    assert "hush" not in str(logs)
    assert outcomes(depot) == {"core_1": "exit 0"}
    await depot.ship(handler=settings)
    assert len((tmp_path / "told").read_text().splitlines()) == len(lines) + 1


async def test_what_hangs_is_killed_with_its_children_and_holds_nothing_up(tmp_path: Path) -> None:
    depot = Depot(tmp_path, parallel=1)
    hangs = 'sleep 600 & echo $$ $! >> "$0"; wait'
    path = depot.add("core0", "core_0")
    for number in (1, 2):
        depot.outbox.add(depot.record(None, f"core_{number}", completeness=Completeness.MISSING), None)
    command = ["/bin/sh", "-c", hangs, str(tmp_path / "pids")]
    settings = HandlerSettings.model_validate({"command": command, "timeout": 1.5, "parallel": 1})
    told_before_any_ended: list[int] = []

    def done() -> bool:
        if len(depot.told) == 3 and not told_before_any_ended:
            told_before_any_ended.append(sum(outcome is not None for outcome in outcomes(depot).values()))
        return depot.states() == {State.REMOVED: 3}

    await depot.ship(done, handler=settings)
    assert told_before_any_ended[0] < 3, "events wait for the program"
    assert set(outcomes(depot).values()) == {"ended after 1.5 s"} and not path.exists()
    pids = [int(pid) for line in (tmp_path / "pids").read_text().splitlines() for pid in line.split()]
    assert len(pids) == 6
    for pid in pids:
        for _ in range(1200):
            stat = Path(f"/proc/{pid}/stat")
            if not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
                break
            await asyncio.sleep(0.05)
        else:
            pytest.fail("a process of the handler still runs")


async def test_it_fails_or_leaves_something_behind_and_the_core_goes_its_way(tmp_path: Path) -> None:
    depot = Depot(tmp_path)
    script = """
import os, subprocess, sys
if os.environ["PARAMEDIC_CORE_ID"] == "core_0":
    subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])  # holds the pipe
    sys.exit(3)
os.kill(os.getpid(), 9)
"""
    depot.add("core0", "core_0")
    missing = depot.record(None, "core_1", completeness=Completeness.MISSING)
    depot.outbox.add(missing, None)
    depot.add("text", "core_2", content=b"no core", completeness=Completeness.NOT_A_CORE)
    await depot.ship(handler=python(script))
    assert outcomes(depot) == {"core_0": "exit 3", "core_1": "signal 9"}
    assert len(depot.told) == 3


async def test_a_kill_while_it_runs_does_not_run_it_again(tmp_path: Path) -> None:
    depot = Depot(tmp_path)
    path = depot.add()
    waits = "import sys, time; print('x', file=open(sys.argv[1], 'a'), flush=True); time.sleep(600)"
    settings = python(waits, tmp_path / "runs")
    await depot.ship((tmp_path / "runs").exists, handler=settings)  # the agent is stopped, and it with it
    assert path.exists() and outcomes(depot) == {"core_1": "interrupted"}
    depot.outbox._db.execute("UPDATE handled SET outcome=NULL")  # as SIGKILL leaves it
    await depot.ship(handler=settings)
    assert (tmp_path / "runs").read_text() == "x\n" and not path.exists()


async def test_its_filters_choose(tmp_path: Path) -> None:
    depot = Depot(tmp_path)
    writes = "import os, sys; print(os.environ['PARAMEDIC_CORE_ID'], file=open(sys.argv[1], 'a'))"
    team = Origin(namespace="team-a", pod="shop-1", owner=ObjectRef(kind="Deployment", namespace="team-a", name="shop"))
    for id, origin, executable in (
        ("core_0", team, "/usr/bin/Milvus"),
        ("core_1", team, "/usr/bin/other"),
        ("core_2", team.model_copy(update={"namespace": "prod"}), "/usr/bin/milvus"),
        ("core_3", team.model_copy(update={"owner": None}), "/usr/bin/milvus"),
        ("core_4", None, "/usr/bin/milvus"),
    ):
        depot.outbox.add(depot.record(None, id, origin=origin, executable=executable), None)
    chosen = {"namespaces": ["team-*"], "owners": ["Deployment/s*"], "keyword": "milvus"}
    await depot.ship(handler=python(writes, tmp_path / "runs", **chosen))
    assert (tmp_path / "runs").read_text().split() == ["core_0"]


async def test_what_its_container_puts_in_the_cores_place_is_not_given_to_it(tmp_path: Path) -> None:
    depot = Depot(tmp_path)
    path = depot.add()
    secret = tmp_path / "secret"
    secret.write_text("canary")

    async def swap(record: object) -> None:
        depot.told.append(record)  # type: ignore[arg-type]
        path.unlink()
        os.symlink(secret, path)

    depot._announce = swap  # type: ignore[method-assign]
    writes = "import os, sys; open(sys.argv[1], 'w').write(os.environ['COREDUMP_FILE'] or 'none')"
    await depot.ship(handler=python(writes, tmp_path / "runs"))
    assert (tmp_path / "runs").read_text() == "none"


async def test_without_a_hard_link_it_gets_the_open_file_and_not_its_path(tmp_path: Path) -> None:
    depot = Depot(tmp_path)
    path = depot.add()
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    (tmp_path / "cores" / ".paramedic-handler").mkdir(mode=0o755)  # not ours alone: no link is made there
    await depot.ship(handler=python(_WRITES, tmp_path / "told"))
    first, *lines = (tmp_path / "told").read_text().split("\n")
    assert first == md5
    (name,) = [line for line in lines if line.startswith("COREDUMP_FILE=")]
    assert name.startswith(f"COREDUMP_FILE='/proc/{os.getpid()}/fd/")


def test_a_program_that_is_not_there_is_said_at_the_start(tmp_path: Path) -> None:
    depot = Depot(tmp_path)
    with pytest.raises(InvalidInput, match=r"collector\.handler\.command: 'no-such-program'"):
        Handler(HandlerSettings(command=["no-such-program"]), depot.outbox, "s3://b", Measures())
