"""Root causes from what real exporters measure of real pods: a leak until the kernel kills, a burnt processor, a bad
release, a slow service, one that fails, a node that something beside all pods uses up; and none while nothing is
wrong."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.harness import ROOT, until
from tests.e2e.kube import Kube, terminated
from tests.e2e.metered import Shop, image
from tests.e2e.monitoring import SCRAPE, ask, monitoring
from tests.e2e.service import PARAMEDIC, Answer, Service

QUIET, BROKEN, BEFORE, BURNT = 95, 75, 20, 40
"""Seconds: without a fault, with one, of the former in what is asked about, and with the node used up."""
BURNERS = 24
"""For each processor, so that little is left for the pods."""
HOUSEKEEPING = 15
"""Seconds at most between two looks of a kubelet's cAdvisor at a container, however often it is scraped."""


@dataclass
class Measured:
    """Each shop with the service that was broken in it."""

    service: Service
    leak: tuple[Shop, str]
    burn: tuple[Shop, str]
    release: tuple[Shop, str]
    slow: tuple[Shop, str]
    failing: tuple[Shop, str]
    calm: Shop
    node: dict[str, Any]
    killed_at: datetime
    quiet_until: datetime
    until: datetime
    """Each was left alone with its fault up to then."""


@pytest.fixture(scope="module")
def measured(kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    """Shops, quiet for a while and then each but one with a fault of its own, under one Prometheus."""
    folder, run_id = tmp_path_factory.mktemp("metrics"), secrets.token_hex(4)
    built = image(folder)
    with ExitStack() as stack:
        shops: list[Shop] = []
        for _ in range(6):
            shops.append(Shop.open(kube, built, run_id))
            stack.callback(shops[-1].close)
        url = stack.enter_context(monitoring(folder, kube, [shop.namespace for shop in shops]))
        config = {"kubernetes": {"kubeconfig": str(kube.kubeconfig)}, "prometheus": {"url": url}}
        service = Service(folder / "service", config)
        stack.callback(service.close)
        starting = stack.enter_context(ThreadPoolExecutor(1)).submit(service.start)
        for shop in shops:
            shop.wait_ready()
        names = "|".join(name for shop in shops for name in shop.services)
        rated = f'rate(http_requests_total{{container=~"{names}",code="200"}}[{4 * SCRAPE}s]) > 0'
        until(lambda: len(ask(url, rated)) == 18, 90, "all services measured", show=lambda: ask(url, "up"))
        time.sleep(QUIET)
        quiet_until = datetime.now(UTC)
        places = (1, 1, 2, 1, 2)
        leak, burn, release, slow, failing = (
            (shop, shop.services[place]) for shop, place in zip(shops, places, strict=False)
        )
        slow[0].break_it(slow[1], "latency")
        failing[0].break_it(failing[1], "errors")
        leak[0].break_it(leak[1], "memory")
        burn[0].break_it(burn[1], "cpu")
        release[0].roll_out(release[1], "latency")
        killed = kube.wait_container(
            leak[0].namespace, leak[1], lambda item: item["restartCount"] and terminated(item), "was killed"
        )
        assert terminated(killed)["reason"] == "OOMKilled"
        since = (datetime.now(UTC) - max(shop.began for shop in shops[:5])).total_seconds()
        time.sleep(max(0.0, BROKEN - since))
        starting.result()
        killed_at = datetime.fromisoformat(terminated(killed)["finishedAt"])
        node = kube.call("GET", "api/v1/nodes")["items"][0]
        until_now = quiet_until, datetime.now(UTC)
        yield Measured(service, leak, burn, release, slow, failing, shops[5], node, killed_at, *until_now)


@pytest.fixture(scope="module")
def used_up(measured: Measured) -> Iterator[tuple[datetime, datetime]]:
    """From when to when processes that belong to no pod took the node's processors."""
    addresses = {item["address"] for item in measured.node["status"]["addresses"]}
    if not addresses & _own_addresses():
        pytest.skip("the node is not this machine: nothing can be burnt beside its pods from here")
    with ExitStack() as stack:
        began = datetime.now(UTC)
        for _ in range(BURNERS * (os.cpu_count() or 1)):
            # a session each: else Linux gives all of them together the share of one (sched_autogroup)
            process = subprocess.Popen(["sh", "-c", "while :; do :; done"], start_new_session=True)
            stack.callback(process.wait, 60)
            stack.callback(process.kill)
        time.sleep(BURNT)
        ended = datetime.now(UTC)
    yield began, ended


def test_a_leak_until_the_kernel_kills(measured: Measured) -> None:
    """By the command, as a person asks."""
    shop, name = measured.leak
    since = f"{(datetime.now(UTC) - shop.began).seconds + BEFORE}s"
    found = _command(measured, shop, "--since", since)
    memory = {"container_memory_working_set_bytes", "process_resident_memory_bytes"}
    (last,) = shop.kube.statuses(shop.namespace, name)
    kills = [measured.killed_at, datetime.fromisoformat(terminated(last)["finishedAt"])]
    # mostly the leak's beginning; a question just after a kill may be told the kill
    _assert_found(found, shop, name, memory, 2 * SCRAPE, *kills)
    texts = [event["moment"]["text"] for event in found["events"]]
    assert any(f"Container {name} of pod" in text and "OOMKilled" in text for text in texts), texts
    # the kernel's kill is told by the cluster's record and by kube-state-metrics
    assert any(text.endswith("restarted, last ended with OOMKilled") for text in texts), texts


def test_a_burnt_processor(measured: Measured) -> None:
    shop, name = measured.burn
    found = _broken(measured, shop)
    _assert_found(found, shop, name, {"container_cpu_usage_seconds_total"}, 2 * HOUSEKEEPING)


def test_a_bad_release(measured: Measured) -> None:
    shop, name = measured.release
    found = _broken(measured, shop)
    _assert_found(found, shop, name, {"http_request_duration_seconds:mean"}, 2 * SCRAPE)
    texts = [event["moment"]["text"] for event in found["events"]]
    assert any(f"Revision 2 of Deployment {name} was rolled out" in text for text in texts), texts
    assert f"Deployment {name} was changed" in texts  # by kube-state-metrics' generation


def test_a_slow_service(measured: Measured) -> None:
    shop, name = measured.slow
    _assert_found(_broken(measured, shop), shop, name, {"http_request_duration_seconds:mean"}, 2 * SCRAPE)


def test_a_failing_service(measured: Measured) -> None:
    shop, name = measured.failing
    _assert_found(_broken(measured, shop), shop, name, {"http_requests_total:errors"}, 2 * SCRAPE)


def test_while_nothing_is_wrong_there_is_no_root_cause(measured: Measured) -> None:
    """Nothing is wrong with any shop; but a machine whose host takes its processors away does slow them all, and then
    it is the node that is told."""
    for shop, _ in (measured.leak, measured.burn, measured.release, measured.slow, measured.failing):
        found = _api(measured, shop, measured.quiet_until - timedelta(seconds=45), measured.quiet_until)
        if found["status"] == "found" and found["workloads"][0]["object"]["kind"] == "Node":
            told = {change["name"] for change in found["workloads"][0]["metrics"]}
            assert told & {"node_cpu_stolen", "node_pressure_cpu_waiting_seconds_total"}, found["summary"]
        else:
            assert (found["status"], found["workloads"]) == ("no_root_cause", []), found["summary"]


def test_a_node_that_is_used_up(measured: Measured, used_up: tuple[datetime, datetime]) -> None:
    """By processes of no pod: what is slow is so because of the node."""
    listed = measured.service.ask("GET", f"/api/v1/rca/metrics?namespace={measured.calm.namespace}")["metrics"]
    families = ("cpu_busy", "memory_MemAvailable_bytes", "disk_io_time_seconds_total", "filesystem_avail_share")
    assert {f"node_{name}" for name in (*families, "network_receive_bytes_total")} <= {one["name"] for one in listed}
    began, ended = used_up
    found = _api(measured, measured.calm, began - timedelta(seconds=BEFORE), ended)
    assert found["status"] == "found", found["summary"]
    first = found["workloads"][0]
    assert (first["object"]["kind"], first["object"]["name"]) == ("Node", measured.node["metadata"]["name"]), found[
        "summary"
    ]
    told = {change["name"] for change in first["metrics"]}
    assert told & {"node_cpu_busy", "node_pressure_cpu_waiting_seconds_total", "node_procs_running"}, told
    late = (datetime.fromisoformat(found["onset"]) - began).total_seconds()
    assert abs(late) <= 2 * SCRAPE + 1, f"the onset is {late:.1f} s from the fault: {found['summary']}"


def _broken(measured: Measured, shop: Shop) -> Answer:
    return _api(measured, shop, shop.began - timedelta(seconds=BEFORE), measured.until)


def _own_addresses() -> set[str]:
    shown = subprocess.run(["ip", "-json", "address"], capture_output=True, text=True, check=True, timeout=60).stdout
    return {address["local"] for link in json.loads(shown) for address in link.get("addr_info", [])}


def _assert_found(found: Answer, shop: Shop, name: str, metrics: set[str], within: float, *or_at: datetime) -> None:
    assert found["status"] == "found", found["summary"]
    first = found["workloads"][0]
    assert (first["object"]["kind"], first["entity"]) == ("Deployment", f"{shop.namespace}/{name}"), found["summary"]
    assert metrics <= {change["name"] for change in first["metrics"]}, first["metrics"]
    onset = datetime.fromisoformat(found["onset"])
    late = min(((onset - each).total_seconds() for each in (shop.began, *or_at)), key=abs)
    assert abs(late) <= within + 1, f"the onset is {late:.1f} s from the fault: {found['summary']}"


def _api(measured: Measured, shop: Shop, start: datetime, end: datetime) -> Answer:
    asked = {"start_time": start.isoformat(), "end_time": end.isoformat(), "namespace": shop.namespace, "metrics": []}
    found: Answer = measured.service.ask("POST", "/api/v1/rca", asked)["report"]
    return found


def _command(measured: Measured, shop: Shop, *more: str) -> Answer:
    config = measured.service.folder / "paramedic.toml"
    command = [str(PARAMEDIC), "rca", "-n", shop.namespace, "--json", *more]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PARAMEDIC_")}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**inherited, "PARAMEDIC_CONFIG": str(config)},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    found: Answer = json.loads(done.stdout)
    return found
