"""A real pod of two crashes by signal, met with the cores on its node, or with none and the reason."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collector.condition import Condition, why_cut
from collector.restarts import crashes_in, why_none
from errors import ToolFailed
from incidents.collected import Completeness
from incidents.models import ObjectRef
from settings import KubernetesSettings
from tests.collector.conftest import Node
from tests.snapshot_cases import loaded
from tests.standins import crashing
from tests.standins.kube_api import KubeApi
from tools.kubernetes.client import Cluster

POD = loaded("native_crash").all("Pod")[0]
NAMESPACE, NAME, UID = (POD["metadata"][field] for field in ("namespace", "name", "uid"))
CRASHED = POD["status"]["containerStatuses"][0]
CONTAINER, RUNNING_ID = CRASHED["name"], CRASHED["containerID"].rpartition("/")[2]
LAST = datetime(2026, 11, 21, 0, 20, 41, tzinfo=UTC)


@pytest.fixture
async def api() -> AsyncIterator[KubeApi]:
    async with KubeApi() as api:
        for kind in ("Pod", "ReplicaSet", "Deployment"):
            for item in loaded("native_crash").all(kind):
                api.put(item)
        yield api


@pytest.fixture
async def crashed(node: Node, api: KubeApi, tmp_path: Path) -> AsyncIterator[Node]:
    async with await Cluster.connect(
        KubernetesSettings(kubeconfig=api.kubeconfig(tmp_path), request_timeout=60)
    ) as cluster:
        node.cluster, node.name = cluster, POD["spec"]["nodeName"]
        node.now = LAST + timedelta(seconds=5)
        node.settings = node.settings.model_copy(update={"proc": proc(tmp_path / "proc")})
        node.restart()
        yield node


def proc(folder: Path, pattern: str = "/cores/core.%e.%p.%t", limit: str = "unlimited") -> Path:
    """A /proc as the kernel shows it, with one process of the container that runs now."""
    (folder / "sys/kernel").mkdir(parents=True, exist_ok=True)
    (folder / "sys/kernel/core_pattern").write_text(f"{pattern}\n")
    (folder / "77").mkdir(exist_ok=True)
    (folder / "77/cgroup").write_text(f"0::/kubepods/pod{UID}/{RUNNING_ID}\n")
    (folder / "77/limits").write_text(f"Max core file size        {limit:<21}unlimited            bytes     \n")
    return folder


def put_core(node: Node, written: datetime, run: int = 0) -> None:
    folder = node.root / NAMESPACE / f"{NAME}_{UID}" / CONTAINER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"core.{run}"
    shutil.copy(crashing.core("null", run), path)
    os.utime(path, (written.timestamp(), written.timestamp()))


@pytest.mark.parametrize(("labels", "said"), [({}, "webhook.max_pods"), ({"paramedic.io/cores": "injected"}, "names")])
def test_a_pod_that_was_given_no_folder_is_told_from_one_that_asked_for_none(
    tmp_path: Path, labels: dict[str, str], said: str
) -> None:
    change = {"labels": POD["metadata"]["labels"] | labels, "annotations": {"paramedic.io/inject": "true"}}
    (crash, *_) = crashes_in([{**POD, "metadata": POD["metadata"] | change}], LAST + timedelta(seconds=5))
    assert said in why_none(crash, proc(tmp_path, "/elsewhere/core"))


async def test_a_crash_without_a_core_is_recorded_once_with_the_reason(crashed: Node) -> None:
    assert await crashed.agent.look_at_restarts() == 0
    crashed.later(25)
    assert await crashed.agent.look_at_restarts() == 2
    crashed.restart()
    crashed.later(60)
    assert await crashed.agent.look_at_restarts() == 0
    records = [record for record, path in crashed.taken if path is None]
    assert [record.dumped_at for record in records] == [LAST, LAST - timedelta(seconds=14)]
    for record in records:
        assert record.completeness is Completeness.MISSING and record.signal == 11 and record.sha256 is None
        assert record.reason is not None and "'/cores'" in record.reason and "mounted" in record.reason
        assert record.origin is not None
        assert (record.origin.pod_uid, record.origin.container, record.origin.restart_count) == (UID, CONTAINER, 2)
        assert record.origin.image_digest == CRASHED["imageID"]
        deployment = NAME.rsplit("-", 2)[0]
        assert record.origin.owner == ObjectRef(kind="Deployment", namespace=NAMESPACE, name=deployment)
        assert record.origin.last_state == "Error, exit code 139"


async def test_a_crash_is_met_with_its_core(crashed: Node) -> None:
    crashing.require_tools()
    put_core(crashed, LAST)
    await crashed.looks(2, apart=1)
    assert await crashed.agent.look_at_restarts() == 0
    crashed.later(30)
    assert await crashed.agent.look_at_restarts() == 1
    core, missing = (record for record, _ in crashed.taken)
    assert core.completeness is Completeness.COMPLETE and core.origin is not None
    assert core.origin.image_digest == CRASHED["imageID"] and core.origin.restart_count == 2
    assert missing.dumped_at == LAST - timedelta(seconds=14)


async def test_a_cut_core_that_settles_after_the_grace_time_is_one_crash(crashed: Node) -> None:
    crashing.require_tools()
    put_core(crashed, LAST)
    path = next(crashed.root.glob("*/*/*/core.*"))
    os.truncate(path, path.stat().st_size - 5000)
    os.utime(path, (LAST.timestamp(), LAST.timestamp()))
    for _ in range(40):  # looks two seconds apart, with the default settings
        await crashed.looks(1)
        await crashed.agent.look_at_restarts()
    found = [(record.completeness, record.dumped_at) for record, _ in crashed.taken]
    earlier = LAST - timedelta(seconds=14)
    assert found == [(Completeness.TRUNCATED, LAST), (Completeness.MISSING, earlier)]


@pytest.mark.parametrize(
    ("pattern", "limit", "said"),
    [
        ("", "unlimited", "is empty"),
        ("|/usr/share/apport/apport %p", "unlimited", "'/usr/share/apport/apport'"),
        ("@/run/x.socket", "unlimited", "socket"),
        ("core", "unlimited", "working directory"),
        ("/cores/%h/core", "unlimited", "depends on the process"),
    ],
)
async def test_the_reason_names_what_lost_it(
    crashed: Node, tmp_path: Path, pattern: str, limit: str, said: str
) -> None:
    proc(tmp_path / "proc", pattern, limit)
    await crashed.agent.look_at_restarts()
    crashed.later(25)
    await crashed.agent.look_at_restarts()
    record = crashed.taken[0][0]
    assert record.reason is not None and said in record.reason


async def test_a_limit_of_zero_is_the_reason_where_the_folder_is_mounted(
    crashed: Node, api: KubeApi, tmp_path: Path
) -> None:
    mounted = {**POD, "spec": {**POD["spec"], "containers": [dict(item) for item in POD["spec"]["containers"]]}}
    for container in mounted["spec"]["containers"]:
        container["volumeMounts"] = [{"name": "cores", "mountPath": "/cores"}]
    api.put(mounted)
    proc(tmp_path / "proc", limit="0")
    await crashed.agent.look_at_restarts()
    crashed.later(25)
    await crashed.agent.look_at_restarts()
    record = crashed.taken[0][0]
    assert record.reason is not None and "RLIMIT_CORE is 0" in record.reason


async def test_a_core_that_ends_at_the_limit_of_its_pods_processes_was_cut_by_it(crashed: Node, tmp_path: Path) -> None:
    crashing.require_tools()
    put_core(crashed, LAST)
    path = next(crashed.root.glob("*/*/*/core.*"))
    os.truncate(path, size := path.stat().st_size - 5000)
    os.utime(path, (LAST.timestamp(), LAST.timestamp()))
    proc(tmp_path / "proc", limit=str(size + 1000))
    (record,) = await crashed.looks(20)
    assert record.completeness is Completeness.CUT_BY_LIMIT
    assert record.reason is not None and f"at most {size + 1000} bytes (RLIMIT_CORE)" in record.reason


def test_holes_do_not_count_against_the_limit(tmp_path: Path) -> None:
    """Sizes as the kernel left them of a shell with `ulimit -c 201`."""
    path = tmp_path / "core"
    path.write_bytes(b"x" * 416 * 512)
    os.truncate(path, 282_624)
    found = why_cut(path, Condition(None, 286_720), {205_824})
    assert found.completeness is Completeness.CUT_BY_LIMIT
    assert why_cut(path, Condition(None, 286_720), {282_624 + 100}).completeness is Completeness.TRUNCATED


async def test_a_process_that_is_writing_its_core_is_waited_for(crashed: Node, tmp_path: Path) -> None:
    crashed.settings = crashed.settings.model_copy(update={"node_processes": True})
    crashed.restart()
    status = tmp_path / "proc/77/status"
    status.write_text("Name:\tshop\nCoreDumping:\t1\n")
    await crashed.agent.look_at_restarts()
    crashed.later(25)
    assert await crashed.agent.look_at_restarts() == 0
    status.write_text("Name:\tshop\nCoreDumping:\t0\n")
    assert await crashed.agent.look_at_restarts() == 2


async def test_a_cluster_that_is_away_costs_no_core(crashed: Node, api: KubeApi) -> None:
    crashing.require_tools()
    api.down = True
    put_core(crashed, LAST)
    (record,) = await crashed.looks()
    assert record.origin is not None and record.origin.pod == NAME and record.origin.image is None
    with pytest.raises(ToolFailed):
        await crashed.agent.look_at_restarts()


async def test_another_pod_of_the_same_name_is_not_the_one(crashed: Node, api: KubeApi) -> None:
    crashing.require_tools()
    api.recreate("Pod", NAMESPACE, NAME)
    put_core(crashed, LAST)
    (record,) = await crashed.looks()
    assert record.origin is not None and (record.origin.pod_uid, record.origin.image) == (UID, None)


@pytest.mark.parametrize("case", ["liveness_wrong_port", "oom_killed", "application_error", "evicted", "healthy"])
def test_what_is_no_crash_by_signal_is_none(case: str) -> None:
    snapshot = loaded(case)
    assert snapshot.observed_at is not None
    assert list(crashes_in(snapshot.all("Pod"), snapshot.observed_at)) == []
