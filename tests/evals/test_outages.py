"""A component that stands still goes on in any case, and what kubelets measure is given back as Prometheus would."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from errors import ToolMissing
from evals.metering import Meter
from evals.outages import Outage, process_of

MINE = Path("/nowhere/of-this-test.kubeconfig")


@pytest.fixture
def proxy() -> Iterator[int]:
    command = ["kube-proxy", "-c", "import time; time.sleep(60)", f"--kubeconfig={MINE}"]
    process = subprocess.Popen(command, executable=sys.executable)
    for _ in range(6000):  # the kernel tells of the exec a moment before it shows the arguments
        if Path(f"/proc/{process.pid}/cmdline").read_bytes():
            break
        time.sleep(0.01)
    yield process.pid
    process.kill()
    process.wait()


async def until(pid: int, stopped: bool) -> bool:
    for _ in range(1200):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if (state == "T") == stopped:
            return True
        await asyncio.sleep(0.05)
    return False


async def test_a_component_stands_still_until_the_end(proxy: int) -> None:
    outage = Outage("kube-proxy", MINE)
    await outage.begin()
    assert await until(proxy, stopped=True)
    await outage.end()
    await outage.end()
    assert await until(proxy, stopped=False)


async def test_it_goes_on_by_itself_when_nobody_ends_it(proxy: int) -> None:
    outage = Outage("kube-proxy", MINE, longest=0.3)
    await outage.begin()
    assert await until(proxy, stopped=True)
    assert await until(proxy, stopped=False)
    await outage.end()


def test_only_the_process_of_the_same_cluster_is_meant(proxy: int) -> None:
    assert process_of("kube-proxy", MINE) == proxy
    with pytest.raises(ToolMissing):
        process_of("kube-proxy", MINE.with_name("another.kubeconfig"))


def test_samples_are_kept_by_container_and_given_back_in_steps() -> None:
    meter = Meter()
    meter.watch("shop")
    for namespace in ("shop", "other"):
        statuses = [{"name": "main", "containerID": f"containerd://{namespace}1"}]
        where = {"namespace": namespace, "name": "web-0"}
        meter.learn([{"metadata": where, "status": {"containerStatuses": statuses}}])
    for at, count in ((1000, 5), (1010, 60)):
        lines = [
            f'container_cpu_cfs_periods_total{{container="",id="/kubepods/pod9/{known}"}} {count} {at}000'
            for known in ("shop1", "other1", "unknown1")
        ]
        meter.read("\n".join(["# TYPE container_cpu_cfs_periods_total counter", *lines]), now=0)
    query = 'max by (pod) (container_cpu_cfs_periods_total{namespace="shop",container!=""})'
    found = meter.answer(query, 990, 1020, 10)["data"]
    assert isinstance(found, dict)
    (series,) = found["result"]
    assert series["metric"] == {"namespace": "shop", "pod": "web-0", "container": "main"}
    assert series["values"] == [[1000, "5.0"], [1010, "60.0"], [1020, "60.0"]]
    assert meter.answer(query.replace("shop", "other"), 990, 1020, 10)["data"] == {"resultType": "matrix", "result": []}
